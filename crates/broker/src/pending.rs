//! The messages never delivered.

use std::{collections::VecDeque, ops::Range};

use crate::run::Run;

/// The messages never delivered, ascending; normally one range up to the channel's end.
#[derive(Default, Debug)]
pub(crate) struct Pending {
    ranges: VecDeque<Range<u64>>,
    count: u64,
}

impl Pending {
    /// The number of messages.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The number of messages below `seq`.
    pub(crate) fn below(&self, seq: u64) -> u64 {
        let clipped = |range: &Range<u64>| range.end.min(seq).saturating_sub(range.start);
        self.ranges.iter().map(clipped).sum()
    }

    /// The number of ranges, for tests of their cost.
    #[cfg(test)]
    pub(crate) fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// The first message.
    pub(crate) fn first(&self) -> Option<u64> {
        self.ranges.front().map(|range| range.start)
    }

    /// The messages, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.ranges.iter().cloned()
    }

    /// Adds messages, which are above all that were added before.
    pub(crate) fn push(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        self.count += range.end - range.start;
        match self.ranges.back_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.ranges.push_back(range),
        }
    }

    /// The first messages without a gap between them.
    pub(crate) fn front(&self) -> Option<Run> {
        let range = self.ranges.front()?;
        Some(Run { from: range.start, to: range.end, attempts: 0, changed: false })
    }

    /// Removes the first `count` messages, all of which are in the front run.
    pub(crate) fn advance(&mut self, count: u64) {
        let Some(range) = self.ranges.front_mut() else { return };
        debug_assert!(count <= range.end - range.start);
        range.start += count;
        self.count -= count;
        if range.is_empty() {
            self.ranges.pop_front();
        }
    }
}
