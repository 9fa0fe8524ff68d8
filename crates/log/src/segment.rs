//! Segment files: their names and headers, and one live segment.
//!
//! ```text
//!  0 magic  4 crc  8 version  10 log number  12 segment number  16 node id  32 topic id
//! 40 first seq  48 created  56 incarnation  60 zero
//! ```

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::{
    batch::{u16_at, u32_at, u64_at},
    extent::{BatchAt, Extent},
    id::segment_key,
    lock,
};

/// Bytes of a segment file before its first batch.
pub const SEGMENT_HEADER_BYTES: usize = 64;
/// The format version of every file that this crate writes.
pub const FORMAT_VERSION: u16 = 1;

const MAGIC: [u8; 4] = *b"NSQS";
/// In the place of [`MAGIC`] while a file waits for its first message.
const SPARE_MAGIC: [u8; 4] = *b"NSQ0";

/// The header of a segment file.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) number: u32,
    pub(crate) node_id: [u8; 16],
    pub(crate) topic_id: u64,
    pub(crate) first: u64,
    pub(crate) created_ns: i64,
    pub(crate) incarnation: u32,
}

/// Why a file's header cannot be used.
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

/// The header of a segment file that was created ahead and holds no messages.
pub(crate) fn spare_header() -> [u8; SEGMENT_HEADER_BYTES] {
    let mut out = [0; SEGMENT_HEADER_BYTES];
    out[..4].copy_from_slice(&SPARE_MAGIC);
    out
}

/// The path of segment `number` in a topic's directory.
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
    /// The file cannot be read, and is not tried again where that can be avoided.
    given_up: AtomicBool,
}

impl Segment {
    pub(crate) fn new(header: &SegmentHeader, extent: Extent) -> Self {
        Self {
            number: header.number,
            key: segment_key(header.number, &header.node_id),
            first: header.first,
            extent: Mutex::new(extent),
            given_up: AtomicBool::new(false),
        }
    }

    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Relaxed);
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Relaxed)
    }

    pub(crate) fn extent(&self) -> MutexGuard<'_, Extent> {
        lock(&self.extent)
    }

    /// The nearest batch known to begin at or before message `seq`, which is in this segment.
    pub(crate) fn nearest(&self, seq: u64) -> BatchAt {
        let begin = BatchAt { first: self.first, offset: SEGMENT_HEADER_BYTES as u64 };
        self.extent().nearest(seq).unwrap_or(begin)
    }
}

/// A live segment, which a session may remember to find messages by their ids.
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
