//! The records of a journal.

use std::{ops::Range, time::Duration};

use nsq_protocol::ChannelName;

use super::{Deferral, waypoint::Waypoint};
use crate::state::{ChannelDelta, ChannelState, Outstanding};

/// A change of a topic or one of its channels.
///
/// Callers leave out ephemeral channels.
#[derive(Copy, Clone, Debug)]
pub enum JournalRecord<'a> {
    /// The state of the topic; replaces the previous one.
    Topic {
        /// Where a new channel starts.
        fanout: u64,
        /// Set while the topic is paused.
        paused: bool,
        /// Deferred messages and their delay.
        deferred: &'a [(Range<u64>, Duration)],
    },
    /// A channel was created.
    ChannelCreated {
        /// The channel.
        channel: &'a ChannelName,
        /// Its first state.
        state: &'a ChannelState,
    },
    /// A channel was deleted.
    ChannelDeleted {
        /// The channel.
        channel: &'a ChannelName,
    },
    /// The state of a channel; replaces everything recorded about it.
    ChannelSnapshot {
        /// The channel.
        channel: &'a ChannelName,
        /// Its state.
        state: &'a ChannelState,
    },
    /// A change of a channel.
    ChannelDelta {
        /// The channel.
        channel: &'a ChannelName,
        /// The change.
        delta: &'a ChannelDelta,
    },
    /// A channel was paused or resumed.
    ChannelPaused {
        /// The channel.
        channel: &'a ChannelName,
        /// Set while it is paused.
        paused: bool,
    },
}

/// Every record of a journal: the caller's, and those that the log adds.
#[derive(Copy, Clone, Debug)]
pub(super) enum LogRecord<'a> {
    Broker(JournalRecord<'a>),
    /// Deferred batches, in addition to those of [`JournalRecord::Topic`].
    Deferrals(&'a [Deferral]),
    Waypoint(&'a Waypoint),
    /// Outstanding messages of the next [`JournalRecord::ChannelSnapshot`] of the same channel, so that no
    /// record has to hold a million of them.
    ChannelPart {
        channel: &'a ChannelName,
        outstanding: &'a [Outstanding],
    },
    Time {
        node_ns: u64,
    },
}

/// A record that owns its contents, as replay reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OwnedRecord {
    Topic { fanout: u64, paused: bool, deferred: Vec<Deferral> },
    ChannelState(ChannelName, ChannelState),
    ChannelDeleted(ChannelName),
    ChannelDelta(ChannelName, ChannelDelta),
    ChannelPaused(ChannelName, bool),
    Deferrals(Vec<Deferral>),
    Waypoint(Waypoint),
    ChannelPart(ChannelName, Vec<Outstanding>),
    Time { node_ns: u64 },
}
