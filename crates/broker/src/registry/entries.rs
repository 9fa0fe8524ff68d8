//! The topics and channels that are known, with or without producers.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Bound, RangeInclusive},
};

use super::{
    Registration,
    names::{NameId, Names, Use},
};
use crate::Time;

const EPHEMERAL_SUFFIX: &str = "#ephemeral";

/// A topic, or a channel of it. A topic comes before its channels.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) topic: NameId,
    pub(super) channel: Option<NameId>,
}

impl Key {
    pub(super) const FIRST: Self = Self { topic: NameId::MIN, channel: None };

    pub(super) fn of_topic(topic: NameId) -> Self {
        Self { topic, channel: None }
    }

    /// The key after the last channel of a topic.
    pub(super) fn end_of(topic: NameId) -> Self {
        Self { topic, channel: Some(NameId::MAX) }
    }

    /// The range of the channels of a topic.
    pub(super) fn channels_of(topic: NameId) -> RangeInclusive<Self> {
        Self { topic, channel: Some(NameId::MIN) }..=Self::end_of(topic)
    }
}

/// The second in which an entry lost its last producer.
type Second = u32;

/// The producers of an entry.
#[derive(Copy, Clone, Debug)]
enum Holders {
    Some(u32),
    NoneSince(Second),
}

/// The topics and channels.
///
/// # Invariants
/// 1. A channel is an entry only while its topic is one.
/// 2. An entry is among the orphans exactly when it has no producers.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries {
    names: Names,
    by_key: BTreeMap<Key, Holders>,
    orphans: BTreeSet<(Second, Key)>,
    topic_count: usize,
}

impl Entries {
    /// The key of a topic or channel that is known.
    pub(super) fn find(&self, topic: &str, channel: Option<&str>) -> Option<Key> {
        let topic = self.names.find(topic)?;
        let channel = match channel {
            Some(channel) => Some(self.names.find(channel)?),
            None => None,
        };
        Some(Key { topic, channel }).filter(|key| self.by_key.contains_key(key))
    }

    /// Adds a topic without producers, unless it is known.
    pub(super) fn add_topic(&mut self, topic: &str, now: Time) -> Key {
        if let Some(key) = self.find(topic, None) {
            return key;
        }
        let key = Key::of_topic(self.names.add(topic, Use::Topic));
        self.topic_count += 1;
        self.insert(key, now);
        key
    }

    /// Adds a channel without producers to a topic that is known, unless it is known too.
    pub(super) fn add_channel(&mut self, topic: NameId, channel: &str, now: Time) -> Key {
        let known = self.names.find(channel);
        if let Some(channel) = known {
            let key = Key { topic, channel: Some(channel) };
            if self.by_key.contains_key(&key) {
                return key;
            }
        }
        let key = Key { topic, channel: Some(self.names.add(channel, Use::Channel)) };
        self.insert(key, now);
        key
    }

    fn insert(&mut self, key: Key, now: Time) {
        let since = second(now);
        self.by_key.insert(key, Holders::NoneSince(since));
        self.orphans.insert((since, key));
    }

    /// Adds a producer to an entry.
    pub(super) fn hold(&mut self, key: Key) {
        let Some(holders) = self.by_key.get_mut(&key) else { return };
        match *holders {
            Holders::Some(count) => *holders = Holders::Some(count + 1),
            Holders::NoneSince(since) => {
                *holders = Holders::Some(1);
                self.orphans.remove(&(since, key));
            }
        }
    }

    /// Takes a producer from an entry.
    pub(super) fn release(&mut self, key: Key, now: Time) {
        let Some(holders) = self.by_key.get_mut(&key) else { return };
        if let Holders::Some(count) = holders {
            *count -= 1;
            if *count == 0 {
                let since = second(now);
                *holders = Holders::NoneSince(since);
                self.orphans.insert((since, key));
            }
        }
    }

