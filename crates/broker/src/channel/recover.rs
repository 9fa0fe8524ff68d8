//! A channel's changes and state for the journal, and its recovery from them.

use std::ops::Range;

use super::{Channel, ChannelConfig};
use crate::{
    Changes, ChannelState, Outstanding, changes::push_joining, range_set::RangeSet, run::Run,
};

impl Channel {
    /// Recreates a channel, without clients and with counters at zero. Messages that were in flight
    /// are ready for redelivery. Ranges may be in any order; where they overlap, `finished` wins,
    /// then the lower start.
    pub fn recover(config: ChannelConfig, state: ChannelState) -> Channel {
        let ChannelState { end, cursor, finished, mut outstanding, paused } = state;
        let mut channel = Channel::new(config, end);
        channel.paused = paused;
        outstanding.sort_by_key(|it| it.range.start);
        let mut settled = RangeSet::default();
        for range in finished {
            settled.insert(range);
        }
        // Ascending, so that each message costs the same however many there are.
        let (mut next, mut cursor) = (0, cursor.min(end));
        for Outstanding { range, attempts, due } in outstanding {
            let range = range.start.max(next)..range.end.min(end);
            if range.is_empty() {
                continue;
            }
            next = range.end;
            channel.add_pending_between(cursor..range.start, &settled);
            cursor = cursor.max(range.end);
            for Range { start: from, end: to } in settled.gaps(range) {
                let run = Run { from, to, attempts, changed: false };
                match due {
                    Some(due) => channel.aside.defer(run, due),
                    None => channel.aside.push_ready(run),
                }
            }
        }
        channel.add_pending_between(cursor..end, &settled);
        channel.unreported.told = (end, channel.cursor());
        channel
    }

    /// The state that survives a restart. Messages in flight appear as ready for redelivery.
    pub fn state(&self) -> ChannelState {
        let cursor = self.cursor();
        let mut outstanding = Vec::new();
        let in_flight = self.in_flight.iter().map(|run| run.report(None));
        for it in merge(in_flight, self.aside.iter(), |it| it.range.start) {
            push_joining(&mut outstanding, it);
        }
        let above = outstanding.partition_point(|it| it.range.end <= cursor);
        let above = outstanding[above..].iter().map(|it| it.range.clone());
        let unfinished = merge(self.pending.iter(), above, |range| range.start);
        ChannelState {
            end: self.end,
            cursor,
            finished: gaps(cursor..self.end, unfinished),
            outstanding,
            paused: self.paused,
        }
    }

    /// Returns whether [`Channel::changes`] has anything to tell.
    pub fn has_changes(&self) -> bool {
        let unreported = &self.unreported;
        unreported.reset
            || !unreported.finished.is_empty()
            || self.in_flight.has_changed()
            || self.aside.has_changed()
            || unreported.told != (self.end, self.cursor())
    }

    /// Removes and returns the changes since the last call. Not calling it costs nothing: the changes
    /// collected are bounded by the messages not finished.
    pub fn changes(&mut self) -> Changes {
        let mut aside = Vec::new();
        self.aside.take_changed(|it| aside.push(it));
        let in_flight = self.in_flight.take_changed().map(|run| run.report(None));
        let mut outstanding = Vec::new();
        for it in merge(in_flight, aside.into_iter(), |it| it.range.start) {
            push_joining(&mut outstanding, it);
        }
        let (end, cursor) = (self.end, self.cursor());
        self.unreported.told = (end, cursor);
        Changes {
            end,
            cursor,
            finished: self.unreported.finished.drain(),
            outstanding,
            reset: std::mem::take(&mut self.unreported.reset),
        }
    }

    /// The first message never delivered.
    fn cursor(&self) -> u64 {
        self.pending.first().unwrap_or(self.end)
    }

    /// Adds those messages in `range` as never delivered that are not finished.
    fn add_pending_between(&mut self, range: Range<u64>, finished: &RangeSet) {
        if !range.is_empty() {
            finished.gaps(range).into_iter().for_each(|range| self.pending.push(range));
        }
    }
}

/// Merges two ascending iterators into one.
fn merge<T>(
    a: impl Iterator<Item = T>,
    b: impl Iterator<Item = T>,
    key: impl Fn(&T) -> u64,
) -> impl Iterator<Item = T> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    std::iter::from_fn(move || match (a.peek(), b.peek()) {
        (Some(left), Some(right)) if key(right) < key(left) => b.next(),
        (Some(_), _) => a.next(),
        (None, _) => b.next(),
    })
}

/// The parts of `range` between ascending ranges that end above its start.
fn gaps(range: Range<u64>, taken: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut gaps = Vec::new();
    let mut next = range.start;
    for taken in taken {
        if next < taken.start {
            gaps.push(next..taken.start);
        }
        next = taken.end;
    }
    if next < range.end {
        gaps.push(next..range.end);
    }
    gaps
}
