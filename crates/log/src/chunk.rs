//! Messages read back from disk.

use std::ops::Range;

use crate::{
    notice::Notice,
    slice::Slice,
    tail::{Pieces, Read},
};

/// Messages read back from disk.
#[derive(Debug)]
pub struct Chunk {
    lost: Range<u64>,
    pieces: Pieces,
    pub(crate) notices: Vec<Notice>,
}

impl Chunk {
    /// A chunk that answers for no message yet.
    pub(crate) fn starting_at(first: u64) -> Self {
        Self { lost: first..first, pieces: Pieces::starting_at(first), notices: Vec::new() }
    }

    /// Notes that the messages before `seq` no longer exist.
    pub(crate) fn lose_until(&mut self, seq: u64) {
        self.lost.end = seq;
        self.pieces = Pieces::starting_at(seq);
    }

    /// Takes the messages that follow the lost ones.
    pub(crate) fn fill(&mut self, pieces: Pieces) {
        self.pieces = pieces;
    }

    /// The sequence numbers that this chunk answers for, those of lost messages included.
    pub fn range(&self) -> Range<u64> {
        let start = if self.lost.is_empty() { self.pieces.first() } else { self.lost.start };
        start..self.pieces.end()
    }

    /// The messages at the beginning of the range that no longer exist: deleted or damaged. Empty as a rule.
    pub fn lost(&self) -> Range<u64> {
        self.lost.clone()
    }

    /// Damage that was not known before this load.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// Takes messages, as [`TopicLog::read`](crate::TopicLog::read) does from memory.
    pub fn read(&self, range: Range<u64>, bytes_max: usize, out: &mut Vec<Slice>) -> Read {
        if range.is_empty() {
            Read::Taken(0)
        } else if self.lost.contains(&range.start) {
            Read::Gone(self.lost.end.min(range.end) - range.start)
        } else if (self.pieces.first()..self.pieces.end()).contains(&range.start) {
            Read::Taken(self.pieces.read(range, bytes_max, out))
        } else {
            Read::Cold
        }
    }
}
