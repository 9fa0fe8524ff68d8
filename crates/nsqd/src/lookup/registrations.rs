//! Topics and channels as nsqlookupd registers them.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use nsq_protocol::{ChannelName, TopicName, v1::Command};

use crate::{
    birth::Birth,
    node::{Node, news::TopicOrChannel},
    topic::Topic,
};

impl TopicOrChannel {
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
    Register(TopicOrChannel),
    Unregister(TopicOrChannel),
}

/// Topics and channels by name, each with its birth number.
#[derive(Debug, Default)]
pub(super) struct Registrations(BTreeMap<TopicOrChannel, Birth>);

impl Registrations {
    /// All topics and channels of a node, ephemeral ones too. Takes long on a node with many.
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
        self.0.insert(TopicOrChannel::topic(name), topic.birth);
        for channel in topic.channels().iter().filter(|channel| !channel.is_exiting()) {
            self.0.insert(TopicOrChannel::channel(name, &channel.name), channel.birth);
        }
    }

    /// Follows a change of the node, and adds the commands for it to `commands`, in the order to send them.
    ///
    /// A topic or channel that was deleted and created again is unregistered and registered again: nsqlookupd may have
    /// lost the registration in between, or hide the topic behind a tombstone.
    pub(super) fn follow(
        &mut self,
        changed: TopicOrChannel,
        node: &Node,
        commands: &mut VecDeque<Change>,
    ) {
        let topic = node.live_topic(changed.topic.as_str());
        let birth = topic.as_ref().map(|topic| topic.birth);
        let registered = self.0.get(&TopicOrChannel::topic(&changed.topic)).copied();
        if birth != registered {
            self.replace_topic(&changed.topic, topic.as_deref(), commands);
        } else if let (Some(topic), Some(name)) = (topic, &changed.channel) {
            let channel = topic.existing_channel(name.as_str());
            let channel = channel.filter(|channel| !channel.is_exiting());
            self.replace(changed, channel.map(|channel| channel.birth), commands);
        }
    }

    /// Replaces the registrations of a topic and its channels by those of another topic of its name, if there is one.
    fn replace_topic(
        &mut self,
        name: &TopicName,
        topic: Option<&Topic>,
        commands: &mut VecDeque<Change>,
    ) {
        let old: Vec<_> = self.topic(name).cloned().collect();
        // Channels before their topic: unregistering a topic unregisters its channels too.
        for gone in old.into_iter().rev() {
            self.replace(gone, None, commands);
        }
        let mut wanted = Self::default();
        if let Some(topic) = topic {
            wanted.add(topic);
        }
        for (new, birth) in wanted.0 {
            self.replace(new, Some(birth), commands);
        }
    }

    fn replace(
        &mut self,
        name: TopicOrChannel,
        birth: Option<Birth>,
        commands: &mut VecDeque<Change>,
    ) {
        let registered = self.0.get(&name).copied();
        if registered == birth {
            return;
        }
        if registered.is_some() {
            self.0.remove(&name);
            commands.push_back(Change::Unregister(name.clone()));
        }
        if let Some(birth) = birth {
            self.0.insert(name.clone(), birth);
            commands.push_back(Change::Register(name));
        }
    }

    /// A topic and its channels.
    fn topic(&self, name: &TopicName) -> impl Iterator<Item = &TopicOrChannel> {
        let all = self.0.range(TopicOrChannel::topic(name)..).map(|(entry, _)| entry);
        all.take_while(move |entry| entry.topic == *name)
    }

    /// Up to `count` registrations that follow `after`. A topic with channels is left out: they register it too.
    pub(super) fn page(&self, after: Option<&TopicOrChannel>, count: usize) -> Vec<TopicOrChannel> {
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
