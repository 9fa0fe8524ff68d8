//! The newest messages of a topic in memory, addressed by sequence number.
//!
//! # Invariants
//! 1. Pieces follow one another without a gap, the open block follows the last piece.
//! 2. `ends` has one entry for each message: where it ends within its piece. So a message is found without
//!    walking, and a batch costs no allocation of its own.
//! 3. Bytes are shared with readers, never copied for them.

mod pieces;

use std::{
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Acquire, Ordering::Release},
    },
};

use bytes::{BufMut, Bytes, BytesMut};

pub(crate) use self::pieces::Pieces;
use crate::{
    batch::{BATCH_HEADER_BYTES, BatchBuilder},
    lock,
    slice::{Slice, timestamp},
    usage::Usage,
};

/// Blocks that gather small batches start at this size and double up to the maximum, so that an idle topic
/// stays small.
const BLOCK_BYTES_MIN: usize = 1 << 10;
const BLOCK_BYTES_MAX: usize = 64 << 10;
/// Batches below this are copied into a block shared with others.
const COPY_BYTES_MAX: usize = 4 << 10;
/// Batches below this are copied too if they fill less than half of their buffer.
const COPY_LOOSE_BYTES_MAX: usize = 32 << 10;
/// The memory that a piece costs besides its bytes.
const PIECE_OVERHEAD_BYTES: usize = 64;

/// The outcome of reading a range of messages.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Read {
    /// This many messages from the beginning of the range were added.
    Taken(u64),
    /// The first message is not here; [`load`](crate::TopicLog::load) it.
    Cold,
    /// This many messages from the beginning of the range no longer exist: deleted or lost.
    Gone(u64),
}

/// The memory tail of one topic, behind a lock of its own.
#[derive(Debug)]
pub(crate) struct Tail {
    messages: Mutex<Messages>,
    /// Sequence number of the first message, which is read without the lock.
    first: AtomicU64,
    /// The memory of a tail without bounds.
    usage: Option<Usage>,
}

/// The outcome of a read from the tail.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum TailRead {
    Taken(u64),
    /// The first message is no longer in memory.
    Evicted,
    /// This many messages from the beginning of the range were dropped.
    Dropped(u64),
}

/// The messages in memory.
#[derive(Debug)]
struct Messages {
    pieces: Pieces,
    /// Small batches gather here, and are cut off and frozen when they are read.
    open: BytesMut,
    open_first: u64,
    block_bytes: usize,
    /// The sum of the charges and of the bytes in the open block.
    bytes: usize,
}

/// How much a tail keeps.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Bounds {
    pub(crate) messages: u64,
    pub(crate) bytes: usize,
}

impl Tail {
    /// An empty tail. `usage` follows its memory, if it is to have no bounds.
    pub(crate) fn starting_at(first: u64, usage: Option<Usage>) -> Self {
        let messages = Mutex::new(Messages::starting_at(first));
        Self { messages, first: AtomicU64::new(first), usage }
    }

    /// The memory of a tail without bounds.
    pub(crate) fn usage(&self) -> Option<&Usage> {
        self.usage.as_ref()
    }

    /// Takes note of the memory of a tail without bounds.
    fn measure(&self, messages: &Messages) {
        if let Some(usage) = &self.usage {
            usage.update(messages.bytes + messages.pieces.ends.len() * size_of::<u32>());
        }
    }

    /// The sequence number of the first message in memory.
    pub(crate) fn first(&self) -> u64 {
        self.first.load(Acquire)
    }

    /// Adds a batch and empties its builder. Then evicts messages beyond the bounds, but none from `written` on.
    pub(crate) fn push(&self, batch: &mut BatchBuilder, bounds: Option<Bounds>, written: u64) {
        let bytes = batch.bytes();
        let loose = bytes * 2 < batch.capacity();
        let mut messages = lock(&self.messages);
        if bytes < COPY_BYTES_MAX || loose && bytes < COPY_LOOSE_BYTES_MAX {
            messages.push_copy(&batch.encoded()[BATCH_HEADER_BYTES..], batch.ends());
            batch.clear();
        } else {
            messages.push_shared(batch);
        }
        if let Some(bounds) = bounds {
            messages.evict(bounds, written);
            self.first.store(messages.first(), Release);
        }
        self.measure(&messages);
    }

    /// Takes messages from the beginning of `range`: at least one, else up to `bytes_max`.
    pub(crate) fn read(
        &self,
        range: Range<u64>,
        bytes_max: usize,
        out: &mut Vec<Slice>,
    ) -> TailRead {
        let mut messages = lock(&self.messages);
        if range.start >= messages.end() {
            TailRead::Taken(0)
        } else if range.start >= messages.first() {
            match messages.read(range.clone(), bytes_max, out) {
                0 => TailRead::Dropped(
                    messages.pieces.end_of_piece(range.start).min(range.end) - range.start,
                ),
                count => TailRead::Taken(count),
            }
        } else {
            TailRead::Evicted
        }
    }

    /// The time at which message `seq` was published; `None` when it is not in memory.
    pub(crate) fn timestamp_ns(&self, seq: u64) -> Option<i64> {
        lock(&self.messages).from(seq).and_then(timestamp)
    }

