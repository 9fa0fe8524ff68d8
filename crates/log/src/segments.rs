//! The live segments of a topic and the ranges known to be lost, behind a lock of their own.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Acquire, Ordering::Release},
    },
};

use crate::{
    holes::Holes,
    lock,
    segment::{Segment, SegmentSpan},
};

/// The live segments of a topic, oldest first. No call does I/O, so the lock is held only for moments.
#[derive(Debug)]
pub(crate) struct Segments {
    table: Mutex<Table>,
    /// Copies of positions in the table that are read without the lock.
    first: AtomicU64,
    second: AtomicU64,
}

/// Segments and holes, as recovery found them.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) segments: Vec<Arc<Segment>>,
    holes: Holes,
}

/// A live segment and the sequence number after its last message; `None` while it is the newest.
pub(crate) type Bounded = (Arc<Segment>, Option<u64>);

impl Segments {
    /// Takes over what recovery found in a log that ends at `end`.
    pub(crate) fn new(table: Table, end: u64) -> Self {
        let segments =
            Self { table: Mutex::default(), first: AtomicU64::new(end), second: AtomicU64::new(0) };
        segments.mark(&table, end);
        *lock(&segments.table) = table;
        segments
    }

    /// The sequence number of the first message kept.
    pub(crate) fn first(&self) -> u64 {
        self.first.load(Acquire)
    }

    /// The start of the second segment, below which nothing can be released; `u64::MAX` when there is none.
    pub(crate) fn second(&self) -> u64 {
        self.second.load(Acquire)
    }

    /// Adds the segment that begins at the end of the log.
    pub(crate) fn push(&self, segment: Arc<Segment>) {
        let end = segment.first;
        let mut table = lock(&self.table);
        table.segments.push(segment);
        self.mark(&table, end);
    }

    /// The segment that holds message `seq`.
    pub(crate) fn holding(&self, seq: u64) -> Option<Bounded> {
        let table = lock(&self.table);
        let at = table.segments.partition_point(|segment| segment.first <= seq).checked_sub(1)?;
        let next = table.segments.get(at + 1).map(|segment| segment.first);
        Some((Arc::clone(table.segments.get(at)?), next))
    }

    /// All segments, oldest first.
    pub(crate) fn all(&self) -> Vec<Bounded> {
        let table = lock(&self.table);
        let ends = table.segments.iter().skip(1).map(|next| Some(next.first)).chain([None]);
        table.segments.iter().map(Arc::clone).zip(ends).collect()
    }

    /// Returns true if the segment with this number is live.
    pub(crate) fn contains(&self, number: u32) -> bool {
        lock(&self.table).segments.iter().any(|segment| segment.number == number)
    }

    /// The span of the segment with this key; `log_end` is read while no segment can be added.
    pub(crate) fn span(&self, key: u32, log_end: impl FnOnce() -> u64) -> Option<SegmentSpan> {
        let table = lock(&self.table);
        let at = table.segments.iter().rposition(|segment| segment.key == key)?;
        let end = table.segments.get(at + 1).map_or_else(log_end, |next| next.first);
        Some(SegmentSpan { key, first: table.segments.get(at)?.first, end })
    }

    /// The newest segment.
    pub(crate) fn newest(&self) -> Option<Arc<Segment>> {
        lock(&self.table).segments.last().cloned()
    }

    /// Bytes of the newest segment file; 0 when there is none.
    pub(crate) fn newest_bytes(&self) -> u64 {
        lock(&self.table).segments.last().map_or(0, |newest| newest.extent().bytes)
    }

    /// Takes out the segments that lie wholly before message `low`; the newest stays.
    pub(crate) fn release(&self, low: u64) -> Vec<Arc<Segment>> {
        let mut table = lock(&self.table);
        let count = table.segments.iter().skip(1).take_while(|next| next.first <= low).count();
        let released: Vec<_> = table.segments.drain(..count).collect();
        let first = table.segments.first().map_or(low, |segment| segment.first);
        table.holes.forget(first);
        self.mark(&table, low);
        released
    }

    /// Takes out all segments of a log that ends at `end`.
    pub(crate) fn clear(&self, end: u64) -> Vec<Arc<Segment>> {
        let mut table = lock(&self.table);
        let released = std::mem::take(&mut *table).segments;
        self.mark(&table, end);
        released
    }

    /// Notes that a range is lost. Returns how many of its messages were not known to be.
    pub(crate) fn add_hole(&self, hole: Range<u64>) -> u64 {
        lock(&self.table).add_hole(hole)
    }

    /// The end of the hole that holds `seq`.
    pub(crate) fn hole_end(&self, seq: u64) -> Option<u64> {
        lock(&self.table).holes.at(seq).map(|hole| hole.end)
    }

    /// The start of the first hole after `seq`.
    pub(crate) fn next_hole(&self, seq: u64) -> Option<u64> {
        lock(&self.table).holes.next(seq)
    }

    /// The first message from `seq` on that is neither deleted nor known to be lost.
    pub(crate) fn skip_lost(&self, seq: u64, written: u64) -> u64 {
        let table = lock(&self.table);
        let kept_from = table.segments.first().map_or(written, |segment| segment.first);
        let seq = seq.max(kept_from);
        table.holes.at(seq).map_or(seq, |hole| hole.end)
    }

    fn mark(&self, table: &Table, end: u64) {
        let start = |at: usize| table.segments.get(at).map(|segment| segment.first);
        self.first.store(start(0).unwrap_or(end), Release);
        self.second.store(start(1).unwrap_or(u64::MAX), Release);
    }
}

impl Table {
    /// Notes that a range is lost. Returns how many of its messages were not known to be.
    pub(crate) fn add_hole(&mut self, hole: Range<u64>) -> u64 {
        self.holes.add(hole)
    }
}
