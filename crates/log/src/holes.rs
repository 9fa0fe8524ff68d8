//! Sets of sequence numbers that are lost.

use std::ops::Range;

/// Lost sequence numbers as ranges: sorted, and neither overlapping nor touching.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holes(Vec<Range<u64>>);

impl Holes {
    /// Adds a range. Returns how many of its numbers were not in the set.
    pub(crate) fn add(&mut self, hole: Range<u64>) -> u64 {
        if hole.is_empty() {
            return 0;
        }
        let from = self.0.partition_point(|known| known.end < hole.start);
        let to = self.0.partition_point(|known| known.start <= hole.end);
        let touched = &self.0[from..to];
        let common = |known: &Range<u64>| {
            known.end.min(hole.end).saturating_sub(known.start.max(hole.start))
        };
        let known: u64 = touched.iter().map(common).sum();
        let start = touched.first().map_or(hole.start, |known| known.start.min(hole.start));
        let end = touched.last().map_or(hole.end, |known| known.end.max(hole.end));
        let added = hole.end - hole.start - known;
        self.0.splice(from..to, std::iter::once(start..end));
        added
    }

    /// The range that holds `seq`.
    pub(crate) fn at(&self, seq: u64) -> Option<&Range<u64>> {
        let at = self.0.partition_point(|hole| hole.end <= seq);
        self.0.get(at).filter(|hole| hole.start <= seq)
    }

    /// The start of the first range after `seq`.
    pub(crate) fn next(&self, seq: u64) -> Option<u64> {
        let at = self.0.partition_point(|hole| hole.start <= seq);
        self.0.get(at).map(|hole| hole.start)
    }

    /// Returns true if any number of `range` is in the set.
    pub(crate) fn touch(&self, range: &Range<u64>) -> bool {
        let at = self.0.partition_point(|hole| hole.end <= range.start);
        self.0.get(at).is_some_and(|hole| hole.start < range.end)
    }

    /// Drops the ranges that lie wholly before `low`.
    pub(crate) fn forget(&mut self, low: u64) {
        self.0.retain(|hole| hole.end > low);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_counts_only_messages_that_were_not_lost_before() {
        let mut holes = Holes::default();
        assert_eq!(holes.add(10..20), 10);
        assert_eq!(holes.add(12..18), 0);
        assert_eq!(holes.add(30..40), 10);
        assert_eq!(holes.add(5..35), 15);
        assert_eq!(holes.add(50..50), 0);
        assert_eq!(holes.at(5), Some(&(5..40)), "ranges that touch are one");
        assert_eq!((holes.at(4), holes.at(40)), (None, None));
        assert_eq!((holes.next(4), holes.next(5)), (Some(5), None));
        assert!(holes.touch(&(39..41)) && !holes.touch(&(40..41)) && !holes.touch(&(0..5)));
        assert_eq!(holes.add(40..41), 1);
        assert_eq!(holes.at(5), Some(&(5..41)));
        holes.forget(41);
        assert_eq!(holes.at(5), None);
    }
}
