//! The extent of a segment file: how far it is valid, and a sparse index of its batches.

use std::ops::Range;

/// The distance between entries of an index that is not full yet.
const STEP_BYTES: u64 = 64 << 10;
/// The most entries of an index, so that its memory does not grow with the backlog.
const INDEX_MAX: usize = 128;
/// The number of readers that each find the place where their last load ended.
const READERS_MAX: usize = 8;

/// A batch's place: the sequence number of its first message and its offset in the segment file.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BatchAt {
    pub(crate) first: u64,
    pub(crate) offset: u64,
}

/// Messages that cannot be read, and the bytes in their place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) lost: Range<u64>,
    pub(crate) bytes: Range<u64>,
}

impl Hole {
    /// The hole between the place where a batch should be and the next one.
    pub(crate) fn between(from: BatchAt, to: BatchAt) -> Self {
        Self { lost: from.first..to.first, bytes: from.offset..to.offset }
    }
}

/// How far a segment goes, and where some of its batches lie.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extent {
    /// Bytes of the file that hold its header and batches; for the active segment those written.
    pub(crate) bytes: u64,
    /// Batches at a distance of at least a step, in order.
    pub(crate) index: Index,
    /// Good batches that follow damage, where a walk from the index would end.
    pub(crate) detours: Vec<BatchAt>,
    /// The ends of the last loads, where the next ones begin more often than not.
    pub(crate) read_to: Vec<BatchAt>,
}

impl Extent {
    /// Notes a batch, in any order.
    pub(crate) fn note(&mut self, batch: BatchAt) {
        self.index.note(batch);
    }

    /// Notes the batch after damage, so that later loads need not find the way around it again.
    pub(crate) fn note_detour(&mut self, batch: BatchAt) {
        let at = self.detours.partition_point(|known| *known < batch);
        if self.detours.get(at) != Some(&batch) && self.detours.len() < INDEX_MAX {
            self.detours.insert(at, batch);
        }
    }

    /// Notes that a reader got from one batch to another.
    pub(crate) fn note_read(&mut self, from: BatchAt, to: BatchAt) {
        if let Some(reader) = self.read_to.iter_mut().find(|reader| **reader == from) {
            *reader = to;
            return;
        }
        if self.read_to.len() == READERS_MAX {
            self.read_to.remove(0);
        }
        self.read_to.push(to);
    }

    /// The nearest batch known to begin at or before message `seq`.
    pub(crate) fn nearest(&self, seq: u64) -> Option<BatchAt> {
        let indexed = last_before(&self.index.batches, seq);
        let detour = last_before(&self.detours, seq);
        let read_to = self.read_to.iter().filter(|batch| batch.first <= seq).max().copied();
        indexed.max(detour).max(read_to)
    }
}

/// Some batches of a segment, far enough apart that there are never more than [`INDEX_MAX`].
#[derive(Clone, Debug)]
pub(crate) struct Index {
    batches: Vec<BatchAt>,
    step: u64,
}

impl Default for Index {
    fn default() -> Self {
        Self { batches: Vec::new(), step: STEP_BYTES }
    }
}

impl Index {
    /// Adds a batch unless a neighbour is nearer than the step; a full index is thinned out.
    fn note(&mut self, batch: BatchAt) {
        let at = self.batches.partition_point(|known| known.offset < batch.offset);
        let before = at.checked_sub(1).and_then(|before| self.batches.get(before));
        let far = |from: u64, to: u64| to - from >= self.step;
        let room = before.is_none_or(|before| far(before.offset, batch.offset))
            && self.batches.get(at).is_none_or(|after| far(batch.offset, after.offset));
        if !room {
            return;
        }
        self.batches.insert(at, batch);
        if self.batches.len() == INDEX_MAX {
            self.thin();
        }
    }

    /// Doubles the step and drops the batches that are now too near.
    fn thin(&mut self) {
        self.step *= 2;
        let mut kept: Option<u64> = None;
        self.batches.retain(|batch| {
            let keep = kept.is_none_or(|kept| batch.offset - kept >= self.step);
            if keep {
                kept = Some(batch.offset);
            }
            keep
        });
    }
}

fn last_before(batches: &[BatchAt], seq: u64) -> Option<BatchAt> {
    let at = batches.partition_point(|batch| batch.first <= seq);
    at.checked_sub(1).and_then(|at| batches.get(at)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indexed(count: u64, bytes: u64) -> Extent {
        let mut extent = Extent::default();
        (0..count).for_each(|i| extent.note(BatchAt { first: i, offset: 64 + i * bytes }));
        extent
    }

    #[test]
    fn an_index_stays_small_and_near_however_long_the_segment() {
        for count in [10, 1_000, 100_000] {
            let extent = indexed(count, 10_000);
            assert!(extent.index.batches.len() < INDEX_MAX);
            let length = count * 10_000;
            for seq in (0..count).step_by(7) {
                let near = extent.nearest(seq).unwrap();
                let distance = (seq - near.first) * 10_000;
                assert!(distance <= STEP_BYTES.max(length / 30) + 10_000, "{distance} of {length}");
            }
        }
    }

    #[test]
    fn several_readers_find_the_places_where_they_stopped() {
        let mut extent = indexed(1, 0);
        let at = |first| BatchAt { first, offset: 64 + first };
        for round in 0..10 {
            for reader in (0..READERS_MAX as u64).map(|reader| 1000 * reader) {
                extent.note_read(at(reader + round), at(reader + round + 1));
                assert_eq!(extent.nearest(reader + round + 1), Some(at(reader + round + 1)));
            }
        }
        extent.note_read(at(50), at(51));
        assert_eq!(extent.read_to.len(), READERS_MAX);
    }

    #[test]
    fn batches_noted_out_of_order_are_found() {
        let mut extent = indexed(0, 0);
        for first in [50, 10, 30, 20, 40] {
            extent.note(BatchAt { first, offset: first << 20 });
        }
        assert_eq!(extent.nearest(35), Some(BatchAt { first: 30, offset: 30 << 20 }));
        assert_eq!(extent.nearest(9), None);
    }

    #[test]
    fn a_detour_is_found_although_the_index_has_no_room_for_it() {
        let mut extent = indexed(2, STEP_BYTES);
        let detour = BatchAt { first: 1, offset: 100 };
        extent.note_detour(detour);
        extent.note_detour(detour);
        assert_eq!(extent.nearest(1), Some(BatchAt { first: 1, offset: 64 + STEP_BYTES }));
        let mut extent = indexed(1, 0);
        extent.note_detour(BatchAt { first: 3, offset: 100 });
        assert_eq!(extent.nearest(3), Some(BatchAt { first: 3, offset: 100 }));
    }
}
