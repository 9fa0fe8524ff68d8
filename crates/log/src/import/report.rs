//! Reports about the queues of an import.

use std::fmt;

use nsq_protocol::{ChannelName, TopicName};

use crate::{
    disk::Disk,
    diskqueue::{Finding, Found, Queue},
    error::IoError,
};

/// A queue that was imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedQueue {
    /// The topic.
    pub topic: TopicName,
    /// The channel; `None` for the queue of the topic itself.
    pub channel: Option<ChannelName>,
    /// The number of messages imported.
    pub messages: u64,
    /// The number of files they were in.
    pub files: u64,
    /// The oddities of the files.
    pub findings: Vec<Finding>,
}

/// A queue that was not imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedQueue {
    /// The name in its files.
    pub name: String,
    /// The number of unread messages in it.
    pub messages: u64,
    /// Why it was not imported.
    pub reason: SkipReason,
}

/// Why a queue is not imported.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// No topic or channel can have the name.
    InvalidName,
    /// The topic or channel is ephemeral: it ended with the process.
    Ephemeral,
}

impl ImportedQueue {
    pub(super) fn new(topic: TopicName, channel: Option<ChannelName>, found: Found) -> Self {
        let Found { messages, files, findings, .. } = found;
        Self { topic, channel, messages, files, findings }
    }
}

impl fmt::Display for ImportedQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TOPIC({})", self.topic)?;
        if let Some(channel) = &self.channel {
            write!(f, " CHANNEL({channel})")?;
        }
        write!(f, ": {} messages imported from {} files", self.messages, self.files)?;
        let separators = std::iter::once(" - ").chain(std::iter::repeat("; "));
        for (separator, finding) in separators.zip(&self.findings) {
            write!(f, "{separator}{finding}")?;
        }
        Ok(())
    }
}

impl SkippedQueue {
    pub(super) fn read(
        disk: &dyn Disk,
        queue: &Queue,
        reason: SkipReason,
    ) -> Result<Self, IoError> {
        let (topic, channel) = queue.owner();
        let name = channel.map_or_else(|| topic.to_owned(), |channel| format!("{topic}:{channel}"));
        let found = queue.read(disk, |_| Ok::<_, IoError>(()))?;
        Ok(Self { name, messages: found.messages, reason })
    }
}

impl fmt::Display for SkippedQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, messages, reason } = self;
        write!(f, "queue {name:?}: {messages} messages not imported, {reason}")
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidName => "the name is not valid",
            Self::Ephemeral => "an ephemeral topic or channel ends with nsqd",
        })
    }
}

/// The topic and channel that a queue belongs to.
pub(super) fn names(queue: &Queue) -> Result<(TopicName, Option<ChannelName>), SkipReason> {
    let (topic, channel) = queue.owner();
    let topic = TopicName::new(topic).map_err(|_| SkipReason::InvalidName)?;
    let channel = channel.map(ChannelName::new).transpose().map_err(|_| SkipReason::InvalidName)?;
    if topic.is_ephemeral() || channel.as_ref().is_some_and(ChannelName::is_ephemeral) {
        return Err(SkipReason::Ephemeral);
    }
    Ok((topic, channel))
}
