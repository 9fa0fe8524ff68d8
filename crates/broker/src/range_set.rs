//! A set of sequence numbers kept as ranges that never touch.

use std::{
    collections::BTreeMap,
    ops::{
        Bound::{Excluded, Included},
        Range,
    },
};

/// A set of sequence numbers. Neighbouring ranges become one as they are added, so numbers that
/// come in order cost nothing to keep.
#[derive(Clone, Default, Debug)]
pub(crate) struct RangeSet {
    ends: BTreeMap<u64, u64>,
}

impl RangeSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The number of ranges, for tests of their cost.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let Range { start: mut from, end: mut to } = range;
        if let Some((&start, &end)) = self.ends.range(..=from).next_back()
            && end >= from
        {
            if end >= to {
                return;
            }
            from = start;
        }
        while let Some((&start, &end)) = self.ends.range((Excluded(from), Included(to))).next() {
            self.ends.remove(&start);
            to = to.max(end);
        }
        self.ends.insert(from, to);
    }

    /// Removes and returns the ranges, ascending.
    pub(crate) fn drain(&mut self) -> Vec<Range<u64>> {
        std::mem::take(&mut self.ends).into_iter().map(|(from, to)| from..to).collect()
    }

    /// The parts of `range` that are in the set, ascending.
    pub(crate) fn within(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let first =
            self.ends.range(..=range.start).next_back().map_or(range.start, |(&from, _)| from);
        self.ends
            .range(first..)
            .map(|(&from, &to)| from..to)
            .take_while({
                let end = range.end;
                move |piece| piece.start < end
            })
            .map(move |piece| piece.start.max(range.start)..piece.end.min(range.end))
            .filter(|piece| !piece.is_empty())
    }

    /// The parts of `range` that are not in the set, ascending.
    pub(crate) fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut next = range.start;
        for piece in self.within(range.clone()) {
            if next < piece.start {
                gaps.push(next..piece.start);
            }
            next = piece.end;
        }
        if next < range.end {
            gaps.push(next..range.end);
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[Range<u64>]) -> RangeSet {
        let mut set = RangeSet::default();
        ranges.iter().for_each(|range| set.insert(range.clone()));
        set
    }

    #[test]
    fn neighbours_and_overlaps_become_one_range() {
        assert_eq!(set(&[5..6, 7..8, 6..7]).drain(), [5..8]);
        assert_eq!(set(&[0..2, 4..6, 8..10, 1..9]).drain(), [0..10]);
        assert_eq!(set(&[3..9, 4..5, 3..9]).drain(), [3..9]);
        assert_eq!(set(&[3..4, 9..10, 6..6]).drain(), [3..4, 9..10]);
        assert_eq!(set(&[6..8, 2..6]).drain(), [2..8]);
    }

    #[test]
    fn parts_and_gaps_of_a_range_cover_it() {
        let set = set(&[2..4, 6..8, 20..30]);
        assert_eq!(set.within(3..25).collect::<Vec<_>>(), [3..4, 6..8, 20..25]);
        assert_eq!(set.gaps(3..25), [4..6, 8..20]);
        assert_eq!(set.gaps(0..2), [0..2]);
        assert_eq!(set.gaps(22..23), Vec::<Range<u64>>::new());
        assert_eq!(set.within(4..6).count(), 0);
    }
}
