//! The state of a topic and its channels, as the journal stores it.

use std::{iter, ops::Range, time::Duration};

use nsq_protocol::ChannelName;

/// The state of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicState {
    /// Where a new channel starts.
    pub fanout: u64,
    /// Set while the topic is paused: channels get no further messages from it.
    pub paused: bool,
    /// Messages that were published to be delivered later, with the delay.
    pub deferred: Vec<(Range<u64>, Duration)>,
    /// The channels by name.
    pub channels: Vec<(ChannelName, ChannelState)>,
}

/// The state of a channel. Everything below `cursor` that is not outstanding is finished; everything from
/// `cursor` on waits for its first delivery, unless it is outstanding or finished ahead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelState {
    /// The end of the messages that the channel may read.
    pub end: u64,
    /// The first message that was never handed out.
    pub cursor: u64,
    /// Messages from `cursor` on that are finished already; in order, without overlap.
    pub finished: Vec<Range<u64>>,
    /// Messages that were handed out or deferred and are not finished; in order, without overlap.
    pub outstanding: Vec<Outstanding>,
    /// Set while the channel is paused.
    pub paused: bool,
}

/// Messages of a channel that are not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outstanding {
    /// Their sequence numbers.
    pub range: Range<u64>,
    /// The number of times they were delivered.
    pub attempts: u16,
    /// When they are to be delivered, in node time; `None` for at once.
    pub due_ns: Option<u64>,
}

/// A change of a channel. Messages that `cursor` passes have been delivered once, unless the previous state or the
/// other fields say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelDelta {
    /// The end of the messages that the channel may read.
    pub end: u64,
    /// The first message that was never handed out.
    pub cursor: u64,
    /// Messages that are finished. They stay so, whatever `outstanding` says.
    pub finished: Vec<Range<u64>>,
    /// Messages that were delivered again, requeued or deferred.
    pub outstanding: Vec<Outstanding>,
}

impl ChannelState {
    /// The messages before `end` that are not finished, in order, with the number of their deliveries so far.
    pub fn unfinished(&self, end: u64) -> Vec<(Range<u64>, u16)> {
        let outstanding = self.outstanding.iter().map(|it| (it.range.clone(), it.attempts));
        let mut unfinished: Vec<_> = outstanding.collect();
        let settled = self.outstanding.iter().map(|it| &it.range).chain(&self.finished);
        let mut settled: Vec<_> = settled.cloned().chain(iter::once(end..end)).collect();
        settled.sort_by_key(|range| range.start);
        let mut next = self.cursor;
        for range in settled {
            if next < range.start {
                unfinished.push((next..range.start, 0));
            }
            next = next.max(range.end);
        }
        for (range, _) in &mut unfinished {
            range.end = range.end.min(end);
        }
        unfinished.retain(|(range, _)| !range.is_empty());
        unfinished.sort_by_key(|(range, _)| range.start);
        unfinished
    }

    /// Cuts off what lies outside of `log`.
    pub(crate) fn fit(&mut self, log: &Range<u64>) {
        self.end = self.end.clamp(log.start, log.end);
        self.cursor = self.cursor.clamp(log.start, log.end);
        for entry in &mut self.outstanding {
            entry.range.start = entry.range.start.max(log.start);
            entry.range.end = entry.range.end.min(log.end);
        }
        self.outstanding.retain(|o| !o.range.is_empty());
        for range in &mut self.finished {
            *range = range.start.max(log.start)..range.end.min(log.end);
        }
        self.finished.retain(|range| !range.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_are_outstanding_messages_and_those_from_the_cursor_on() {
        let outstanding = |range, attempts| Outstanding { range, attempts, due_ns: None };
        let state = ChannelState {
            end: 20,
            cursor: 10,
            finished: vec![12..14, 19..30],
            outstanding: vec![outstanding(3..4, 2), outstanding(16..18, 1)],
            paused: false,
        };
        let expected = [(3..4, 2), (10..12, 0), (14..16, 0), (16..18, 1), (18..19, 0)];
        assert_eq!(state.unfinished(25), expected);
        assert_eq!(state.unfinished(17), [(3..4, 2), (10..12, 0), (14..16, 0), (16..17, 1)]);
        assert_eq!(state.unfinished(11), [(3..4, 2), (10..11, 0)]);
    }
}
