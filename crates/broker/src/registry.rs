//! The registration database of nsqlookupd: topics, channels and their producers.
//!
//! A producer is a connection that has identified itself. The topics and channels it registers stay known after it
//! has left, because consumers may look for them before another producer comes. Ephemeral ones are the exception:
//! they go with their last producer. So do the oldest of those without producers, when they become too many.
//!
//! Every call costs a few steps into trees, except those that remove all that a producer or a topic has: they do a
//! bounded part at a time and return [`Progress`]. Queries return a [`Slice`] at a time.
//!
//! # Invariants
//!
//! 1. A channel exists only within an existing topic.
//! 2. The producers of a channel are producers of its topic.
//! 3. A topic or channel has as many producers as there are producers that list it as their own.
//! 4. A tombstone is only on a topic that the producer has.

mod admin;
mod entries;
mod leave;
mod limits;
mod names;
mod peer;
mod progress;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use self::{
    entries::{Entries, Key},
    names::NameId,
};
pub use self::{
    limits::{Full, Settings, TooManyTombstones},
    peer::{Peer, ProducerId},
    progress::Progress,
    view::{Counts, Place, Seen, Slice},
};
use crate::Time;

/// The registration database.
///
/// Names are not checked here; callers validate the names that producers and operators send.
#[derive(Clone, Debug)]
pub struct Registry {
    settings: Settings,
    entries: Entries,
    producers: BTreeMap<ProducerId, Producer>,
    /// The producers of the topics.
    topic_producers: BTreeSet<(NameId, ProducerId)>,
    /// The times at which tombstones were set, in force or expired.
    tombstones: BTreeMap<(ProducerId, NameId), Time>,
    registration_count: usize,
    forgotten_count: u64,
}

#[derive(Clone, Debug)]
struct Producer {
    peer: Arc<Peer>,
    last_update: Time,
    /// True from the first step of its disconnect on. It is hidden then.
    is_leaving: bool,
    own: BTreeSet<Key>,
}

/// Something that a producer can be registered for.
///
/// Its text appears in log lines: `category:channel key:<topic> subkey:<channel>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Registration {
    /// A channel of a topic: the topic, then the channel.
    Channel(Box<str>, Box<str>),
    /// Being a producer at all.
    Client,
    /// A topic.
    Topic(Box<str>),
}

impl Registration {
    /// Category, topic and channel; empty where it has none.
    pub fn parts(&self) -> [&str; 3] {
        match self {
            Self::Channel(topic, channel) => ["channel", topic, channel],
            Self::Client => ["client", "", ""],
            Self::Topic(topic) => ["topic", topic, ""],
        }
    }
}

impl fmt::Display for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [category, key, subkey] = self.parts();
        write!(f, "category:{category} key:{key} subkey:{subkey}")
    }
}

impl Registry {
    /// Creates an empty database.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            entries: Entries::default(),
            producers: BTreeMap::new(),
            topic_producers: BTreeSet::new(),
            tombstones: BTreeMap::new(),
            registration_count: 0,
            forgotten_count: 0,
        }
    }

    /// The settings it was created with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Adds a producer, which is a sign of life. Returns false, and changes nothing, when it is known already.
    pub fn identify(&mut self, id: ProducerId, peer: Peer, now: Time) -> bool {
        if self.producers.contains_key(&id) {
            return false;
        }
        let producer = Producer {
            peer: Arc::new(peer),
            last_update: now,
            is_leaving: false,
            own: BTreeSet::new(),
        };
        self.producers.insert(id, producer);
        true
    }

    /// Records a sign of life and returns how long ago the last one was; `None` when it is not a producer.
    pub fn ping(&mut self, id: ProducerId, now: Time) -> Option<Duration> {
        let producer = self.producers.get_mut(&id)?;
        let last = std::mem::replace(&mut producer.last_update, now);
        Some(now.since(last))
    }

    /// Registers a producer for a topic, and for a channel of it if one is named. Returns the new registrations; an
    /// existing tombstone stays.
    ///
    /// # Errors
    /// When there are too many registrations. Nothing is changed then.
    pub fn register(
        &mut self,
        id: ProducerId,
        topic: &str,
        channel: Option<&str>,
        now: Time,
    ) -> Result<Vec<Registration>, Full> {
        let Some(producer) = self.producers.get(&id) else { return Ok(Vec::new()) };
        let is_new = |channel| {
            let key = self.entries.find(topic, channel);
            key.is_none_or(|key| !producer.own.contains(&key))
        };
        let is_new_topic = is_new(None);
        let new_channel = channel.filter(|channel| is_new(Some(channel)));
        self.check_room(producer, usize::from(is_new_topic) + usize::from(new_channel.is_some()))?;

        let topic = self.entries.add_topic(topic, now);
        let mut added = Vec::new();
        if let Some(channel) = new_channel {
            let channel = self.entries.add_channel(topic.topic, channel, now);
            self.add_registration(id, channel, &mut added);
        }
        if is_new_topic {
            self.topic_producers.insert((topic.topic, id));
            self.add_registration(id, topic, &mut added);
        }
        Ok(added)
    }

    fn check_room(&self, producer: &Producer, wanted: usize) -> Result<(), Full> {
        let (own, all) = (producer.own.len(), self.registration_count);
        if wanted == 0 {
            return Ok(());
        }
        if own + wanted > self.settings.registrations_per_producer_max {
            return Err(Full::Producer(own));
        }
        let share = self.settings.registrations_max / self.producers.len().max(1);
        if all + wanted > self.settings.registrations_max && own + wanted > share {
            return Err(Full::Registry(all));
        }
        Ok(())
    }

    fn add_registration(&mut self, id: ProducerId, key: Key, added: &mut Vec<Registration>) {
        let Some(producer) = self.producers.get_mut(&id) else { return };
        producer.own.insert(key);
        self.entries.hold(key);
        self.registration_count += 1;
        added.push(self.entries.registration(key));
    }

    /// Holds to the limit of entries without producers. Comes after everything that can leave entries without.
    fn trim_orphans(&mut self) {
        self.forgotten_count += self.entries.trim_orphans(self.settings.orphans_max);
    }
}
