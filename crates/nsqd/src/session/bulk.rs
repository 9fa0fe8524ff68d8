//! Publishes that are too large for one turn.
//!
//! Such an MPUB is decoded, encoded and appended on a thread that may block, as one batch; the worker serves its other
//! connections meanwhile.

use std::sync::Arc;

use bytes::Bytes;
use nsq_protocol::{ClientError, Code, Command, Decoded, Phase, decode_command};

use super::{failure::failed, gather::Published};
use crate::{node::Node, topic::Topic};

/// A large publish to a topic, which the command at the front of the input is or waits for.
pub(super) struct Bulk {
    pub(super) topic: Arc<Topic>,
    /// The command publishes; otherwise it waits for another one.
    pub(super) publishes: bool,
    /// The length of the command.
    pub(super) command_bytes: usize,
}

impl Bulk {
    /// A command that publishes in bulk.
    pub(super) fn publish(topic: &Arc<Topic>) -> Self {
        Self { topic: topic.clone(), publishes: true, command_bytes: 0 }
    }

    /// A command that waits for a bulk of another connection.
    pub(super) fn wait(topic: &Arc<Topic>) -> Self {
        Self { topic: topic.clone(), publishes: false, command_bytes: 0 }
    }
}

/// Publishes the messages of an MPUB that has been decoded before.
pub(super) fn publish(
    node: &Arc<Node>,
    topic: &Arc<Topic>,
    command: &Bytes,
    phase: Phase,
) -> Result<Published, ClientError> {
    let mut batch = node.batch();
    let decoded = decode_command(command, phase, &node.services.options.limits);
    if let Decoded::Command(Command::MultiPub { bodies, .. }, _) = decoded {
        bodies.into_iter().for_each(|body| batch.push(body));
    }
    let messages = batch.count() as u64;
    let published = node.publish(topic, &mut batch, None);
    let (topic, end) = published.map_err(|error| failed(Code::MultiPubFailed, error))?;
    Ok(Published { topic, end, messages, commands: 1 })
}
