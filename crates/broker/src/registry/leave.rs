//! Producers that leave channels, topics, or altogether.

use super::{
    Producer, ProducerId, Progress, Registration, Registry, entries::Key, names::NameId,
    progress::Step,
};
use crate::Time;

/// How a producer leaves the channels of a topic.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Departure {
    /// It gives the topic up. Ephemeral channels stay known: it did not name them.
    Unregister,
    /// It is gone, and ephemeral channels go with it.
    Disconnect,
}

impl Registry {
    /// Removes a producer from a channel, or from a topic and all its channels, `at_most` so many entries at a time.
    /// Only what the producer itself has registered is removed.
    ///
    /// The channel or topic is dropped if it is ephemeral and left without producers, whether or not this producer
    /// was registered for it.
    pub fn unregister(
        &mut self,
        id: ProducerId,
        topic: &str,
        channel: Option<&str>,
        now: Time,
        at_most: usize,
    ) -> Progress {
        let mut step = Step::new(at_most);
        let Some(key) = self.entries.find(topic, channel) else { return step.end(true) };
        let is_done = if key.channel.is_some() {
            self.leave_channel(id, key, now, &mut step);
            true
        } else {
            self.leave_topic(id, key.topic, Departure::Unregister, now, &mut step)
        };
        self.trim_orphans();
        step.end(is_done)
    }

    /// Removes a producer and all its registrations, and the ephemeral topics and channels that have no other
    /// producer, `at_most` so many entries at a time. The producer is hidden at once.
    pub fn disconnect(&mut self, id: ProducerId, now: Time, at_most: usize) -> Progress {
        let mut step = Step::new(at_most);
        let Some(producer) = self.producers.get_mut(&id) else { return step.end(true) };
        if !std::mem::replace(&mut producer.is_leaving, true) {
            step.report(Registration::Client);
        }
        while let Some(topic) = self.producers.get(&id).and_then(Producer::first_topic) {
            if !self.leave_topic(id, topic, Departure::Disconnect, now, &mut step) {
                self.trim_orphans();
                return step.end(false);
            }
        }
        self.trim_orphans();
        self.producers.remove(&id);
        step.end(true)
    }

    fn leave_channel(&mut self, id: ProducerId, key: Key, now: Time, step: &mut Step) {
        if self.remove_registration(id, key, now) {
            step.report(self.entries.registration(key));
        }
        if self.entries.is_orphan(key) && self.entries.is_ephemeral(key) {
            self.entries.remove(key);
        }
    }

    /// Returns false when the step ended before the producer has left the topic.
    fn leave_topic(
        &mut self,
        id: ProducerId,
        topic: NameId,
        departure: Departure,
        now: Time,
        step: &mut Step,
    ) -> bool {
        while let Some(key) = self.own_channel(id, topic) {
            if !step.go_on() {
                return false;
            }
            match departure {
                Departure::Disconnect => self.leave_channel(id, key, now, step),
                Departure::Unregister => {
                    self.remove_registration(id, key, now);
                    step.report(self.entries.registration(key));
                }
            }
        }
        let key = Key::of_topic(topic);
        let goes = self.entries.is_ephemeral(key) && !self.has_producer_beside(topic, id);
        if goes && !self.remove_channels(topic, step) || !step.go_on() {
            return false;
        }
        if self.remove_registration(id, key, now) {
            step.report(self.entries.registration(key));
        }
        if goes {
            self.entries.remove(key);
        }
        true
    }

    /// Removes the channels of a topic, which have no producers. Returns false when the step ended before.
    pub(super) fn remove_channels(&mut self, topic: NameId, step: &mut Step) -> bool {
        while let Some(key) = self.entries.first_channel(topic) {
            if !step.go_on() {
                return false;
            }
            self.entries.remove(key);
        }
        true
    }

    /// Returns whether the producer had the registration.
    pub(super) fn remove_registration(&mut self, id: ProducerId, key: Key, now: Time) -> bool {
        let Some(producer) = self.producers.get_mut(&id) else { return false };
        if !producer.own.remove(&key) {
            return false;
        }
        self.registration_count -= 1;
        self.entries.release(key, now);
        if key.channel.is_none() {
            self.topic_producers.remove(&(key.topic, id));
            self.tombstones.remove(&(id, key.topic));
        }
        true
    }

    /// A channel of the topic that the producer has.
    pub(super) fn own_channel(&self, id: ProducerId, topic: NameId) -> Option<Key> {
        self.producers.get(&id)?.own.range(Key::channels_of(topic)).next().copied()
    }

    fn has_producer_beside(&self, topic: NameId, id: ProducerId) -> bool {
        self.ids_of(topic).take(2).any(|other| other != id)
    }

    /// The producers of a topic, those that are leaving included.
    pub(super) fn ids_of(&self, topic: NameId) -> impl Iterator<Item = ProducerId> {
        let range = (topic, ProducerId(0))..=(topic, ProducerId(u64::MAX));
        self.topic_producers.range(range).map(|(_, id)| *id)
    }
}

impl Producer {
    fn first_topic(&self) -> Option<NameId> {
        self.own.first().map(|key| key.topic)
    }
}
