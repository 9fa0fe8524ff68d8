//! Queries of the registrations.

use std::sync::Arc;

use super::{Peer, Producer, ProducerId, Registration, Registry, entries::Key, names::NameId};
use crate::Time;

/// A part of a long answer, in no particular order. A change between two slices may or may not be in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice<T> {
    /// The items of this part.
    pub items: Vec<T>,
    /// Where the next part begins; `None` when this was the last.
    pub next: Option<Place>,
}

/// A place within a long answer. The default is the beginning.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct Place(Option<Key>);

/// A producer as it is seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The producer's id.
    pub id: ProducerId,
    /// Its description.
    pub peer: Arc<Peer>,
    /// Its last sign of life.
    pub last_update: Time,
    /// True while its last sign of life is recent.
    pub is_active: bool,
}

/// The size of the database.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// Topics, with or without producers.
    pub topics: usize,
    /// Channels, with or without producers.
    pub channels: usize,
    /// Topics and channels without producers.
    pub orphans: usize,
    /// Registrations of all producers for topics and channels.
    pub registrations: usize,
    /// Producers that are alive.
    pub producers_active: usize,
    /// Producers without a recent sign of life.
    pub producers_inactive: usize,
    /// Tombstones in force.
    pub tombstones: usize,
}

impl Registry {
    /// The names of all topics.
    pub fn topics(&self, from: Place, at_most: usize) -> Slice<Box<str>> {
        let topics = self.entries.topics(from.0);
        Slice::take(topics.map(|(key, text)| (key, text.into())), at_most)
    }

    /// The names of a topic's channels; none when the topic is not known.
    pub fn channels(&self, topic: &str, from: Place, at_most: usize) -> Slice<Box<str>> {
        let topic = self.entries.find(topic, None);
        let channels = topic.into_iter().flat_map(|key| self.entries.channels(key.topic, from.0));
        Slice::take(channels.map(|(key, text)| (key, text.into())), at_most)
    }

    /// The names of the channels of all topics, each once.
    pub fn all_channels(&self, from: Place, at_most: usize) -> Slice<Box<str>> {
        let names = self.entries.channel_names(from.0);
        Slice::take(names.map(|(key, text)| (key, text.into())), at_most)
    }

    /// The producers of a topic that are alive and not hidden by a tombstone, in the order of their ids; `None` when
    /// the topic is not known.
    pub fn lookup(&self, topic: &str, now: Time) -> Option<Vec<Arc<Peer>>> {
        let key = self.entries.find(topic, None)?;
        let visible = self.ids_of(key.topic).filter_map(|id| {
            let producer = self.producers.get(&id)?;
            let is_visible =
                self.is_active(producer, now) && !self.is_tombstoned(id, key.topic, now);
            is_visible.then(|| Arc::clone(&producer.peer))
        });
        Some(visible.collect())
    }

    /// The producers that a lookup of some topic shows, in the order of their ids; `None` when there are no topics.
    pub fn lookup_all(&self, now: Time) -> Option<Vec<Arc<Peer>>> {
        if self.entries.topic_count() == 0 {
            return None;
        }
        let visible = self.producers.iter().filter(|(id, producer)| {
            let mut topics = producer.topics(None);
            self.is_active(producer, now)
                && topics.any(|key| !self.is_tombstoned(**id, key.topic, now))
        });
        Some(visible.map(|(_, producer)| Arc::clone(&producer.peer)).collect())
    }

    /// All producers, in the order of their ids.
    pub fn producers(&self, now: Time) -> Vec<Seen> {
        let present = self.producers.iter().filter(|(_, producer)| !producer.is_leaving);
        let seen = present.map(|(id, producer)| Seen {
            id: *id,
            peer: Arc::clone(&producer.peer),
            last_update: producer.last_update,
            is_active: self.is_active(producer, now),
        });
        seen.collect()
    }

    /// The topics of a producer; true for those where a tombstone hides it.
    pub fn topics_of(
        &self,
        id: ProducerId,
        from: Place,
        at_most: usize,
        now: Time,
    ) -> Slice<(Box<str>, bool)> {
        let producer = self.present(id);
        let keys = producer.into_iter().flat_map(|producer| producer.topics(from.0));
        let topics = keys.map(|key| {
            (key, (self.entries.name(key).into(), self.is_tombstoned(id, key.topic, now)))
        });
        Slice::take(topics, at_most)
    }

    /// The topics and channels of a producer, each with the time at which a tombstone was set, in force or expired.
    pub fn registrations_of(
        &self,
        id: ProducerId,
        from: Place,
        at_most: usize,
    ) -> Slice<(Registration, Option<Time>)> {
        let producer = self.present(id);
        let keys = producer.into_iter().flat_map(|producer| producer.keys(from.0));
        let registrations = keys.map(|key| {
            let tombstone = match key.channel {
                None => self.tombstones.get(&(id, key.topic)).copied(),
                Some(_) => None,
            };
            (key, (self.entries.registration(key), tombstone))
        });
        Slice::take(registrations, at_most)
    }

    /// The size of the database. Costs a step for each producer and tombstone.
    pub fn counts(&self, now: Time) -> Counts {
        let present = self.producers.values().filter(|producer| !producer.is_leaving);
        let (active, inactive): (Vec<_>, Vec<_>) =
            present.partition(|producer| self.is_active(producer, now));
        Counts {
            topics: self.entries.topic_count(),
            channels: self.entries.channel_count(),
            orphans: self.entries.orphan_count(),
            registrations: self.registration_count,
            producers_active: active.len(),
            producers_inactive: inactive.len(),
            tombstones: self.tombstones.values().filter(|at| self.is_in_force(**at, now)).count(),
        }
    }

    /// The topics and channels that went because there were too many without producers.
    pub fn forgotten_count(&self) -> u64 {
        self.forgotten_count
    }

    fn present(&self, id: ProducerId) -> Option<&Producer> {
        self.producers.get(&id).filter(|producer| !producer.is_leaving)
    }

    fn is_active(&self, producer: &Producer, now: Time) -> bool {
        !producer.is_leaving && now.since(producer.last_update) <= self.settings.inactive_timeout
    }

    fn is_tombstoned(&self, id: ProducerId, topic: NameId, now: Time) -> bool {
        self.tombstones.get(&(id, topic)).is_some_and(|at| self.is_in_force(*at, now))
    }

    fn is_in_force(&self, set_at: Time, now: Time) -> bool {
        now.since(set_at) < self.settings.tombstone_lifetime
    }
}

impl Producer {
    fn keys(&self, from: Option<Key>) -> impl Iterator<Item = Key> {
        let from = from.unwrap_or(Key::FIRST);
        self.own.range(from..).copied()
    }

    fn topics(&self, from: Option<Key>) -> impl Iterator<Item = Key> {
        let mut next = self.keys(from).next();
        std::iter::from_fn(move || {
            let key = Key::of_topic(next?.topic);
            // Steps over the channels of the topic, however many there are.
            next = self.keys(Some(Key::end_of(key.topic))).next();
            Some(key)
        })
    }
}

impl<T> Slice<T> {
    /// Takes the items of a slice and the place of the one that follows.
    fn take(mut items: impl Iterator<Item = (Key, T)>, at_most: usize) -> Self {
        let mut slice = Self { items: Vec::new(), next: None };
        for (key, item) in &mut items {
            if slice.items.len() == at_most.max(1) {
                slice.next = Some(Place(Some(key)));
                break;
            }
            slice.items.push(item);
        }
        slice
    }
}
