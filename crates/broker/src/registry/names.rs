//! Interned names: each is stored once, however many topics and channels have it.

use std::{
    collections::{BTreeMap, btree_map},
    hash::BuildHasher,
    num::NonZeroU32,
};

use foldhash::fast::RandomState;

/// A name while it is in use: its hash, or the next number that was free.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NameId(NonZeroU32);

impl NameId {
    pub(super) const MIN: Self = Self(NonZeroU32::MIN);
    pub(super) const MAX: Self = Self(NonZeroU32::MAX);

    fn after(self, distance: u32) -> Self {
        Self(self.0.saturating_add(distance))
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
/// They are short, because topics and channels consist of little else.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    by_id: BTreeMap<NameId, Name>,
    /// The longest distance of a name from its hash. It hardly ever exceeds 2.
    distance_max: u32,
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
        let hash = self.hash(text);
        let mut near = self.by_id.range(hash..=hash.after(self.distance_max));
        near.find(|(_, name)| &*name.text == text).map(|(id, _)| *id)
    }

    /// Adds a use of a name.
    pub(super) fn add(&mut self, text: &str, usage: Use) -> NameId {
        let id = self.find(text).unwrap_or_else(|| self.reserve(text));
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

    /// Finds an id for a name that is not in use.
    fn reserve(&mut self, text: &str) -> NameId {
        let hash = self.hash(text);
        let mut distance = 0;
        while self.by_id.contains_key(&hash.after(distance)) {
            distance += 1;
        }
        self.distance_max = self.distance_max.max(distance);
        hash.after(distance)
    }

    /// The hash of a name, within the lower half of the numbers: there are always free ones above.
    fn hash(&self, text: &str) -> NameId {
        let hash = (self.hasher.hash_one(text) >> 33) as u32;
        NameId::MIN.after(hash)
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
        for (distance, text) in [(0, "x"), (1, "y")] {
            let name = Name { text: text.into(), channels: 1, is_topic: false };
            names.by_id.insert(hash.after(distance), name);
        }
        assert_eq!(names.find("a"), None);
        assert_eq!(names.add("a", Use::Topic), hash.after(2));
        names.remove(hash, Use::Channel);
        assert_eq!(names.find("a"), Some(hash.after(2)));
        assert_eq!(names.reserve("a"), hash);
    }
}
