//! Batches: their self-describing header, and the builder that encodes them.
//!
//! ```text
//!  0 magic  4 crc  8 length  12 count  16 first seq  24 topic id  32 wall time  40 defer delay
//! 48 incarnation  52 flags  54 log number  56 segment number  60 index  64 records…
//! ```

use std::sync::Arc;

use nsq_protocol::MessageId;

use crate::{
    id::join_id,
    pool::{Buffer, Pool, Pooled},
};

/// Bytes of a batch before its records.
pub const BATCH_HEADER_BYTES: usize = 64;
/// Bytes of a record before its body.
pub const RECORD_HEAD_BYTES: usize = 34;

pub(crate) const BATCH_MAGIC: [u8; 4] = *b"NSQB";
/// The offset at which the checksummed part begins.
const SUMMED_FROM: usize = 8;
/// The most bytes that the records of one batch may have.
pub(crate) const RECORDS_BYTES_MAX: usize = u32::MAX as usize - BATCH_HEADER_BYTES;

/// The header of a batch.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) crc: u32,
    pub(crate) records_bytes: u32,
    pub(crate) count: u32,
    pub(crate) first: u64,
    pub(crate) topic_id: u64,
    pub(crate) wall_ns: i64,
    pub(crate) defer_ns: u64,
    pub(crate) incarnation: u32,
    pub(crate) segment: u32,
    pub(crate) index: u32,
}

impl BatchHeader {
    /// Reads a header; `None` without the magic. Nothing else is checked.
    pub(crate) fn decode(bytes: &[u8; BATCH_HEADER_BYTES]) -> Option<Self> {
        (bytes[..4] == BATCH_MAGIC).then(|| Self {
            crc: u32_at(bytes, 4),
            records_bytes: u32_at(bytes, 8),
            count: u32_at(bytes, 12),
            first: u64_at(bytes, 16),
            topic_id: u64_at(bytes, 24),
            wall_ns: u64_at(bytes, 32).cast_signed(),
            defer_ns: u64_at(bytes, 40),
            incarnation: u32_at(bytes, 48),
            segment: u32_at(bytes, 56),
            index: u32_at(bytes, 60),
        })
    }

    /// Writes everything but the checksum, which needs the records.
    fn encode(&self, out: &mut [u8]) {
        out[..4].copy_from_slice(&BATCH_MAGIC);
        out[8..12].copy_from_slice(&self.records_bytes.to_be_bytes());
        out[12..16].copy_from_slice(&self.count.to_be_bytes());
        out[16..24].copy_from_slice(&self.first.to_be_bytes());
        out[24..32].copy_from_slice(&self.topic_id.to_be_bytes());
        out[32..40].copy_from_slice(&self.wall_ns.to_be_bytes());
        out[40..48].copy_from_slice(&self.defer_ns.to_be_bytes());
        out[48..52].copy_from_slice(&self.incarnation.to_be_bytes());
        out[52..56].copy_from_slice(&[0; 4]);
        out[56..60].copy_from_slice(&self.segment.to_be_bytes());
        out[60..64].copy_from_slice(&self.index.to_be_bytes());
    }

    /// Header and records together.
    pub(crate) fn bytes(&self) -> u64 {
        BATCH_HEADER_BYTES as u64 + u64::from(self.records_bytes)
    }

    /// The sequence number after the last message.
    pub(crate) fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count))
    }
}

/// The checksum of a whole batch given as bytes.
pub(crate) fn checksum(batch: &[u8]) -> u32 {
    crc32c::crc32c(&batch[SUMMED_FROM..])
}

/// Offset at which the checksummed part of a batch begins.
pub(crate) const fn summed_from() -> usize {
    SUMMED_FROM
}

