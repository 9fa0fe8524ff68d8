//! Queries of the registrations.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Peer, Producer, Registration, Registry, Topic};
use crate::Time;

/// The answer to a consumer that looks up a topic.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Lookup {
    /// The names of its channels, sorted.
    pub channels: Vec<Arc<str>>,
    /// Its producers that are alive and not hidden by a tombstone, in the order of their ids.
    pub producers: Vec<Arc<Peer>>,
}

/// A producer and the topics it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The producer.
    pub peer: Arc<Peer>,
    /// Its topics, sorted; true for those where a tombstone hides the producer.
    pub topics: Vec<(Arc<str>, bool)>,
}

/// A producer's entry in a registration, for debugging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The producer.
    pub peer: Arc<Peer>,
    /// Its last sign of life.
    pub last_update: Time,
    /// When a tombstone was set on the entry, in force or expired.
    pub tombstoned_at: Option<Time>,
}

/// The size of the database.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// Topics, with or without producers.
    pub topics: usize,
    /// Channels, with or without producers.
    pub channels: usize,
    /// Producers that are alive.
    pub producers_active: usize,
    /// Producers without a recent sign of life.
    pub producers_inactive: usize,
    /// Tombstones in force.
    pub tombstones: usize,
}

impl Registry {
    /// The names of all topics, sorted.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topics.keys()
    }

    /// The names of a topic's channels, sorted; none when the topic is not known.
    pub fn channels(&self, topic: &str) -> impl Iterator<Item = &Arc<str>> {
        self.topics.get(topic).into_iter().flat_map(|topic| topic.channels.keys())
    }

    /// Looks up a topic for a consumer; `None` when it is not known.
    pub fn lookup(&self, topic: &str, now: Time) -> Option<Lookup> {
        let Topic { channels, producers } = self.topics.get(topic)?;
        let visible = producers.iter().filter_map(|id| self.producers.get(id)).filter(|producer| {
            self.is_active(producer, now) && !self.is_tombstoned(producer, topic, now)
        });
        Some(Lookup {
            channels: channels.keys().cloned().collect(),
            producers: visible.map(|producer| Arc::clone(&producer.peer)).collect(),
        })
    }

    /// The names of the channels of all topics, sorted, each once.
    pub fn all_channels(&self) -> BTreeSet<Arc<str>> {
        self.topics.values().flat_map(|topic| topic.channels.keys()).cloned().collect()
    }

    /// Looks up all topics at once for a consumer; `None` when there are none. A producer is hidden when tombstones
    /// hide it in all its topics.
    pub fn lookup_all(&self, now: Time) -> Option<Lookup> {
        if self.topics.is_empty() {
            return None;
        }
        let visible = self.producers.values().filter(|producer| {
            let shown = |topic: &Arc<str>| !self.is_tombstoned(producer, topic, now);
            self.is_active(producer, now) && producer.topics.iter().any(shown)
        });
        Some(Lookup {
            channels: self.all_channels().into_iter().collect(),
            producers: visible.map(|producer| Arc::clone(&producer.peer)).collect(),
        })
    }

    /// The producers that are alive, in the order of their ids, with their topics.
    pub fn nodes(&self, now: Time) -> Vec<Node> {
        let active = self.producers.values().filter(|producer| self.is_active(producer, now));
        let node = |producer: &Producer| Node {
            peer: Arc::clone(&producer.peer),
            topics: producer
                .topics
                .iter()
                .map(|topic| (Arc::clone(topic), self.is_tombstoned(producer, topic, now)))
                .collect(),
        };
        active.map(node).collect()
    }

    /// Every registration that has producers, with their entries in the order of their ids.
    pub fn registrations(&self) -> BTreeMap<Registration, Vec<Entry>> {
        let mut all = BTreeMap::new();
        let mut put = |registration, entries: Vec<Entry>| {
            if !entries.is_empty() {
                all.insert(registration, entries);
            }
        };
        put(Registration::Client, self.producers.values().map(|p| p.entry(None)).collect());
        for (name, topic) in &self.topics {
            let producers = topic.producers.iter().filter_map(|id| self.producers.get(id));
            let entry =
                |producer: &Producer| producer.entry(producer.tombstones.get(name).copied());
            put(Registration::Topic(Arc::clone(name)), producers.map(entry).collect());
            for (channel, producers) in &topic.channels {
                let producers = producers.iter().filter_map(|id| self.producers.get(id));
                let registration = Registration::Channel(Arc::clone(name), Arc::clone(channel));
                put(registration, producers.map(|producer| producer.entry(None)).collect());
            }
        }
        all
    }

    /// The size of the database. Costs a step for each producer and tombstone.
    pub fn counts(&self, now: Time) -> Counts {
        let mut counts =
            Counts { topics: self.topics.len(), channels: self.channel_count, ..Counts::default() };
        for producer in self.producers.values() {
            if self.is_active(producer, now) {
                counts.producers_active += 1;
            } else {
                counts.producers_inactive += 1;
            }
            counts.tombstones +=
                producer.tombstones.values().filter(|at| self.is_in_force(**at, now)).count();
        }
        counts
    }

    fn is_active(&self, producer: &Producer, now: Time) -> bool {
        now.since(producer.last_update) <= self.inactive_timeout
    }

    fn is_tombstoned(&self, producer: &Producer, topic: &str, now: Time) -> bool {
        producer.tombstones.get(topic).is_some_and(|at| self.is_in_force(*at, now))
    }

    fn is_in_force(&self, set_at: Time, now: Time) -> bool {
        now.since(set_at) < self.tombstone_lifetime
    }
}

impl Producer {
    fn entry(&self, tombstoned_at: Option<Time>) -> Entry {
        Entry { peer: Arc::clone(&self.peer), last_update: self.last_update, tombstoned_at }
    }
}
