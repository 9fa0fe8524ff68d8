//! Consecutive messages as pieces of the log.

use std::{collections::VecDeque, ops::Range};

use bytes::Bytes;

use super::PIECE_OVERHEAD_BYTES;
use crate::slice::Slice;

/// Pieces of the log without gaps, and where each message ends.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    pub(super) pieces: VecDeque<Piece>,
    pub(super) ends: VecDeque<u32>,
    /// Sequence number of the first message.
    first: u64,
}

#[derive(Debug)]
pub(super) struct Piece {
    first: u64,
    /// Empty if the messages were dropped.
    bytes: Bytes,
    /// Memory that is held as long as the piece.
    charge: usize,
}

impl Pieces {
    pub(crate) fn starting_at(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn end(&self) -> u64 {
        self.first + self.ends.len() as u64
    }

    /// Registers the next message; its bytes come with a later [`Pieces::push_bytes`].
    pub(crate) fn push_end(&mut self, end: u32) {
        self.ends.push_back(end);
    }

    /// Adds the bytes of the messages from `first` to the end.
    pub(crate) fn push_bytes(&mut self, first: u64, bytes: Bytes, charge: usize) {
        self.pieces.push_back(Piece { first, bytes, charge });
    }

    /// Takes messages from the beginning of `range`, which starts in here: at least one, else up to `bytes_max`; none if
    /// the first was dropped.
    pub(crate) fn read(&self, range: Range<u64>, bytes_max: usize, out: &mut Vec<Slice>) -> u64 {
        let stop = range.end.min(self.end());
        let mut seq = range.start;
        let mut budget = bytes_max;
        let index = self.pieces.partition_point(|piece| piece.first <= seq).saturating_sub(1);
        for (index, piece) in self.pieces.iter().enumerate().skip(index) {
            if seq >= stop || piece.bytes.is_empty() {
                break;
            }
            let piece_end =
                self.pieces.get(index + 1).map_or_else(|| self.end(), |next| next.first);
            let base = self.start_of(seq, piece.first);
            let fit = self.fit(seq..stop.min(piece_end), base.saturating_add(budget));
            let upto = if seq == range.start { fit.max(seq + 1) } else { fit };
            if upto == seq {
                break;
            }
            let end = self.end_of(upto - 1);
            let last_at = if upto - seq > 1 { self.end_of(upto - 2) - base } else { 0 };
            let bytes = piece.bytes.slice(base..end);
            out.push(Slice { bytes, first: seq, count: upto - seq, last_at });
            budget = budget.saturating_sub(end - base);
            seq = upto;
            if upto < stop.min(piece_end) {
                break;
            }
        }
        seq - range.start
    }

    /// The largest end such that the messages of `range` before it end at or before `limit` in their piece.
    fn fit(&self, range: Range<u64>, limit: usize) -> u64 {
        if self.end_of(range.end - 1) <= limit {
            return range.end;
        }
        let (mut low, mut high) = (range.start, range.end);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.end_of(middle) <= limit { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// The bytes of the piece that holds `seq`, from that message on; `None` when no piece does.
    pub(super) fn from(&self, seq: u64) -> Option<&[u8]> {
        let index = self.pieces.partition_point(|piece| piece.first <= seq).checked_sub(1)?;
        let piece = self.pieces.get(index)?;
        piece.bytes.get(self.start_of(seq, piece.first)..)
    }

    /// The offset of message `seq` in its piece, whose first message is `first`.
    pub(super) fn start_of(&self, seq: u64, first: u64) -> usize {
        if seq == first { 0 } else { self.end_of(seq - 1) }
    }

    fn end_of(&self, seq: u64) -> usize {
        self.ends[index_of(seq - self.first)] as usize
    }

    /// Drops the bytes of the pieces below `upto` that hold no message of `keep`, which is sorted, and returns how much
    /// memory that frees.
    pub(super) fn drop_others(&mut self, keep: &[Range<u64>], upto: u64) -> usize {
        let (end, mut freed) = (self.end(), 0);
        let mut keep = keep.iter().peekable();
        let mut rest = std::mem::take(&mut self.pieces).into_iter().peekable();
        while let Some(mut piece) = rest.next() {
            let piece_end = rest.peek().map_or(end, |next| next.first);
            while keep.next_if(|kept| kept.end <= piece.first).is_some() {}
            let is_kept = keep.peek().is_some_and(|kept| kept.start < piece_end);
            if is_kept || piece_end > upto {
                self.pieces.push_back(piece);
                continue;
            }
            freed += piece.charge;
            (piece.bytes, piece.charge) = (Bytes::new(), PIECE_OVERHEAD_BYTES);
            // One empty piece stands for all that follow one another.
            if self.pieces.back().is_none_or(|last| !last.bytes.is_empty()) {
                freed -= piece.charge;
                self.pieces.push_back(piece);
            }
        }
        freed
    }

    /// The end of the piece that holds `seq`.
    pub(super) fn end_of_piece(&self, seq: u64) -> u64 {
        let next = self.pieces.partition_point(|piece| piece.first <= seq);
        self.pieces.get(next).map_or_else(|| self.end(), |next| next.first)
    }

    /// The end of the first piece; `None` when there is no piece.
    pub(super) fn front_end(&self) -> Option<u64> {
        self.pieces.front()?;
        Some(self.pieces.get(1).map_or_else(|| self.end(), |next| next.first))
    }

    /// Drops the first piece, which ends at `end`, and returns its charge.
    pub(super) fn pop_front(&mut self, end: u64) -> usize {
        self.ends.drain(..index_of(end - self.first));
        self.first = end;
        self.pieces.pop_front().map_or(0, |piece| piece.charge)
    }
}

fn index_of(distance: u64) -> usize {
    usize::try_from(distance).unwrap_or(usize::MAX)
}