    /// Removes an entry. Its topic's channels have to be removed before a topic.
    pub(super) fn remove(&mut self, key: Key) {
        let Some(holders) = self.by_key.remove(&key) else { return };
        if let Holders::NoneSince(since) = holders {
            self.orphans.remove(&(since, key));
        }
        if let Some(channel) = key.channel {
            self.names.remove(channel, Use::Channel);
        } else {
            self.names.remove(key.topic, Use::Topic);
            self.topic_count -= 1;
        }
    }

    /// Returns whether an entry is known and has no producers.
    pub(super) fn is_orphan(&self, key: Key) -> bool {
        matches!(self.by_key.get(&key), Some(Holders::NoneSince(_)))
    }

    /// Removes the entries that have been without producers for longest until at most `max` are left. Returns the
    /// number of those removed.
    pub(super) fn trim_orphans(&mut self, max: usize) -> u64 {
        let mut removed = 0;
        while self.orphans.len() > max
            && let Some((_, oldest)) = self.orphans.first().copied()
        {
            // A topic goes after its channels, which have no producers either.
            let key = match oldest.channel {
                None => self.first_channel(oldest.topic).unwrap_or(oldest),
                Some(_) => oldest,
            };
            self.remove(key);
            removed += 1;
        }
        removed
    }

    /// A channel of a topic, if it has one.
    pub(super) fn first_channel(&self, topic: NameId) -> Option<Key> {
        self.by_key.range(Key::channels_of(topic)).next().map(|(key, _)| *key)
    }

    /// The channels of a topic from `from` on.
    pub(super) fn channels(
        &self,
        topic: NameId,
        from: Option<Key>,
    ) -> impl Iterator<Item = (Key, &str)> {
        let (first, last) = Key::channels_of(topic).into_inner();
        let range = from.unwrap_or(first).max(first)..=last;
        let channels = (!range.is_empty()).then(|| self.by_key.range(range));
        let named = |(key, _): (&Key, _)| Some((*key, self.names.text(key.channel?)));
        channels.into_iter().flatten().filter_map(named)
    }

    /// The topics from `from` on.
    pub(super) fn topics(&self, from: Option<Key>) -> impl Iterator<Item = (Key, &str)> {
        let mut from = from.map_or(Bound::Unbounded, Bound::Included);
        std::iter::from_fn(move || {
            let (key, _) = self.by_key.range((from, Bound::Unbounded)).next()?;
            // Steps over the channels of the topic, however many there are.
            from = Bound::Excluded(Key::end_of(key.topic));
            Some((Key::of_topic(key.topic), self.names.text(key.topic)))
        })
    }

    /// The names that channels have, each once, from `from` on.
    pub(super) fn channel_names(&self, from: Option<Key>) -> impl Iterator<Item = (Key, &str)> {
        let from = from.map_or(NameId::MIN, |key| key.topic);
        self.names.of_channels(from).map(|(id, text)| (Key::of_topic(id), text))
    }

    /// The topic's name, or the channel's.
    pub(super) fn name(&self, key: Key) -> &str {
        self.names.text(key.channel.unwrap_or(key.topic))
    }

    /// The topic's name, or those of the channel and its topic.
    pub(super) fn registration(&self, key: Key) -> Registration {
        let topic = self.names.text(key.topic).into();
        match key.channel {
            Some(channel) => Registration::Channel(topic, self.names.text(channel).into()),
            None => Registration::Topic(topic),
        }
    }

    /// Returns whether the topic, or the channel, goes with its last producer.
    pub(super) fn is_ephemeral(&self, key: Key) -> bool {
        self.name(key).ends_with(EPHEMERAL_SUFFIX)
    }

    pub(super) fn topic_count(&self) -> usize {
        self.topic_count
    }

    pub(super) fn channel_count(&self) -> usize {
        self.by_key.len() - self.topic_count
    }

    pub(super) fn orphan_count(&self) -> usize {
        self.orphans.len()
    }
}

/// Seconds are enough to order orphans by age; a finer time would take twice the memory.
fn second(now: Time) -> Second {
    Second::try_from(now.0 / 1_000_000_000).unwrap_or(Second::MAX)
}
