//! Cold reads: messages that are no longer in memory, read ahead of the consumer.

use std::collections::VecDeque;

use nsq_broker::Offer;
use nsq_log::{Chunk, Read, Slice};

/// The part of a backlog that is read at once.
const AHEAD_BYTES: usize = 1 << 20;
/// The bytes wanted of a requeued or deferred message: its neighbours are hardly needed.
const ASIDE_BYTES: usize = 1;

/// The cold reads of one channel: at most two pieces of its backlog, and one of what was put aside.
#[derive(Debug, Default)]
pub(super) struct ColdReads {
    ahead: VecDeque<Chunk>,
    aside: Option<Chunk>,
    loading: bool,
    /// Loads that failed since one succeeded.
    failures: u32,
}

impl ColdReads {
    /// Reads from the loaded chunks; [`Read::Cold`] when they do not hold the first message.
    pub(super) fn read(
        &mut self,
        offer: &Offer,
        bytes_max: usize,
        slices: &mut Vec<Slice>,
    ) -> Read {
        let first = offer.range.start;
        if !offer.was_put_aside() {
            while self.ahead.front().is_some_and(|chunk| chunk.range().end <= first) {
                self.ahead.pop_front();
            }
        }
        let chunk =
            self.ahead.iter().chain(&self.aside).find(|chunk| chunk.range().contains(&first));
        chunk.map_or(Read::Cold, |chunk| chunk.read(offer.range.clone(), bytes_max, slices))
    }

    /// Where to load from next, and how much, given that memory holds everything from `tail_start`; `None` when
    /// there is enough or a load is under way. The caller has to load it and report. `sparing` leaves out what is not
    /// needed yet.
    pub(super) fn wanted(
        &mut self,
        offer: &Offer,
        tail_start: u64,
        sparing: bool,
    ) -> Option<(u64, usize)> {
        if self.loading {
            return None;
        }
        let first = offer.range.start;
        let holds = |chunk: &Chunk| chunk.range().contains(&first);
        let wanted = if offer.was_put_aside() {
            let held = self.ahead.iter().chain(&self.aside).any(holds);
            (!held).then_some((first, ASIDE_BYTES))
        } else if !self.ahead.iter().any(holds) {
            self.ahead.clear();
            Some((first, AHEAD_BYTES))
        } else {
            let next = self.ahead.back().map_or(first, |chunk| chunk.range().end);
            (self.ahead.len() < 2 && next < tail_start && !sparing).then_some((next, AHEAD_BYTES))
        };
        self.loading = wanted.is_some();
        wanted
    }

    /// Takes what was loaded, for an offer that was put aside or for what comes next; `None` if it is not wanted
    /// any more.
    pub(super) fn loaded(&mut self, chunk: Option<Chunk>, put_aside: bool) {
        self.loading = false;
        self.failures = 0;
        if put_aside {
            self.aside = chunk;
        } else {
            self.ahead.extend(chunk);
        }
    }

    /// Notes a failed load; returns how many have failed in a row. One that failed for a shortage does not count.
    pub(super) fn failed(&mut self, is_temporary: bool) -> u32 {
        self.loading = false;
        self.failures += u32::from(!is_temporary);
        self.failures
    }

    /// Frees the loaded chunks.
    pub(super) fn release(&mut self) {
        self.ahead = VecDeque::new();
        self.aside = None;
    }
}
