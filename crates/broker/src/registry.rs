//! The registration database of nsqlookupd: topics, channels and their producers.
//!
//! A producer is a connection that has identified itself. The topics and channels it registers stay known after it
//! has left, because consumers may look for them before another producer comes. Ephemeral ones are the exception:
//! they go with their last producer.
//!
//! # Invariants
//!
//! 1. A channel exists only within an existing topic.
//! 2. The producers of a channel are producers of its topic.
//! 3. A topic is in a producer's list exactly when the producer is in the topic's.
//! 4. A tombstone is only on a topic that the producer has.

mod peer;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use crate::Time;

pub use self::{
    peer::{Peer, ProducerId},
    view::{Counts, Entry, Lookup, Node},
};

const EPHEMERAL_SUFFIX: &str = "#ephemeral";

/// The registration database.
///
/// Names are not checked here; callers validate the names that producers and operators send. Looking up a topic
/// costs one map access and the size of the answer, whatever else is registered.
#[derive(Clone, Debug)]
pub struct Registry {
    inactive_timeout: Duration,
    tombstone_lifetime: Duration,
    topics: BTreeMap<Arc<str>, Topic>,
    producers: BTreeMap<ProducerId, Producer>,
    channel_count: usize,
}

#[derive(Clone, Debug, Default)]
struct Topic {
    channels: BTreeMap<Arc<str>, BTreeSet<ProducerId>>,
    producers: BTreeSet<ProducerId>,
}

#[derive(Clone, Debug)]
struct Producer {
    peer: Arc<Peer>,
    last_update: Time,
    topics: BTreeSet<Arc<str>>,
    /// When a tombstone was set on the producer for a topic, in force or expired.
    tombstones: BTreeMap<Arc<str>, Time>,
}

