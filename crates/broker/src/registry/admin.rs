//! Administration: topics and channels that precede or outlive their producers, and tombstones.

use super::{ProducerId, Progress, Registry, TooManyTombstones, entries::Key, progress::Step};
use crate::Time;

impl Registry {
    /// Adds a topic, which need not have a producer.
    pub fn create_topic(&mut self, topic: &str, now: Time) {
        self.entries.add_topic(topic, now);
        self.trim_orphans();
    }

    /// Adds a channel and its topic, which need not have a producer.
    pub fn create_channel(&mut self, topic: &str, channel: &str, now: Time) {
        let topic = self.entries.add_topic(topic, now);
        self.entries.add_channel(topic.topic, channel, now);
        self.trim_orphans();
    }

    /// Deletes a topic and its channels, `at_most` so many entries at a time; its producers are no longer registered
    /// for them.
    pub fn delete_topic(&mut self, topic: &str, now: Time, at_most: usize) -> Progress {
        let mut step = Step::new(at_most);
        let Some(key) = self.entries.find(topic, None) else { return step.end(true) };
        loop {
            let next = self.ids_of(key.topic).next();
            let Some(id) = next else { break };
            if !self.take_topic(id, key, now, &mut step) {
                return step.end(false);
            }
        }
        while let Some(channel) = self.entries.first_channel(key.topic) {
            if !step.go_on() {
                return step.end(false);
            }
            self.delete(channel, &mut step);
        }
        self.delete(key, &mut step);
        step.end(true)
    }

    /// Takes a topic and its channels from a producer, and deletes the channels that have no other. Returns false
    /// when the step ended before.
    fn take_topic(&mut self, id: ProducerId, topic: Key, now: Time, step: &mut Step) -> bool {
        while let Some(channel) = self.own_channel(id, topic.topic) {
            if !step.go_on() {
                return false;
            }
            self.remove_registration(id, channel, now);
            if self.entries.is_orphan(channel) {
                self.delete(channel, step);
            }
        }
        if !step.go_on() {
            return false;
        }
        self.remove_registration(id, topic, now);
        true
    }

    fn delete(&mut self, key: Key, step: &mut Step) {
        step.report(self.entries.registration(key));
        self.entries.remove(key);
    }

    /// Deletes a channel; its producers are no longer registered for it. Returns whether it existed.
    pub fn delete_channel(&mut self, topic: &str, channel: &str, now: Time) -> bool {
        let Some(key) = self.entries.find(topic, Some(channel)) else { return false };
        let producers: Vec<_> = self.ids_of(key.topic).collect();
        for id in producers {
            self.remove_registration(id, key, now);
        }
        self.entries.remove(key);
        true
    }

    /// Hides every producer of `topic` that [is](super::Peer::is_node) the node `broadcast_address:http_port`, for
    /// the lifetime of a tombstone from now. Returns the number of producers hidden.
    ///
    /// # Errors
    /// When there are too many tombstones. Nothing is changed then.
    pub fn tombstone(
        &mut self,
        topic: &str,
        node: &str,
        now: Time,
    ) -> Result<usize, TooManyTombstones> {
        let Some(key) = self.entries.find(topic, None) else { return Ok(0) };
        let is_node = |id: &ProducerId| {
            self.producers.get(id).is_some_and(|producer| producer.peer.is_node(node))
        };
        let ids: Vec<_> = self.ids_of(key.topic).filter(is_node).collect();
        let is_set = |id: &&ProducerId| self.tombstones.contains_key(&(**id, key.topic));
        let wanted = ids.len() - ids.iter().filter(is_set).count();
        if self.tombstones.len() + wanted > self.settings.tombstones_max {
            let lifetime = self.settings.tombstone_lifetime;
            self.tombstones.retain(|_, set_at| now.since(*set_at) < lifetime);
        }
        if self.tombstones.len() + wanted > self.settings.tombstones_max {
            return Err(TooManyTombstones);
        }
        for id in &ids {
            self.tombstones.insert((*id, key.topic), now);
        }
        Ok(ids.len())
    }
}
