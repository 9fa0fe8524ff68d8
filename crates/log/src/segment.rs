//! Segment files: their header, what is known of each, and the table of a topic's live segments.
//!
//! ```text
//!  0 magic  4 crc  8 version  10 log number  12 segment number  16 node id  32 topic id
//! 40 first seq  48 created  56 incarnation  60 zero
//! ```

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use crate::{
    batch::{u16_at, u32_at, u64_at},
    id::segment_key,
    lock,
};

/// Bytes of a segment file before its first batch.
pub const SEGMENT_HEADER_BYTES: usize = 64;
/// The format version of every file that this crate writes.
pub const FORMAT_VERSION: u16 = 1;

const MAGIC: [u8; 4] = *b"NSQS";
/// Distance between entries of the sparse index.
const INDEX_STEP_BYTES: u64 = 64 << 10;

/// What a segment file says about itself.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) number: u32,
    pub(crate) node_id: [u8; 16],
    pub(crate) topic_id: u64,
    pub(crate) first: u64,
    pub(crate) created_ns: i64,
    pub(crate) incarnation: u32,
}

/// Why the header of a file cannot be used.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeaderDefect {
    Damaged,
    Version(u16),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = [0; SEGMENT_HEADER_BYTES];
        out[..4].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&FORMAT_VERSION.to_be_bytes());
        out[12..16].copy_from_slice(&self.number.to_be_bytes());
        out[16..32].copy_from_slice(&self.node_id);
        out[32..40].copy_from_slice(&self.topic_id.to_be_bytes());
        out[40..48].copy_from_slice(&self.first.to_be_bytes());
        out[48..56].copy_from_slice(&self.created_ns.to_be_bytes());
        out[56..60].copy_from_slice(&self.incarnation.to_be_bytes());
        let crc = crc32c::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_be_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderDefect> {
        let bytes = bytes.get(..SEGMENT_HEADER_BYTES).ok_or(HeaderDefect::Damaged)?;
        if bytes[..4] != MAGIC || crc32c::crc32c(&bytes[8..]) != u32_at(bytes, 4) {
            return Err(HeaderDefect::Damaged);
        }
        if u16_at(bytes, 8) != FORMAT_VERSION {
            return Err(HeaderDefect::Version(u16_at(bytes, 8)));
        }
        let mut node_id = [0; 16];
        node_id.copy_from_slice(&bytes[16..32]);
        Ok(Self {
            number: u32_at(bytes, 12),
            node_id,
            topic_id: u64_at(bytes, 32),
            first: u64_at(bytes, 40),
            created_ns: u64_at(bytes, 48).cast_signed(),
            incarnation: u32_at(bytes, 56),
        })
    }
}

/// The file of segment `number` in a topic's directory.
pub(crate) fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08x}.seg"))
}

/// The segment number in a file name.
pub(crate) fn parse_segment_name(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".seg")?;
    let canonical = digits.len() == 8
        && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    canonical.then(|| u32::from_str_radix(digits, 16).ok())?
}

/// One live segment of a topic.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u32,
    pub(crate) key: u32,
    pub(crate) first: u64,
    extent: Mutex<Extent>,
}

/// How far a segment goes and where its batches lie.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extent {
    /// Bytes of the file that hold valid batches and their header; for the active segment those written.
    pub(crate) bytes: u64,
    /// Batches at a distance of at least [`INDEX_STEP_BYTES`], in order: (first sequence number, offset).
    pub(crate) index: Vec<(u64, u64)>,
    /// Whether the index covers the whole file. It does not for segments of an earlier run.
    pub(crate) indexed: bool,
    /// Where the last load ended, which is where the next one begins more often than not.
    pub(crate) hint: (u64, u64),
}

impl Extent {
    /// Notes a batch that begins at `offset`; batches come in order.
    pub(crate) fn note(&mut self, first: u64, offset: u64) {
        if self.index.last().is_none_or(|(_, last)| offset >= last + INDEX_STEP_BYTES) {
            self.index.push((first, offset));
        }
    }

    /// Notes a batch found behind damage, so that nobody walks into the damage on the way to it.
    pub(crate) fn insert(&mut self, batch: (u64, u64)) {
        let at = self.index.partition_point(|known| *known < batch);
        self.index.insert(at, batch);
    }

    /// The nearest batch known to begin at or before `seq`: its first message and its offset.
    pub(crate) fn nearest(&self, seq: u64) -> Option<(u64, u64)> {
        let at = self.index.partition_point(|(first, _)| *first <= seq);
        let indexed = at.checked_sub(1).and_then(|at| self.index.get(at)).copied();
        let hinted = (self.hint.0 <= seq && self.hint.1 > 0).then_some(self.hint);
        indexed.max(hinted)
    }
}

impl Segment {
    pub(crate) fn new(header: &SegmentHeader, extent: Extent) -> Self {
        Self {
            number: header.number,
            key: segment_key(header.number, &header.node_id),
            first: header.first,
            extent: Mutex::new(extent),
        }
    }

    pub(crate) fn extent(&self) -> std::sync::MutexGuard<'_, Extent> {
        lock(&self.extent)
    }
}

/// A live segment as a session may remember it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SegmentSpan {
    /// The segment's key, as in [`IdParts`](crate::IdParts).
    pub key: u32,
    /// Sequence number of its first message.
    pub first: u64,
    /// The sequence number after its last message; for the segment being written, after the last one so far.
    pub end: u64,
}

impl SegmentSpan {
    /// The sequence number of the message with this index.
    pub fn seq(&self, index: u32) -> Option<u64> {
        let seq = self.first + u64::from(index);
        (seq < self.end).then_some(seq)
    }
}

/// A topic's segments, oldest first, and the ranges known to be lost.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) segments: Vec<Arc<Segment>>,
    holes: Vec<Range<u64>>,
}

impl Table {
    /// The segment that holds `seq` and the sequence number at which the next one begins.
    pub(crate) fn holding(&self, seq: u64) -> Option<(Arc<Segment>, Option<u64>)> {
        let at = self.segments.partition_point(|segment| segment.first <= seq).checked_sub(1)?;
        let next = self.segments.get(at + 1).map(|segment| segment.first);
        Some((Arc::clone(self.segments.get(at)?), next))
    }

    /// The span of the segment with this key; `open_end` is where the newest one ends.
    pub(crate) fn span(&self, key: u32, open_end: u64) -> Option<SegmentSpan> {
        let at = self.segments.iter().rposition(|segment| segment.key == key)?;
        let end = self.segments.get(at + 1).map_or(open_end, |next| next.first);
        Some(SegmentSpan { key, first: self.segments[at].first, end })
    }

    /// Notes that a range is lost; true when that was not known.
    pub(crate) fn add_hole(&mut self, hole: Range<u64>) -> bool {
        if hole.is_empty() || self.holes.iter().any(|h| h.start <= hole.start && hole.end <= h.end)
        {
            return false;
        }
        self.holes.push(hole);
        self.holes.sort_by_key(|hole| hole.start);
        true
    }

    /// The end of the hole that `seq` lies in.
    pub(crate) fn hole_end(&self, seq: u64) -> Option<u64> {
        self.holes.iter().find(|hole| hole.contains(&seq)).map(|hole| hole.end)
    }

    /// The start of the first hole after `seq`.
    pub(crate) fn next_hole(&self, seq: u64) -> Option<u64> {
        self.holes.iter().map(|hole| hole.start).find(|start| *start > seq)
    }

    /// Forgets holes that lie wholly before `low`.
    pub(crate) fn forget_holes(&mut self, low: u64) {
        self.holes.retain(|hole| hole.end > low);
    }
}