    /// Drops the pieces that lie wholly before `low`.
    pub(crate) fn release(&self, low: u64) {
        let mut messages = lock(&self.messages);
        messages.release(low);
        self.first.store(messages.first(), Release);
        self.measure(&messages);
    }

    /// Drops the pieces below `upto` that hold no message of `keep`, which is sorted. Their messages count as dropped
    /// until they are released.
    pub(crate) fn drop_others(&self, keep: &[Range<u64>], upto: u64) {
        let mut messages = lock(&self.messages);
        messages.seal();
        messages.bytes -= messages.pieces.drop_others(keep, upto);
        self.measure(&messages);
    }

    /// Frees unused memory.
    pub(crate) fn rest(&self) {
        lock(&self.messages).rest();
    }
}

impl Messages {
    fn starting_at(first: u64) -> Self {
        Self {
            pieces: Pieces::starting_at(first),
            open: BytesMut::new(),
            open_first: first,
            block_bytes: BLOCK_BYTES_MIN,
            bytes: 0,
        }
    }

    fn first(&self) -> u64 {
        self.pieces.first()
    }

    fn end(&self) -> u64 {
        self.pieces.end()
    }

    /// Adds a batch by copying its records.
    fn push_copy(&mut self, records: &[u8], ends: &[u32]) {
        if self.open.capacity() - self.open.len() < records.len() {
            self.seal();
            self.open = BytesMut::with_capacity(self.block_bytes.max(records.len()));
            self.block_bytes = (2 * self.block_bytes).min(BLOCK_BYTES_MAX);
        }
        // A block is at most as long as one batch, so offsets within it stay within 32 bits.
        let base = u32::try_from(self.open.len()).unwrap_or(u32::MAX);
        self.open.put_slice(records);
        self.pieces.ends.extend(ends.iter().map(|end| base + end));
        self.bytes += records.len();
    }

    /// Adds a batch by taking over its buffer.
    fn push_shared(&mut self, batch: &mut BatchBuilder) {
        self.seal();
        let first = self.end();
        self.pieces.ends.extend(batch.ends());
        let charge = batch.capacity() + PIECE_OVERHEAD_BYTES;
        let bytes = Bytes::from_owner(batch.take_pooled()).slice(BATCH_HEADER_BYTES..);
        self.pieces.push_bytes(first, bytes, charge);
        self.bytes += charge;
        self.open_first = self.end();
    }

    /// The bytes from message `seq` on; `None` when it is not in memory.
    fn from(&self, seq: u64) -> Option<&[u8]> {
        if !(self.first()..self.end()).contains(&seq) {
            return None;
        }
        if seq >= self.open_first {
            self.open.get(self.pieces.start_of(seq, self.open_first)..)
        } else {
            self.pieces.from(seq)
        }
    }

    /// As [`Pieces::read`].
    fn read(&mut self, range: Range<u64>, bytes_max: usize, out: &mut Vec<Slice>) -> u64 {
        if range.end > self.open_first {
            self.seal();
        }
        self.pieces.read(range, bytes_max, out)
    }

    /// Drops the oldest pieces while the rest is enough or too much, but nothing from `written` on.
    fn evict(&mut self, bounds: Bounds, written: u64) {
        loop {
            let messages = self.end() - self.first();
            if messages == 0 || messages <= bounds.messages && self.bytes <= bounds.bytes {
                return;
            }
            let end =
                self.pieces.front_end().map_or_else(|| self.end(), |end| end.min(self.open_first));
            let enough = self.end() - end >= bounds.messages;
            if !(enough || self.bytes > bounds.bytes) || end > written {
                return;
            }
            self.drop_to(end);
        }
    }

    /// Drops the pieces that lie wholly before `low`.
    fn release(&mut self, low: u64) {
        while self.end() > self.first() {
            let end =
                self.pieces.front_end().map_or_else(|| self.end(), |end| end.min(self.open_first));
            if end > low {
                return;
            }
            self.drop_to(end);
        }
    }

    /// Drops the first piece, or the open block when there is no piece; either ends at `end`.
    fn drop_to(&mut self, end: u64) {
        if self.pieces.front_end().is_some() {
            self.bytes -= self.pieces.pop_front(end);
        } else {
            // No reader shares the open block, so its memory is used again.
            self.bytes -= self.open.len();
            self.open.clear();
            self.pieces.pop_front(end);
            self.open_first = end;
        }
    }

    /// Frees unused memory.
    fn rest(&mut self) {
        self.seal();
        self.open = BytesMut::new();
        self.block_bytes = BLOCK_BYTES_MIN;
        self.pieces.ends.shrink_to_fit();
        self.pieces.pieces.shrink_to_fit();
    }

    /// Makes a piece of the open block.
    fn seal(&mut self) {
        if !self.open.is_empty() {
            let bytes = self.open.split().freeze();
            let charge = bytes.len() + PIECE_OVERHEAD_BYTES;
            self.bytes += PIECE_OVERHEAD_BYTES;
            self.pieces.push_bytes(self.open_first, bytes, charge);
            self.open_first = self.end();
        }
    }
}
