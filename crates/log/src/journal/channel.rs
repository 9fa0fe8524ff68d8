//! A channel's state during replay, in ordered maps: applying a delta costs the size of the delta.

use std::{collections::BTreeMap, ops::Range};

use super::encode::NO_DUE_TIME;
use crate::state::{ChannelDelta, ChannelState, Outstanding};

/// A [`ChannelState`] that is being replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ReplayedChannel {
    pub(super) end: u64,
    pub(super) cursor: u64,
    pub(super) paused: bool,
    /// Ends of the ranges finished ahead of the cursor, by their starts.
    finished: BTreeMap<u64, u64>,
    /// Outstanding ranges by their starts, without overlap.
    outstanding: BTreeMap<u64, Entry>,
}

/// An [`Outstanding`] without its start: a million of them must stay small.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Entry {
    end: u64,
    due_ns: u64,
    attempts: u16,
}

impl Entry {
    fn at(self, start: u64) -> Outstanding {
        let due_ns = (self.due_ns != NO_DUE_TIME).then_some(self.due_ns);
        Outstanding { range: start..self.end, attempts: self.attempts, due_ns }
    }
}

fn entry(it: Outstanding) -> (u64, Entry) {
    let due_ns = it.due_ns.unwrap_or(NO_DUE_TIME);
    (it.range.start, Entry { end: it.range.end, due_ns, attempts: it.attempts })
}

impl ReplayedChannel {
    /// The channel of a whole state, of which `part` came ahead.
    pub(super) fn from_state(part: Vec<Outstanding>, state: ChannelState) -> Self {
        Self {
            end: state.end,
            cursor: state.cursor,
            paused: state.paused,
            finished: state.finished.into_iter().map(|range| (range.start, range.end)).collect(),
            outstanding: part.into_iter().chain(state.outstanding).map(entry).collect(),
        }
    }

    /// The outstanding messages in order.
    pub(super) fn outstanding(&self) -> impl ExactSizeIterator<Item = Outstanding> + '_ {
        self.outstanding.iter().map(|(start, entry)| entry.at(*start))
    }

    /// The first message that is not finished.
    pub(super) fn low(&self) -> u64 {
        self.outstanding.keys().next().map_or(self.cursor, |first| self.cursor.min(*first))
    }

    /// The ranges finished ahead of the cursor, in order.
    pub(super) fn finished(&self) -> Vec<Range<u64>> {
        self.finished.iter().map(|(start, end)| *start..*end).collect()
    }

    pub(super) fn into_state(self) -> ChannelState {
        ChannelState {
            end: self.end,
            cursor: self.cursor,
            finished: self.finished(),
            outstanding: self.outstanding.into_iter().map(|(start, it)| it.at(start)).collect(),
            paused: self.paused,
        }
    }

    pub(super) fn apply(&mut self, delta: ChannelDelta) {
        self.end = self.end.max(delta.end);
        self.pass(delta.cursor);
        for it in delta.outstanding.into_iter().filter(|it| !it.range.is_empty()) {
            self.settle(&it.range);
            let (start, entry) = entry(it);
            self.outstanding.insert(start, entry);
        }
        for range in delta.finished {
            self.settle(&range);
            self.finish_ahead(range.start.max(self.cursor)..range.end);
        }
    }

    /// Moves the cursor. Messages that it passes were delivered once, unless they were outstanding or finished
    /// before.
    fn pass(&mut self, cursor: u64) {
        let mut from = self.cursor;
        while from < cursor {
            if let Some(end) = self.known_end(from) {
                from = end;
                continue;
            }
            let until = self.next_known(from).map_or(cursor, |start| start.min(cursor));
            let first_delivery = Entry { end: until, due_ns: NO_DUE_TIME, attempts: 1 };
            self.outstanding.insert(from, first_delivery);
            from = until;
        }
        self.cursor = self.cursor.max(cursor);
        while let Some(first) = self.finished.first_entry().filter(|it| *it.key() < self.cursor) {
            let end = first.remove();
            if end > self.cursor {
                self.finished.insert(self.cursor, end);
            }
        }
    }

    /// The end of the outstanding or finished range that holds `seq`.
    fn known_end(&self, seq: u64) -> Option<u64> {
        let outstanding = self.outstanding.range(..=seq).next_back().map(|(_, entry)| entry.end);
        let finished = self.finished.range(..=seq).next_back().map(|(_, end)| *end);
        outstanding.max(finished).filter(|end| *end > seq)
    }

    /// The start of the first outstanding or finished range behind `seq`.
    fn next_known(&self, seq: u64) -> Option<u64> {
        let outstanding = self.outstanding.range(seq..).next().map(|(start, _)| *start);
        let finished = self.finished.range(seq..).next().map(|(start, _)| *start);
        outstanding.into_iter().chain(finished).min()
    }

    /// Takes a range out of the outstanding set, splitting the entries at its edges.
    fn settle(&mut self, range: &Range<u64>) {
        if range.is_empty() {
            return;
        }
        let before = self.outstanding.range_mut(..range.start).next_back();
        if let Some((_, entry)) = before.filter(|(_, entry)| entry.end > range.start) {
            let rest = *entry;
            entry.end = range.start;
            if rest.end > range.end {
                self.outstanding.insert(range.end, rest);
                return;
            }
        }
        while let Some((&start, &entry)) = self.outstanding.range(range.clone()).next() {
            self.outstanding.remove(&start);
            if entry.end > range.end {
                self.outstanding.insert(range.end, entry);
            }
        }
    }

    /// Adds a range finished ahead of the cursor, joining those that it touches.
    fn finish_ahead(&mut self, mut range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        while let Some((&start, &end)) = self.finished.range(..=range.end).next_back() {
            if end < range.start {
                break;
            }
            self.finished.remove(&start);
            range = range.start.min(start)..range.end.max(end);
        }
        self.finished.insert(range.start, range.end);
    }
}
