//! Between the broker's picture of a topic and the journal's: the two crates do not know each other.

use std::sync::Arc;

use nsq_broker::Time;
use nsq_log::{ChannelDelta, ChannelState, Outstanding, TopicState};
use nsq_protocol::ChannelName;

use crate::topic::channel::Channel;

/// The state of a topic as the journal keeps it. Ephemeral channels are not kept.
pub(crate) fn snapshot<'a>(
    fan: &nsq_broker::Topic,
    paused: bool,
    channels: impl Iterator<Item = &'a Arc<Channel>>,
) -> TopicState {
    let durable = channels.filter(|channel| !channel.name.is_ephemeral());
    let channels = durable.map(|channel| (channel.name.clone(), channel.journal_state())).collect();
    let fan = fan.state();
    TopicState { fanout: fan.fanout, paused, deferred: fan.deferred, channels }
}

/// What changed in the durable channels since the last time.
pub(crate) fn changes<'a>(
    channels: impl Iterator<Item = &'a Arc<Channel>>,
) -> Vec<(ChannelName, ChannelDelta)> {
    // Ephemeral channels are asked too, or they would not tell when there is something to release.
    let deltas =
        channels.filter_map(|channel| Some((channel.name.clone(), channel.journal_delta()?)));
    deltas.filter(|(name, _)| !name.is_ephemeral()).collect()
}

/// The broker's topic from the journal's, over a log that ends at `end`.
pub(crate) fn recover_topic(state: &TopicState, end: u64) -> nsq_broker::TopicState {
    // What was published after the journal was last written is still to be given to the channels; each of them
    // passes over what it has.
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

pub(crate) fn recover_channel(state: &ChannelState) -> nsq_broker::ChannelState {
    nsq_broker::ChannelState {
        end: state.end,
        cursor: state.cursor,
        finished: state.finished.clone(),
        outstanding: state.outstanding.iter().map(from_journal).collect(),
        paused: state.paused,
    }
}

pub(crate) fn channel_state(state: nsq_broker::ChannelState) -> ChannelState {
    ChannelState {
        end: state.end,
        cursor: state.cursor,
        finished: state.finished,
        outstanding: state.outstanding.into_iter().map(to_journal).collect(),
        paused: state.paused,
    }
}

pub(crate) fn channel_delta(changes: nsq_broker::Changes) -> ChannelDelta {
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

fn from_journal(it: &Outstanding) -> nsq_broker::Outstanding {
    nsq_broker::Outstanding {
        range: it.range.clone(),
        attempts: it.attempts,
        due: it.due_ns.map(Time),
    }
}
