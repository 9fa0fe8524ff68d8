//! The state of a channel that survives a restart, and how it follows from the channel's changes.

use std::{collections::BTreeMap, ops::Range};

use crate::{Changes, Outstanding, Time, changes::push_joining, range_set::RangeSet};

/// The state of a [`crate::Channel`] that survives a restart.
///
/// A message below `cursor` is finished unless it is in `outstanding`. A message from `cursor` on
/// is waiting for its first delivery unless it is in `outstanding` or `finished`.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct ChannelState {
    /// One past the last message the channel was given.
    pub end: u64,
    /// Messages from here on have never been delivered, unless another field says otherwise.
    pub cursor: u64,
    /// Messages from `cursor` on that are finished nevertheless, ascending: deferred publishes
    /// that were due before those in front of them were delivered. Normally empty.
    pub finished: Vec<Range<u64>>,
    /// Messages that are in flight, requeued or deferred, ascending. Without `due` they are ready.
    pub outstanding: Vec<Outstanding>,
    /// Set while the channel is paused.
    pub paused: bool,
}

impl ChannelState {
    /// Forgets all messages from `end` on, for a log that turned out to be shorter than what the
    /// channel had seen. Messages appended there later are new to the channel.
    pub fn truncate(&mut self, end: u64) {
        self.end = self.end.min(end);
        self.cursor = self.cursor.min(end);
        self.finished.retain_mut(|range| clip(range, end));
        self.outstanding.retain_mut(|it| clip(&mut it.range, end));
    }
}

/// Shortens `range` to its part below `end`; returns false when nothing is left.
fn clip(range: &mut Range<u64>, end: u64) -> bool {
    range.end = range.end.min(end);
    !range.is_empty()
}

/// Folds [`Changes`] into a [`ChannelState`].
///
/// ```
/// use nsq_broker::{Changes, ChannelState, Outstanding, Replay};
///
/// let mut replay = Replay::new(ChannelState::default());
/// let delivered = Changes { end: 10, cursor: 4, ..Changes::default() };
/// let finished = Changes { end: 10, cursor: 4, finished: vec![0..3], ..Changes::default() };
/// for changes in [&delivered, &finished, &delivered] {
///     replay.apply(changes);
/// }
/// let state = replay.state();
/// assert_eq!((state.cursor, state.end), (4, 10));
/// assert_eq!(state.outstanding, [Outstanding { range: 3..4, attempts: 1, due: None }]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Replay {
    end: u64,
    cursor: u64,
    paused: bool,
    finished: RangeSet,
    /// The unfinished messages that were reported: start to end, attempts and due time.
    known: BTreeMap<u64, (u64, u16, Option<Time>)>,
}

impl Replay {
    /// Starts from `state`, whose lists may be in any order.
    pub fn new(state: ChannelState) -> Replay {
        let ChannelState { end, cursor, finished, outstanding, paused } = state;
        let mut replay = Replay { end, cursor, paused, ..Replay::default() };
        let mut unfinished = RangeSet::default();
        for it in &outstanding {
            unfinished.insert(it.range.clone());
        }
        for range in unfinished.gaps(0..cursor).into_iter().chain(finished) {
            replay.finished.insert(range);
        }
        for it in &outstanding {
            replay.learn(it);
        }
        replay
    }

    /// Applies changes; they may have been applied before.
    pub fn apply(&mut self, changes: &Changes) {
        self.end = self.end.max(changes.end);
        self.cursor = self.cursor.max(changes.cursor);
        for range in &changes.finished {
            self.finished.insert(range.clone());
            self.forget(range);
        }
        for it in &changes.outstanding {
            self.learn(it);
        }
    }

    /// The state that follows from the changes so far.
    pub fn state(&self) -> ChannelState {
        let mut outstanding = Vec::new();
        let cursor = self.cursor.min(self.end);
        for gap in self.finished.gaps(0..cursor) {
            let mut next = gap.start;
            for known in self.known_within(gap.clone()) {
                let delivered =
                    Outstanding { range: next..known.range.start, attempts: 1, due: None };
                next = known.range.end;
                if !delivered.range.is_empty() {
                    push_joining(&mut outstanding, delivered);
                }
                push_joining(&mut outstanding, known);
            }
            if next < gap.end {
                let delivered = Outstanding { range: next..gap.end, attempts: 1, due: None };
                push_joining(&mut outstanding, delivered);
            }
        }
        for known in self.known_within(cursor..self.end) {
            push_joining(&mut outstanding, known);
        }
        ChannelState {
            end: self.end,
            cursor,
            finished: self.finished.within(cursor..self.end).collect(),
            outstanding,
            paused: self.paused,
        }
    }

    /// Records attempts and due time of those messages that are not finished.
    fn learn(&mut self, it: &Outstanding) {
        for gap in self.finished.gaps(it.range.clone()) {
            self.forget(&gap);
            self.known.insert(gap.start, (gap.end, it.attempts, it.due));
        }
    }

    /// Removes the record of the messages in `range`.
    fn forget(&mut self, range: &Range<u64>) {
        if range.is_empty() {
            return;
        }
        let left = self.known.range_mut(..range.start).next_back();
        if let Some((_, (end, attempts, due))) = left
            && *end > range.start
        {
            let right = (*end, *attempts, *due);
            *end = range.start;
            if right.0 > range.end {
                self.known.insert(range.end, right);
                return;
            }
        }
        while let Some((&from, &(end, attempts, due))) = self.known.range(range.clone()).next() {
            self.known.remove(&from);
            if end > range.end {
                self.known.insert(range.end, (end, attempts, due));
            }
        }
    }

    /// The records of the messages in `range`, ascending and clipped to it.
    fn known_within(&self, range: Range<u64>) -> impl Iterator<Item = Outstanding> {
        let before = self.known.range(..range.start).next_back();
        before.into_iter().chain(self.known.range(range.clone())).filter_map(
            move |(&from, &(to, attempts, due))| {
                let range = from.max(range.start)..to.min(range.end);
                (!range.is_empty()).then_some(Outstanding { range, attempts, due })
            },
        )
    }
}
