//! Journal files as bytes: headers, and records `[u32 length][u32 crc][u64 number][u8 type][payload]`.

use std::{ops::Range, time::Duration};

use nsq_protocol::ChannelName;

use super::{
    Deferral,
    record::{JournalRecord, LogRecord},
    waypoint::Waypoint,
};
use crate::{
    batch::{u16_at, u32_at, u64_at},
    segment::{FORMAT_VERSION, HeaderDefect},
    state::{ChannelState, Outstanding},
};

/// Bytes of a journal or snapshot file before its first record.
pub(crate) const HEADER_BYTES: usize = 32;
/// Bytes of a record before those that its checksum covers.
pub(super) const RECORD_HEAD_BYTES: usize = 8;
/// A due time of `None`.
pub(super) const NO_DUE_TIME: u64 = u64::MAX;

const JOURNAL_MAGIC: [u8; 4] = *b"NSQJ";
const SNAPSHOT_MAGIC: [u8; 4] = *b"NSQK";

/// The header of a journal or snapshot file.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) topic_id: u64,
    /// For a journal the number of its first record, for a snapshot that of the first record it lacks.
    pub(super) number: u64,
    /// The number of records of a snapshot, which is complete with all of them; `None` for a journal.
    pub(super) records: Option<u32>,
}

impl FileHeader {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let magic = if self.records.is_some() { SNAPSHOT_MAGIC } else { JOURNAL_MAGIC };
        out[..4].copy_from_slice(&magic);
        out[8..10].copy_from_slice(&FORMAT_VERSION.to_be_bytes());
        out[12..16].copy_from_slice(&self.records.unwrap_or(0).to_be_bytes());
        out[16..24].copy_from_slice(&self.topic_id.to_be_bytes());
        out[24..32].copy_from_slice(&self.number.to_be_bytes());
        let crc = crc32c::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_be_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeaderDefect> {
        let bytes = bytes.get(..HEADER_BYTES).ok_or(HeaderDefect::Damaged)?;
        let is_snapshot = bytes[..4] == SNAPSHOT_MAGIC;
        let known = is_snapshot || bytes[..4] == JOURNAL_MAGIC;
        if !known || crc32c::crc32c(&bytes[8..]) != u32_at(bytes, 4) {
            return Err(HeaderDefect::Damaged);
        }
        if u16_at(bytes, 8) != FORMAT_VERSION {
            return Err(HeaderDefect::Version(u16_at(bytes, 8)));
        }
        Ok(Self {
            topic_id: u64_at(bytes, 16),
            number: u64_at(bytes, 24),
            records: is_snapshot.then(|| u32_at(bytes, 12)),
        })
    }
}

/// Appends a record with this number and increments the number.
pub(super) fn encode_record(out: &mut Vec<u8>, number: &mut u64, record: &LogRecord<'_>) {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEAD_BYTES]);
    out.extend_from_slice(&number.to_be_bytes());
    match record {
        LogRecord::Broker(record) => put_record(out, record),
        LogRecord::Deferrals(deferrals) => {
            out.push(7);
            put_deferrals(out, deferrals);
        }
        LogRecord::Waypoint(waypoint) => {
            out.push(8);
            put_waypoint(out, waypoint);
        }
        LogRecord::ChannelPart { channel, outstanding } => {
            out.push(9);
            put_name(out, channel);
            put_outstanding(out, outstanding);
        }
        LogRecord::Time { node_ns } => {
            out.push(10);
            put_u64(out, *node_ns);
        }
    }
    let length = u32::try_from(out.len() - start - RECORD_HEAD_BYTES).unwrap_or(u32::MAX);
    let crc = crc32c::crc32c(&out[start + RECORD_HEAD_BYTES..]);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_be_bytes());
    *number += 1;
}

fn put_record(out: &mut Vec<u8>, record: &JournalRecord<'_>) {
    match record {
        JournalRecord::Topic { fanout, paused, deferred } => {
            out.push(1);
            put_u64(out, *fanout);
            out.push(u8::from(*paused));
            put_deferrals(out, deferred);
        }
        JournalRecord::ChannelCreated { channel, state } => {
            out.push(2);
            put_name(out, channel);
            put_state(out, state);
        }
        JournalRecord::ChannelDeleted { channel } => {
            out.push(3);
            put_name(out, channel);
        }
        JournalRecord::ChannelSnapshot { channel, state } => {
            out.push(4);
            put_name(out, channel);
            put_state(out, state);
        }
        JournalRecord::ChannelDelta { channel, delta } => {
            out.push(5);
            put_name(out, channel);
            put_u64(out, delta.end);
            put_u64(out, delta.cursor);
            put_ranges(out, &delta.finished);
            put_outstanding(out, &delta.outstanding);
        }
        JournalRecord::ChannelPaused { channel, paused } => {
            out.push(6);
            put_name(out, channel);
            out.push(u8::from(*paused));
        }
    }
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}

fn put_name(out: &mut Vec<u8>, name: &ChannelName) {
    // Names are at most 64 bytes by their type.
    out.push(u8::try_from(name.as_str().len()).unwrap_or(u8::MAX));
    out.extend_from_slice(name.as_str().as_bytes());
}

fn put_range(out: &mut Vec<u8>, range: &Range<u64>) {
    put_u64(out, range.start);
    put_u64(out, range.end);
}

fn put_ranges(out: &mut Vec<u8>, ranges: &[Range<u64>]) {
    put_count(out, ranges.len());
    for range in ranges {
        put_range(out, range);
    }
}

fn put_deferrals(out: &mut Vec<u8>, deferrals: &[Deferral]) {
    put_count(out, deferrals.len());
    for (range, delay) in deferrals {
        put_range(out, range);
        put_u64(out, nanos(*delay));
    }
}

fn put_state(out: &mut Vec<u8>, state: &ChannelState) {
    put_u64(out, state.end);
    put_u64(out, state.cursor);
    out.push(u8::from(state.paused));
    put_ranges(out, &state.finished);
    put_outstanding(out, &state.outstanding);
}

fn put_outstanding(out: &mut Vec<u8>, outstanding: &[Outstanding]) {
    put_count(out, outstanding.len());
    for entry in outstanding {
        put_range(out, &entry.range);
        out.extend_from_slice(&entry.attempts.to_be_bytes());
        put_u64(out, entry.due_ns.unwrap_or(NO_DUE_TIME));
    }
}

fn put_waypoint(out: &mut Vec<u8>, waypoint: &Waypoint) {
    let position = &waypoint.position;
    out.extend_from_slice(&position.segment.to_be_bytes());
    put_u64(out, position.bytes);
    put_u64(out, position.end);
    out.push(u8::from(waypoint.flushed) | u8::from(position.open) << 1);
    out.extend_from_slice(&waypoint.boot_id);
}

/// A duration in nanoseconds; 584 years are enough.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
