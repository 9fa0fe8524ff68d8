//! The record of received messages, one bit for each, shared by the consumers of a run.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use crate::{clock::now, failure::Failure, wire};

/// The share of the messages over which the rate is taken, in percent.
///
/// A server may hold the last few messages in an output buffer for as long as it likes; that is
/// latency, which has its own row, not throughput.
const RATED_PERCENT: usize = 95;

/// Counts messages and duplicates, and knows when all have been received.
pub(crate) struct Ledger {
    words: Vec<AtomicU64>,
    expected: usize,
    received: AtomicUsize,
    distinct: AtomicUsize,
    rated: OnceLock<(usize, Instant)>,
}

impl Ledger {
    /// Creates a ledger for the sequence numbers below `expected`.
    pub(crate) fn new(expected: usize) -> Self {
        let words = (0..expected.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self { words, ..Self::counting(expected) }
    }

    /// Creates a ledger for `expected` messages with any content.
    pub(crate) fn counting(expected: usize) -> Self {
        Self {
            words: Vec::new(),
            expected,
            received: AtomicUsize::new(0),
            distinct: AtomicUsize::new(0),
            rated: OnceLock::new(),
        }
    }

    /// Returns a page for one consumer.
    pub(crate) fn page(&self) -> Page<'_> {
        Page { ledger: self, word: 0, mask: 0, received: 0, distinct: 0 }
    }

    /// Returns whether every expected message has been received.
    pub(crate) fn is_complete(&self) -> bool {
        self.distinct.load(Ordering::Relaxed) >= self.expected
    }

    /// Returns the number of messages received more than once.
    pub(crate) fn duplicates(&self) -> usize {
        self.received.load(Ordering::Relaxed) - self.distinct.load(Ordering::Relaxed)
    }

    /// Returns the messages per second since `start`, without the tail.
    pub(crate) fn rate_since(&self, start: Instant) -> f64 {
        self.rated.get().map_or(0.0, |(count, at)| *count as f64 / (*at - start).as_secs_f64())
    }
}

/// One consumer's unsaved marks. Consecutive numbers are gathered and saved one word at a time.
pub(crate) struct Page<'a> {
    ledger: &'a Ledger,
    word: usize,
    mask: u64,
    received: usize,
    distinct: usize,
}

impl Page<'_> {
    /// Marks the message with this body as received.
    ///
    /// # Errors
    /// Returns [`Failure::Wrong`] for a body that was not published.
    #[inline]
    pub(crate) fn mark(&mut self, body: &[u8]) -> Result<(), Failure> {
        self.received += 1;
        if self.ledger.words.is_empty() {
            self.distinct += 1;
            return Ok(());
        }
        let seq = wire::seq_of(body).filter(|seq| *seq < self.ledger.expected);
        let Some(seq) = seq else {
            return Err(Failure::Wrong(format!(
                "a body of {} bytes that was not published",
                body.len()
            )));
        };
        if self.word != seq / 64 {
            self.save_word();
            self.word = seq / 64;
        }
        let bit = 1 << (seq % 64);
        self.distinct += usize::from(self.mask & bit == 0);
        self.mask |= bit;
        Ok(())
    }

    fn save_word(&mut self) {
        if self.mask != 0 {
            let before = self.ledger.words[self.word].fetch_or(self.mask, Ordering::Relaxed);
            self.distinct -= (before & self.mask).count_ones() as usize;
            self.mask = 0;
        }
    }

    /// Adds the marks to the ledger; called once for each read.
    pub(crate) fn save(&mut self) {
        self.save_word();
        if self.received == 0 {
            return;
        }
        let ledger = self.ledger;
        ledger.received.fetch_add(self.received, Ordering::Relaxed);
        let distinct = ledger.distinct.fetch_add(self.distinct, Ordering::Relaxed) + self.distinct;
        if distinct * 100 >= ledger.expected * RATED_PERCENT {
            ledger.rated.get_or_init(|| (distinct, now()));
        }
        self.received = 0;
        self.distinct = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(page: &mut Page<'_>, seqs: impl IntoIterator<Item = u64>) {
        for seq in seqs {
            page.mark(&seq.to_be_bytes()).unwrap();
        }
        page.save();
    }

    #[test]
    fn a_repeated_message_counts_as_a_duplicate_and_not_as_progress() {
        let ledger = Ledger::new(100);
        let (mut one, mut two) = (ledger.page(), ledger.page());
        mark(&mut one, 0..60);
        mark(&mut two, 50..99);
        mark(&mut one, [3, 3]);
        assert_eq!(ledger.duplicates(), 12);
        assert!(!ledger.is_complete());
        mark(&mut two, [99]);
        assert!(ledger.is_complete());
    }

    #[test]
    fn a_message_that_was_not_published_is_an_error() {
        let ledger = Ledger::new(10);
        assert!(ledger.page().mark(&10_u64.to_be_bytes()).is_err());
        assert!(ledger.page().mark(b"short").is_err());
    }
}
