//! Topics and channels as nsqlookupd registers them.

use std::{collections::BTreeMap, ops::Bound};

use nsq_protocol::{ChannelName, TopicName, v1::Command};

use crate::{birth::Birth, node::Node, topic::Topic};

/// A topic, or a channel of it. A topic sorts before its channels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Registration {
    topic: TopicName,
    channel: Option<ChannelName>,
}

impl Registration {
    pub(super) fn register(&self) -> Command<'_> {
        let (topic, channel) = self.names();
        Command::Register { topic, channel }
    }

    pub(super) fn unregister(&self) -> Command<'_> {
        let (topic, channel) = self.names();
        Command::Unregister { topic, channel }
    }

    fn names(&self) -> (&str, Option<&str>) {
        (self.topic.as_str(), self.channel.as_ref().map(ChannelName::as_str))
    }
}

/// A command that changes the registrations of an nsqlookupd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Register(Registration, Birth),
    Unregister(Registration),
}

/// Topics and channels by name, each with its birth number.
#[derive(Debug, Default)]
pub(super) struct Registrations(BTreeMap<Registration, Birth>);

impl Registrations {
    /// All topics and channels of a node, ephemeral ones too.
    pub(super) fn of(node: &Node) -> Self {
        let mut all = Self::default();
        for topic in node.all_topics() {
            all.add(&topic);
        }
        all
    }

    fn add(&mut self, topic: &Topic) {
        if topic.is_exiting() {
            return;
        }
        let name = &topic.name;
        self.0.insert(Registration { topic: name.clone(), channel: None }, topic.birth);
        for channel in topic.channels().iter().filter(|channel| !channel.is_exiting()) {
            let channel_name = Some(channel.name.clone());
            let registration = Registration { topic: name.clone(), channel: channel_name };
            self.0.insert(registration, channel.birth);
        }
    }

    /// The changes of a topic and its channels from `self` to now, in the order to send them.
    ///
    /// A topic or channel that was deleted and created again is unregistered and registered again: nsqlookupd may have
    /// lost the registration in between, or hide the topic behind a tombstone.
    pub(super) fn changes_of(&self, name: &TopicName, topic: Option<&Topic>) -> Vec<Change> {
        let mut wanted = Self::default();
        if let Some(topic) = topic {
            wanted.add(topic);
        }
        let mut changes = Vec::new();
        for (registration, birth) in self.topic(name) {
            if wanted.0.get(registration) != Some(birth) {
                changes.push(Change::Unregister(registration.clone()));
            }
        }
        // Channels before their topic: unregistering a topic unregisters its channels too.
        changes.reverse();
        for (registration, birth) in wanted.0 {
            if self.0.get(&registration) != Some(&birth) {
                changes.push(Change::Register(registration, birth));
            }
        }
        changes
    }

    /// A topic and its channels.
    fn topic(&self, name: &TopicName) -> impl Iterator<Item = (&Registration, &Birth)> {
        let start = Registration { topic: name.clone(), channel: None };
        self.0.range(start..).take_while(move |(registration, _)| registration.topic == *name)
    }

    /// Applies changes that were sent.
    pub(super) fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Register(registration, birth) => {
                    self.0.insert(registration.clone(), *birth);
                }
                Change::Unregister(registration) => {
                    self.0.remove(registration);
                }
            }
        }
    }

    /// Up to `count` registrations that follow `after`. A topic with channels is left out: they register it too.
    pub(super) fn page(&self, after: Option<&Registration>, count: usize) -> Vec<Registration> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.0.range((start, Bound::Unbounded)).map(|(entry, _)| entry).peekable();
        let mut page = Vec::new();
        while let Some(registration) = rest.next() {
            let is_implied = registration.channel.is_none()
                && rest.peek().is_some_and(|next| next.topic == registration.topic);
            if !is_implied {
                page.push(registration.clone());
            }
            if page.len() == count {
                break;
            }
        }
        page
    }
}