/// Something that a producer can be registered for.
///
/// Its text appears in log lines: `category:channel key:<topic> subkey:<channel>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Registration {
    /// A channel of a topic.
    Channel(Arc<str>, Arc<str>),
    /// Being a producer at all.
    Client,
    /// A topic.
    Topic(Arc<str>),
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
    /// Creates an empty database. A producer that has sent no sign of life for longer than `inactive_timeout` is
    /// hidden; a tombstone hides a producer of a topic for `tombstone_lifetime`.
    pub fn new(inactive_timeout: Duration, tombstone_lifetime: Duration) -> Self {
        Self {
            inactive_timeout,
            tombstone_lifetime,
            topics: BTreeMap::new(),
            producers: BTreeMap::new(),
            channel_count: 0,
        }
    }

    /// Adds a producer, which is a sign of life. Returns false, and changes nothing, when it is known already.
    pub fn identify(&mut self, id: ProducerId, peer: Peer, now: Time) -> bool {
        if self.producers.contains_key(&id) {
            return false;
        }
        let producer = Producer {
            peer: Arc::new(peer),
            last_update: now,
            topics: BTreeSet::new(),
            tombstones: BTreeMap::new(),
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
    pub fn register(
        &mut self,
        id: ProducerId,
        topic: &str,
        channel: Option<&str>,
    ) -> Vec<Registration> {
        let mut added = Vec::new();
        if !self.producers.contains_key(&id) {
            return added;
        }
        let name = self.ensure_topic(topic);
        if let Some(channel) = channel {
            let channel = self.ensure_channel(&name, channel);
            let entry =
                self.topics.get_mut(&name).and_then(|topic| topic.channels.get_mut(&channel));
            if entry.is_some_and(|producers| producers.insert(id)) {
                added.push(Registration::Channel(Arc::clone(&name), channel));
            }
        }
        if self.topics.get_mut(&name).is_some_and(|topic| topic.producers.insert(id)) {
            if let Some(producer) = self.producers.get_mut(&id) {
                producer.topics.insert(Arc::clone(&name));
            }
            added.push(Registration::Topic(name));
        }
        added
    }

    /// Removes a producer from a channel, or from a topic and all its channels. Returns the registrations removed,
    /// channels first.
    ///
    /// The channel or topic is dropped if it is ephemeral and left without producers, whether or not this producer
    /// was registered for it.
    pub fn unregister(
        &mut self,
        id: ProducerId,
        topic: &str,
        channel: Option<&str>,
    ) -> Vec<Registration> {
        match channel {
            Some(channel) => self.unregister_channel(id, topic, channel).into_iter().collect(),
            None => self.unregister_topic(id, topic),
        }
    }

    fn unregister_channel(
        &mut self,
        id: ProducerId,
        topic: &str,
        channel: &str,
    ) -> Option<Registration> {
        let (topic, entry) = get_topic(&mut self.topics, topic)?;
        let (channel, _) = entry.channels.get_key_value(channel)?;
        let channel = Arc::clone(channel);
        let producers = entry.channels.get_mut(&channel)?;
        let removed = producers.remove(&id);
        if producers.is_empty() && is_ephemeral(&channel) {
            entry.channels.remove(&channel);
            self.channel_count -= 1;
        }
        removed.then_some(Registration::Channel(topic, channel))
    }

    fn unregister_topic(&mut self, id: ProducerId, topic: &str) -> Vec<Registration> {
        let mut removed = Vec::new();
        let Some((topic, entry)) = get_topic(&mut self.topics, topic) else { return removed };
        for (channel, producers) in &mut entry.channels {
            if producers.remove(&id) {
                removed.push(Registration::Channel(Arc::clone(&topic), Arc::clone(channel)));
            }
        }
        if entry.producers.remove(&id) {
            removed.push(Registration::Topic(Arc::clone(&topic)));
            if let Some(producer) = self.producers.get_mut(&id) {
                producer.topics.remove(&topic);
                producer.tombstones.remove(&topic);
            }
        }
        if entry.producers.is_empty() && is_ephemeral(&topic) {
            self.channel_count -= entry.channels.len();
            self.topics.remove(&topic);
        }
        removed
    }

    /// Removes a producer and all its registrations, and the ephemeral topics and channels that have no other
    /// producer. Returns the registrations removed.
    pub fn disconnect(&mut self, id: ProducerId) -> Vec<Registration> {
        let mut removed = Vec::new();
        let Some(producer) = self.producers.remove(&id) else { return removed };
        removed.push(Registration::Client);
        for topic in producer.topics {
            let Some(entry) = self.topics.get_mut(&topic) else { continue };
            entry.channels.retain(|channel, producers| {
                if !producers.remove(&id) {
                    return true;
                }
                removed.push(Registration::Channel(Arc::clone(&topic), Arc::clone(channel)));
                let stays = !producers.is_empty() || !is_ephemeral(channel);
                self.channel_count -= usize::from(!stays);
                stays
            });
            entry.producers.remove(&id);
            if entry.producers.is_empty() && is_ephemeral(&topic) {
                self.channel_count -= entry.channels.len();
                self.topics.remove(&topic);
            }
            removed.push(Registration::Topic(topic));
        }
        removed
    }

    /// Adds a topic, which need not have a producer.
    pub fn create_topic(&mut self, topic: &str) {
        self.ensure_topic(topic);
    }

    /// Adds a channel and its topic, which need not have a producer.
    pub fn create_channel(&mut self, topic: &str, channel: &str) {
        let topic = self.ensure_topic(topic);
        self.ensure_channel(&topic, channel);
    }

    /// Deletes a topic and its channels; its producers are no longer registered for them. Returns the registrations
    /// deleted, channels first.
    pub fn delete_topic(&mut self, topic: &str) -> Vec<Registration> {
        let mut deleted = Vec::new();
        let Some((topic, entry)) = self.topics.remove_entry(topic) else { return deleted };
        self.channel_count -= entry.channels.len();
        for id in entry.producers {
            if let Some(producer) = self.producers.get_mut(&id) {
                producer.topics.remove(&topic);
                producer.tombstones.remove(&topic);
            }
        }
        for channel in entry.channels.into_keys() {
            deleted.push(Registration::Channel(Arc::clone(&topic), channel));
        }
        deleted.push(Registration::Topic(topic));
        deleted
    }

    /// Deletes a channel; its producers are no longer registered for it. Returns whether it existed.
    pub fn delete_channel(&mut self, topic: &str, channel: &str) -> bool {
        let entry = self.topics.get_mut(topic);
        let deleted = entry.is_some_and(|topic| topic.channels.remove(channel).is_some());
        self.channel_count -= usize::from(deleted);
        deleted
    }

    /// Hides every producer of `topic` that [is](Peer::is_node) the node `broadcast_address:http_port`, for the
    /// lifetime of a tombstone from now. Returns the number of producers hidden.
    pub fn tombstone(&mut self, topic: &str, node: &str, now: Time) -> usize {
        let Some((topic, entry)) = get_topic(&mut self.topics, topic) else { return 0 };
        let mut count = 0;
        for id in &entry.producers {
            if let Some(producer) = self.producers.get_mut(id)
                && producer.peer.is_node(node)
            {
                producer.tombstones.insert(Arc::clone(&topic), now);
                count += 1;
            }
        }
        count
    }

    fn ensure_topic(&mut self, topic: &str) -> Arc<str> {
        if let Some((topic, _)) = self.topics.get_key_value(topic) {
            return Arc::clone(topic);
        }
        let topic: Arc<str> = topic.into();
        self.topics.insert(Arc::clone(&topic), Topic::default());
        topic
    }

    fn ensure_channel(&mut self, topic: &str, channel: &str) -> Arc<str> {
        let topic = self.topics.get_mut(topic);
        let known = topic.as_ref().and_then(|topic| topic.channels.get_key_value(channel));
        if let Some((channel, _)) = known {
            return Arc::clone(channel);
        }
        let channel: Arc<str> = channel.into();
        if let Some(topic) = topic {
            topic.channels.insert(Arc::clone(&channel), BTreeSet::new());
            self.channel_count += 1;
        }
        channel
    }
}

/// A topic, with its name as producers share it.
fn get_topic<'a>(
    topics: &'a mut BTreeMap<Arc<str>, Topic>,
    topic: &str,
) -> Option<(Arc<str>, &'a mut Topic)> {
    let (name, _) = topics.get_key_value(topic)?;
    let name = Arc::clone(name);
    topics.get_mut(&name).map(|topic| (name, topic))
}

fn is_ephemeral(name: &str) -> bool {
    name.ends_with(EPHEMERAL_SUFFIX)
}
