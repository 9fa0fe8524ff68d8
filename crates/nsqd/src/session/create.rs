//! Creation of the topics and channels that commands need.
//!
//! Creating one takes the disk, so it is done on a thread that may block; the worker serves its other connections
//! meanwhile. The command stays in the input and is decoded again afterwards.

use std::sync::Arc;

use nsq_protocol::{ChannelName, ClientError, Code, InvalidName, TopicName};
use tokio::task::spawn_blocking;

use super::{Session, bulk::Bulk, failure::failed, upgrade::Upgrade};
use crate::{node::Node, topic::PublishError};

/// How often a command may find that what was created for it is already being deleted.
const TRIES_MAX: u32 = 10;

/// Why the session stops working through its input.
pub(super) enum Stop {
    /// This has to be created first. The command that needs it stays in the input.
    Create(Box<Creation>),
    /// A large publish comes first. The command that needs it, or is it, stays in the input.
    Bulk(Box<Bulk>),
    /// The turn is over. What is left stays in the input.
    GiveWay,
    /// The connection is upgraded. The command that asked for it has been handled.
    Upgrade(Box<Upgrade>),
    /// The auth servers are being asked. The command that needs their answer stays in the input.
    Authorize,
    /// The connection is over.
    Close,
}

impl Stop {
    /// Notes that the command which stops the session takes `bytes`.
    pub(super) fn after(mut self, bytes: usize) -> Self {
        match &mut self {
            Self::Upgrade(upgrade) => upgrade.command_bytes = bytes,
            Self::Bulk(bulk) => bulk.command_bytes = bytes,
            Self::Create(_) | Self::GiveWay | Self::Authorize | Self::Close => {}
        }
        self
    }

    /// How many bytes of the input have been handled with the command that stops the session.
    pub(super) fn handled_bytes(&self) -> usize {
        match self {
            Self::Upgrade(upgrade) => upgrade.command_bytes,
            Self::Create(_) | Self::Bulk(_) | Self::GiveWay | Self::Authorize | Self::Close => 0,
        }
    }
}

/// A topic, or a channel with its topic, to be created for a command.
#[derive(Debug)]
pub(super) struct Creation {
    topic: TopicName,
    channel: Option<ChannelName>,
    /// The error code of the command.
    failure: Code,
}

impl Creation {
    pub(super) fn of_topic(topic: TopicName, failure: Code) -> Self {
        Self { topic, channel: None, failure }
    }

    fn parse(topic: &str, channel: Option<&str>, failure: Code) -> Result<Self, InvalidName> {
        let channel = channel.map(ChannelName::new).transpose()?;
        Ok(Self { topic: TopicName::new(topic)?, channel, failure })
    }

    /// Blocks.
    fn carry_out(&self, node: &Arc<Node>) -> Result<(), PublishError> {
        let Some(channel) = &self.channel else {
            let topic = node.topic_or_create(&self.topic)?;
            if !topic.name.is_ephemeral() {
                // The publish that follows finds its file. One that could not be created fails that publish.
                let _ = topic.log.prepare();
            }
            return Ok(());
        };
        let (topic, channel) = node.channel_or_create(&self.topic, channel)?;
        if channel.is_exiting() {
            // Its last client has just left. The next try creates it anew.
            node.clear_away(&topic, &channel);
        }
        Ok(())
    }

    /// The error for a topic or channel that does not stay.
    fn deleted(&self, is_stopping: bool) -> ClientError {
        match self.failure {
            Code::SubFailed if !is_stopping => failed(self.failure, "to deleted topic/channel"),
            _ => failed(self.failure, PublishError::Exiting),
        }
    }
}

impl From<Creation> for Stop {
    fn from(creation: Creation) -> Self {
        Self::Create(Box::new(creation))
    }
}

impl From<Bulk> for Stop {
    fn from(bulk: Bulk) -> Self {
        Self::Bulk(Box::new(bulk))
    }
}

impl Session {
    /// Stops at the current command until its topic, and channel if there is one, have been created.
    pub(super) fn create_first(
        &mut self,
        topic: &str,
        channel: Option<&str>,
        failure: Code,
    ) -> Result<(), Stop> {
        match Creation::parse(topic, channel, failure) {
            Ok(creation) => Err(creation.into()),
            Err(invalid) => self.refuse(&failed(failure, invalid)),
        }
    }

    /// Creates what a command needs, or refuses the command.
    pub(super) async fn create(&mut self, creation: Creation) -> Result<(), Stop> {
        self.creation_tries += 1;
        let node = self.node.clone();
        let task = spawn_blocking(move || (creation.carry_out(&node), creation));
        let (created, creation) = match task.await {
            Ok(done) => done,
            Err(panic) => {
                let remote = self.client.remote;
                let line = format_args!("client({remote}) - {panic}");
                self.node.services.clients_log.error("panics", line);
                return Err(Stop::Close);
            }
        };
        let is_stopping = self.node.is_stopping();
        match created {
            Ok(()) | Err(PublishError::Exiting)
                if self.creation_tries < TRIES_MAX && !is_stopping =>
            {
                Ok(())
            }
            Ok(()) | Err(PublishError::Exiting) => self.refuse(&creation.deleted(is_stopping)),
            Err(error) => self.refuse(&failed(creation.failure, error)),
        }
    }
}
