//! What a channel could deliver at once: messages never delivered, and messages to deliver again.
//!
//! The two take turns, so that messages requeued in a loop do not hold up new ones, nor the other
//! way round.

use std::collections::VecDeque;
use std::ops::Range;

/// Which of the two queues a hand-out comes from.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Source {
    /// Never delivered; normally one range up to the end.
    Pending,
    /// To be delivered again, or deferred and due, in the order of becoming ready.
    Requeued,
}

/// Consecutive messages that were delivered equally often.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) range: Range<u64>,
    pub(crate) attempts: u16,
}

#[derive(Debug)]
pub(crate) struct Ready {
    pending: VecDeque<Range<u64>>,
    requeued: VecDeque<Run>,
    count: u64,
    turn: Source,
}

impl Ready {
    pub(crate) fn new() -> Ready {
        let (pending, requeued) = (VecDeque::new(), VecDeque::new());
        Ready { pending, requeued, count: 0, turn: Source::Requeued }
    }

    /// How many messages are ready.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// How many of them are below `seq`.
    pub(crate) fn below(&self, seq: u64) -> u64 {
        let requeued = self.requeued.iter().map(|run| &run.range);
        let clipped = self.pending.iter().chain(requeued);
        clipped.map(|range| range.end.min(seq).saturating_sub(range.start)).sum()
    }

    /// The number of runs, for tests of what they cost.
    #[cfg(test)]
    pub(crate) fn run_count(&self) -> usize {
        self.pending.len() + self.requeued.len()
    }

    /// The first message never delivered.
    pub(crate) fn first_pending(&self) -> Option<u64> {
        self.pending.front().map(|range| range.start)
    }

    /// The messages never delivered, ascending.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &Range<u64>> {
        self.pending.iter()
    }

    /// Adds messages never delivered. They are above all that were added before.
    pub(crate) fn push_pending(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        self.count += range.end - range.start;
        match self.pending.back_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.pending.push_back(range),
        }
    }

    /// Adds a run to deliver again. Returns the start of the run it became a part of, if it did.
    pub(crate) fn push_requeued(&mut self, run: Run) -> Option<u64> {
        self.count += run.range.end - run.range.start;
        if let Some(last) = self.requeued.back_mut()
            && last.range.end == run.range.start
            && last.attempts == run.attempts
        {
            last.range.end = run.range.end;
            return Some(last.range.start);
        }
        self.requeued.push_back(run);
        None
    }

    /// The run whose turn it is.
    pub(crate) fn front(&self) -> Option<(Source, Run)> {
        let other = match self.turn {
            Source::Pending => Source::Requeued,
            Source::Requeued => Source::Pending,
        };
        let run = |source| self.front_of(source).map(|run| (source, run));
        run(self.turn).or_else(|| run(other))
    }

    /// The first run of `source`.
    pub(crate) fn front_of(&self, source: Source) -> Option<Run> {
        match source {
            Source::Pending => {
                self.pending.front().map(|range| Run { range: range.clone(), attempts: 0 })
            }
            Source::Requeued => self.requeued.front().cloned(),
        }
    }

    /// Removes the first `count` messages of the first run of `source`; the other's turn is next.
    pub(crate) fn advance(&mut self, source: Source, count: u64) {
        let (front, turn) = match source {
            Source::Pending => (self.pending.front_mut(), Source::Requeued),
            Source::Requeued => {
                (self.requeued.front_mut().map(|run| &mut run.range), Source::Pending)
            }
        };
        let Some(range) = front else { return };
        debug_assert!(count <= range.end - range.start);
        range.start += count;
        self.count -= count;
        self.turn = turn;
        if range.is_empty() {
            match source {
                Source::Pending => _ = self.pending.pop_front(),
                Source::Requeued => _ = self.requeued.pop_front(),
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Ready::new();
    }
}
