//! Interned names: each is stored once, however many topics and channels have it.

use std::{
    collections::{BTreeMap, btree_map},
    hash::BuildHasher,
    num::NonZeroU64,
    ops::RangeInclusive,
};

use foldhash::fast::RandomState;

/// A name while it is in use: the upper half is its hash, the lower half tells names of the same hash apart.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NameId(NonZeroU64);

impl NameId {
    pub(super) const MIN: Self = Self(NonZeroU64::MIN);
    pub(super) const MAX: Self = Self(NonZeroU64::MAX);

    fn new(hash: u32, number: u32) -> Self {
        let id = u64::from(hash) << 32 | u64::from(number);
        Self(NonZeroU64::new(id).unwrap_or(NonZeroU64::MIN))
    }

    fn with_hash(hash: u32) -> RangeInclusive<Self> {
        Self::new(hash, 1)..=Self::new(hash, u32::MAX)
    }

    fn number(self) -> u64 {
        self.0.get() & u64::from(u32::MAX)
    }
}

/// The kind of thing that a name is used for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Topic,
    Channel,
}

/// The names in use.
///
/// The ids are positions in a tree, so that memory is given back as names go, and no operation has to move all of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    by_id: BTreeMap<NameId, Name>,
    hasher: RandomState,
}

#[derive(Clone, Debug)]
struct Name {
    text: Box<str>,
    channels: u32,
    is_topic: bool,
}

impl Names {
    /// The id of a name that is in use.
    pub(super) fn find(&self, text: &str) -> Option<NameId> {
        let mut same_hash = self.by_id.range(NameId::with_hash(self.hash(text)));
        same_hash.find(|(_, name)| &*name.text == text).map(|(id, _)| *id)
    }

    /// Adds a use of a name.
    pub(super) fn add(&mut self, text: &str, usage: Use) -> NameId {
        let id = self.find(text).unwrap_or_else(|| self.unused_id(text));
        let name = self.by_id.entry(id).or_insert_with(|| Name {
            text: text.into(),
            channels: 0,
            is_topic: false,
        });
        match usage {
            Use::Topic => name.is_topic = true,
            Use::Channel => name.channels += 1,
        }
        id
    }

    /// Takes a use of a name back. The name is forgotten with its last use.
    pub(super) fn remove(&mut self, id: NameId, usage: Use) {
        let btree_map::Entry::Occupied(mut entry) = self.by_id.entry(id) else { return };
        let name = entry.get_mut();
        match usage {
            Use::Topic => name.is_topic = false,
            Use::Channel => name.channels -= 1,
        }
        if !name.is_topic && name.channels == 0 {
            entry.remove();
        }
    }

    /// The text of a name; empty when it is not in use.
    pub(super) fn text(&self, id: NameId) -> &str {
        self.by_id.get(&id).map_or("", |name| &name.text)
    }

    /// The names from `from` on that channels have, each once.
    pub(super) fn of_channels(&self, from: NameId) -> impl Iterator<Item = (NameId, &str)> {
        let names = self.by_id.range(from..);
        names.filter(|(_, name)| name.channels > 0).map(|(id, name)| (*id, &*name.text))
    }

    fn unused_id(&self, text: &str) -> NameId {
        let hash = self.hash(text);
        let mut number = 1;
        // The names of the same hash, in order: the first gap is free.
        for (id, _) in self.by_id.range(NameId::with_hash(hash)) {
            if id.number() != u64::from(number) {
                break;
            }
            number += 1;
        }
        NameId::new(hash, number)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the half of a hash is a hash")]
    fn hash(&self, text: &str) -> u32 {
        self.hasher.hash_one(text) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_stored_once_and_forgotten_with_its_last_use() {
        let mut names = Names::default();
        let id = names.add("a", Use::Topic);
        assert_eq!(names.add("a", Use::Channel), id);
        assert_eq!(names.add("a", Use::Channel), id);
        assert_eq!((names.text(id), names.by_id.len()), ("a", 1));
        names.remove(id, Use::Topic);
        names.remove(id, Use::Channel);
        assert_eq!(names.find("a"), Some(id));
        names.remove(id, Use::Channel);
        assert_eq!((names.find("a"), names.text(id), names.by_id.len()), (None, "", 0));
    }

    #[test]
    fn names_of_the_same_hash_are_told_apart() {
        let mut names = Names::default();
        let hash = names.hash("a");
        let collision = |number| NameId::new(hash, number);
        for (number, text) in [(1, "x"), (2, "y")] {
            let name = Name { text: text.into(), channels: 1, is_topic: false };
            names.by_id.insert(collision(number), name);
        }
        assert_eq!(names.find("a"), None);
        assert_eq!(names.add("a", Use::Topic), collision(3));
        names.remove(collision(1), Use::Channel);
        assert_eq!(names.find("a"), Some(collision(3)));
        assert_eq!(names.unused_id("a"), collision(1));
    }
}