/// Calls `put` with the end of each record, relative to the first. Returns false if the lengths do not add up.
pub(crate) fn records_end(records: &[u8], count: u32, mut put: impl FnMut(u32)) -> bool {
    let mut end = 0;
    for _ in 0..count {
        let Some(size) = records.get(end..end + 4) else { return false };
        end += 4 + u32_at(size, 0) as usize;
        if end > records.len() {
            return false;
        }
        put(u32::try_from(end).unwrap_or(u32::MAX));
    }
    end == records.len()
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The place and time of a batch, which go into its header and its ids.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Place {
    pub(crate) first: u64,
    pub(crate) topic_id: u64,
    pub(crate) wall_ns: i64,
    pub(crate) defer_ns: u64,
    pub(crate) incarnation: u32,
    pub(crate) segment: u32,
    pub(crate) segment_key: u32,
    pub(crate) index: u32,
}

/// An unfinished batch: encodes messages as they come, outside of any lock.
///
/// A connection owns one builder per topic it publishes to. An empty builder holds no buffer.
#[derive(Debug)]
pub struct BatchBuilder {
    pool: Arc<Pool>,
    /// Header (blank until the batch is placed) and records; no capacity while empty.
    buffer: Buffer,
    /// The size that the last buffer grew to, which the next one will need.
    bytes_last: usize,
    overflow: bool,
    /// The messages carry timestamps of their own.
    stamped: bool,
}

impl BatchBuilder {
    /// An empty builder that takes its buffers from `pool`.
    pub fn new(pool: Arc<Pool>) -> Self {
        Self { pool, buffer: Buffer::default(), bytes_last: 0, overflow: false, stamped: false }
    }

    /// Adds a message.
    pub fn push(&mut self, body: &[u8]) {
        self.push_record(body, 0);
    }

    /// Adds a message that keeps the time of an earlier publish. All messages of a batch are added in this way, or none.
    pub(crate) fn push_stamped(&mut self, body: &[u8], timestamp_ns: i64) {
        debug_assert!(self.stamped || self.is_empty(), "mixed with messages without a timestamp");
        self.stamped = true;
        self.push_record(body, timestamp_ns);
    }

    fn push_record(&mut self, body: &[u8], timestamp_ns: i64) {
        if self.buffer.bytes.is_empty() {
            if self.buffer.bytes.capacity() == 0 {
                self.buffer = self.pool.take(self.bytes_last.max(body.len() + 128));
                self.buffer.bytes.clear();
            }
            self.buffer.bytes.resize(BATCH_HEADER_BYTES, 0);
        }
        let end = self.bytes() + RECORD_HEAD_BYTES + body.len();
        if end > RECORDS_BYTES_MAX {
            self.overflow = true;
            return;
        }
        let mut head = [0; RECORD_HEAD_BYTES];
        let size = u32::try_from(body.len() + RECORD_HEAD_BYTES - 4).unwrap_or(u32::MAX);
        head[..4].copy_from_slice(&size.to_be_bytes());
        head[7] = 2;
        head[8..16].copy_from_slice(&timestamp_ns.to_be_bytes());
        head[17] = 1;
        self.buffer.bytes.extend_from_slice(&head);
        self.buffer.bytes.extend_from_slice(body);
        self.buffer.ends.push(u32::try_from(end).unwrap_or(u32::MAX));
    }

    /// Returns true if there is no message.
    pub fn is_empty(&self) -> bool {
        self.buffer.ends.is_empty()
    }

    /// The number of messages.
    pub fn count(&self) -> usize {
        self.buffer.ends.len()
    }

    /// The bytes of the records, heads included.
    pub fn bytes(&self) -> usize {
        self.buffer.bytes.len().saturating_sub(BATCH_HEADER_BYTES)
    }

    /// Drops all messages and returns the buffer to the pool.
    pub fn clear(&mut self) {
        if self.buffer.bytes.capacity() > 0 {
            self.bytes_last = self.buffer.bytes.len();
            self.pool.give(std::mem::take(&mut self.buffer));
        }
        self.overflow = false;
        self.stamped = false;
    }

    /// Returns true if messages were refused because the batch would not fit its length field.
    pub(crate) fn overflowed(&self) -> bool {
        self.overflow
    }

    /// Fills in ids, time, header and checksum, which depend on the place in the log. May be repeated.
    pub(crate) fn place(&mut self, place: &Place) {
        let Buffer { bytes, ends } = &mut self.buffer;
        let time = (!self.stamped).then_some(place.wall_ns.to_be_bytes());
        let mut start = BATCH_HEADER_BYTES;
        for (id, end) in (join_id(place.segment_key, place.index)..).zip(&*ends) {
            let head = &mut bytes[start..start + RECORD_HEAD_BYTES];
            if let Some(time) = &time {
                head[8..16].copy_from_slice(time);
            }
            head[18..34].copy_from_slice(&MessageId::from_u64(id).0);
            start = BATCH_HEADER_BYTES + *end as usize;
        }
        let header = BatchHeader {
            crc: 0,
            records_bytes: u32::try_from(bytes.len() - BATCH_HEADER_BYTES).unwrap_or(u32::MAX),
            count: u32::try_from(ends.len()).unwrap_or(u32::MAX),
            first: place.first,
            topic_id: place.topic_id,
            wall_ns: place.wall_ns,
            defer_ns: place.defer_ns,
            incarnation: place.incarnation,
            segment: place.segment,
            index: place.index,
        };
        header.encode(&mut bytes[..BATCH_HEADER_BYTES]);
        let crc = checksum(bytes);
        bytes[4..8].copy_from_slice(&crc.to_be_bytes());
    }

    /// The placed batch: header and records.
    pub(crate) fn encoded(&self) -> &[u8] {
        &self.buffer.bytes
    }

    /// The end of each record, relative to the first.
    pub(crate) fn ends(&self) -> &[u32] {
        &self.buffer.ends
    }

    /// Bytes that the buffer occupies, used or not.
    pub(crate) fn capacity(&self) -> usize {
        self.buffer.bytes.capacity()
    }

    /// Takes the buffer and leaves the builder empty.
    pub(crate) fn take_pooled(&mut self) -> Pooled {
        self.bytes_last = self.buffer.bytes.len();
        self.stamped = false;
        Pooled::new(std::mem::take(&mut self.buffer), Arc::clone(&self.pool))
    }
}

impl Default for BatchBuilder {
    /// A builder whose buffers come from the allocator.
    fn default() -> Self {
        Self::new(Arc::new(Pool::default()))
    }
}

impl Drop for BatchBuilder {
    fn drop(&mut self) {
        self.clear();
    }
}
