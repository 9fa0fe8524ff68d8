//! Conversion between the broker's and the journal's view of a topic: the two crates do not know each other.

use std::{ops::Range, time::Duration};

use nsq_broker::{FanOut, Time};
use nsq_log::{ChannelDelta, ChannelState, JournalRecord, Outstanding, TopicState};
use nsq_protocol::ChannelName;

/// A change of a topic or one of its channels, on its way to the journal.
#[derive(Clone, Debug)]
pub(super) enum Record {
    Topic { fanout: u64, paused: bool, deferred: Vec<(Range<u64>, Duration)> },
    Created(ChannelName, ChannelState),
    Deleted(ChannelName),
    Changed(ChannelName, ChannelDelta),
    Paused(ChannelName, bool),
}

impl Record {
    /// The record as the log takes it.
    pub(super) fn as_journal(&self) -> JournalRecord<'_> {
        match self {
            Self::Topic { fanout, paused, deferred } => {
                JournalRecord::Topic { fanout: *fanout, paused: *paused, deferred }
            }
            Self::Created(channel, state) => JournalRecord::ChannelCreated { channel, state },
            Self::Deleted(channel) => JournalRecord::ChannelDeleted { channel },
            Self::Changed(channel, delta) => JournalRecord::ChannelDelta { channel, delta },
            Self::Paused(channel, paused) => {
                JournalRecord::ChannelPaused { channel, paused: *paused }
            }
        }
    }
}

/// The broker's topic from the journal's, over a log that ends at `end`.
pub(super) fn recover_topic(state: &TopicState, end: u64) -> nsq_broker::TopicState {
    // Messages published after the last record of the journal are still to be given to the channels; each of them
    // passes over those that it has.
    let given = state.channels.iter().map(|(_, channel)| channel.end).min();
    let fanout = match given {
        Some(given) if !state.paused => given,
        _ => state.fanout,
    };
    nsq_broker::TopicState {
        end,
        fanout: fanout.min(end),
        paused: state.paused,
        channels: state.channels.len(),
        deferred: state
            .deferred
            .iter()
            .filter_map(|(range, delay)| {
                let range = range.start.max(fanout)..range.end;
                (!range.is_empty()).then_some((range, *delay))
            })
            .collect(),
    }
}

/// The messages that a paused topic had handed to its channels, from the first one that a channel's record lacks. Each
/// channel passes over those that it has. `None` if no record lacks any.
pub(super) fn handed_out_before_pause(state: &TopicState) -> Option<FanOut> {
    let given = state.channels.iter().map(|(_, channel)| channel.end).min()?;
    if !state.paused || given >= state.fanout {
        return None;
    }
    let clipped = state
        .deferred
        .iter()
        .map(|(range, delay)| (range.start.max(given)..range.end.min(state.fanout), *delay));
    let deferred = clipped.filter(|(range, _)| !range.is_empty()).collect();
    Some(FanOut { range: given..state.fanout, deferred })
}

pub(super) fn recover_channel(state: ChannelState) -> nsq_broker::ChannelState {
    nsq_broker::ChannelState {
        end: state.end,
        cursor: state.cursor,
        finished: state.finished,
        outstanding: state.outstanding.into_iter().map(from_journal).collect(),
        paused: state.paused,
    }
}

pub(super) fn channel_state(state: nsq_broker::ChannelState) -> ChannelState {
    ChannelState {
        end: state.end,
        cursor: state.cursor,
        finished: state.finished,
        outstanding: state.outstanding.into_iter().map(to_journal).collect(),
        paused: state.paused,
    }
}

pub(super) fn channel_delta(changes: nsq_broker::Changes) -> ChannelDelta {
    ChannelDelta {
        end: changes.end,
        cursor: changes.cursor,
        finished: changes.finished,
        outstanding: changes.outstanding.into_iter().map(to_journal).collect(),
    }
}

fn to_journal(it: nsq_broker::Outstanding) -> Outstanding {
    Outstanding { range: it.range, attempts: it.attempts, due_ns: it.due.map(|due| due.0) }
}

fn from_journal(it: Outstanding) -> nsq_broker::Outstanding {
    nsq_broker::Outstanding { range: it.range, attempts: it.attempts, due: it.due_ns.map(Time) }
}
