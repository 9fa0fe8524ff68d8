//! Journal records as bytes: `[u32 length][u32 crc][u64 number][u8 type][payload]`.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use nsq_protocol::ChannelName;

use crate::{
    batch::{u16_at, u32_at, u64_at},
    segment::{FORMAT_VERSION, HeaderDefect},
    state::{ChannelDelta, ChannelState, Outstanding, Owned, Replayed},
};

/// Bytes of a journal before its first record.
pub(crate) const HEADER_BYTES: usize = 32;

const MAGIC: [u8; 4] = *b"NSQJ";
const RECORD_HEAD_BYTES: usize = 8;
const NO_DUE_TIME: u64 = u64::MAX;

/// Something that happened to a topic or one of its channels.
///
/// Ephemeral channels are the caller's to leave out.
#[derive(Copy, Clone, Debug)]
pub enum JournalRecord<'a> {
    /// The state of the topic; replaces the one before.
    Topic {
        /// Where a new channel starts.
        fanout: u64,
        /// Whether the topic is paused.
        paused: bool,
        /// Deferred messages and their delay.
        deferred: &'a [(Range<u64>, Duration)],
    },
    /// A channel was created.
    ChannelCreated {
        /// The channel.
        channel: &'a ChannelName,
        /// What it starts as.
        state: &'a ChannelState,
    },
    /// A channel was deleted.
    ChannelDeleted {
        /// The channel.
        channel: &'a ChannelName,
    },
    /// The state of a channel; replaces all that was recorded of it.
    ChannelSnapshot {
        /// The channel.
        channel: &'a ChannelName,
        /// Its state.
        state: &'a ChannelState,
    },
    /// What changed in a channel.
    ChannelDelta {
        /// The channel.
        channel: &'a ChannelName,
        /// The change.
        delta: &'a ChannelDelta,
    },
    /// A channel was paused or goes on.
    ChannelPaused {
        /// The channel.
        channel: &'a ChannelName,
        /// Whether it is paused.
        paused: bool,
    },
    /// Deferred batches, in addition to those of [`JournalRecord::Topic`]. The log writes these itself.
    Deferrals(&'a [(Range<u64>, Duration)]),
    /// Where the log ended at a clean stop. The log writes these itself.
    Checkpoint {
        /// Number of the newest segment.
        segment: u32,
        /// Length of its file.
        bytes: u64,
        /// The end of the log.
        end: u64,
    },
}

pub(crate) fn encode_header(topic_id: u64, number: u64) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[..4].copy_from_slice(&MAGIC);
    out[8..10].copy_from_slice(&FORMAT_VERSION.to_be_bytes());
    out[16..24].copy_from_slice(&topic_id.to_be_bytes());
    out[24..32].copy_from_slice(&number.to_be_bytes());
    let crc = crc32c::crc32c(&out[8..]);
    out[4..8].copy_from_slice(&crc.to_be_bytes());
    out
}

/// Appends a record with this number and counts the number up.
pub(crate) fn encode_record(out: &mut Vec<u8>, number: &mut u64, record: &JournalRecord<'_>) {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEAD_BYTES]);
    out.extend_from_slice(&number.to_be_bytes());
    encode_payload(out, record);
    let length = u32::try_from(out.len() - start - RECORD_HEAD_BYTES).unwrap_or(u32::MAX);
    let crc = crc32c::crc32c(&out[start + RECORD_HEAD_BYTES..]);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_be_bytes());
    *number += 1;
}

fn encode_payload(out: &mut Vec<u8>, record: &JournalRecord<'_>) {
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
        JournalRecord::Deferrals(deferrals) => {
            out.push(7);
            put_deferrals(out, deferrals);
        }
        JournalRecord::Checkpoint { segment, bytes, end } => {
            out.push(8);
            out.extend_from_slice(&segment.to_be_bytes());
            put_u64(out, *bytes);
            put_u64(out, *end);
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

fn put_deferrals(out: &mut Vec<u8>, deferrals: &[(Range<u64>, Duration)]) {
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

/// A duration in nanoseconds; 584 years are enough.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What a journal file holds.
#[derive(Debug)]
pub(crate) struct Journaled {
    pub(crate) topic_id: u64,
    pub(crate) state: Replayed,
    /// Bytes up to the first defect.
    pub(crate) valid_bytes: u64,
    /// The number that the next record gets.
    pub(crate) next_number: u64,
    /// Valid records that cannot be applied because one before them is missing.
    pub(crate) orphans: usize,
}

/// Reads a journal up to its first defect.
pub(crate) fn decode(bytes: &[u8]) -> Result<Journaled, HeaderDefect> {
    let header = bytes.get(..HEADER_BYTES).ok_or(HeaderDefect::Damaged)?;
    if header[..4] != MAGIC || crc32c::crc32c(&header[8..]) != u32_at(header, 4) {
        return Err(HeaderDefect::Damaged);
    }
    if u16_at(header, 8) != FORMAT_VERSION {
        return Err(HeaderDefect::Version(u16_at(header, 8)));
    }
    let first = u64_at(header, 24);
    let mut rest = &bytes[HEADER_BYTES..];
    let mut records = BTreeMap::new();
    while let Some((number, record, used)) = decode_record(rest) {
        records.entry(number).or_insert(record);
        rest = &rest[used..];
    }
    let found = records.len();
    let mut state = Replayed::default();
    let mut next_number = first;
    for (number, record) in records.into_iter().filter(|(number, _)| *number >= first) {
        if number != next_number {
            break;
        }
        state.apply(record);
        next_number += 1;
    }
    let applied = usize::try_from(next_number - first).unwrap_or(usize::MAX);
    Ok(Journaled {
        topic_id: u64_at(header, 16),
        state,
        valid_bytes: (bytes.len() - rest.len()) as u64,
        next_number,
        orphans: found - applied,
    })
}

/// The record at the front of `bytes`: its number, what it says, and its length.
fn decode_record(bytes: &[u8]) -> Option<(u64, Owned, usize)> {
    let head = bytes.get(..RECORD_HEAD_BYTES)?;
    let length = u32_at(head, 0) as usize;
    let summed = bytes.get(RECORD_HEAD_BYTES..RECORD_HEAD_BYTES.checked_add(length)?)?;
    if crc32c::crc32c(summed) != u32_at(head, 4) {
        return None;
    }
    let mut reader = Reader(summed);
    let number = reader.u64()?;
    let record = reader.record()?;
    reader.0.is_empty().then_some((number, record, RECORD_HEAD_BYTES + length))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32_at(self.take(4)?, 0))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64_at(self.take(8)?, 0))
    }

    fn name(&mut self) -> Option<ChannelName> {
        let length = usize::from(self.u8()?);
        ChannelName::new(std::str::from_utf8(self.take(length)?).ok()?).ok()
    }

    fn range(&mut self) -> Option<Range<u64>> {
        Some(self.u64()?..self.u64()?)
    }

    fn list<T>(&mut self, item: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u32()?;
        (0..count).map(|_| item(self)).collect()
    }

    fn deferrals(&mut self) -> Option<Vec<(Range<u64>, Duration)>> {
        self.list(|reader| Some((reader.range()?, Duration::from_nanos(reader.u64()?))))
    }

    fn outstanding(&mut self) -> Option<Vec<Outstanding>> {
        self.list(|reader| {
            let range = reader.range()?;
            let attempts = u16_at(reader.take(2)?, 0);
            let due = reader.u64()?;
            Some(Outstanding { range, attempts, due_ns: (due != NO_DUE_TIME).then_some(due) })
        })
    }

    fn state(&mut self) -> Option<ChannelState> {
        let (end, cursor, paused) = (self.u64()?, self.u64()?, self.u8()? != 0);
        let (finished, outstanding) = (self.list(Self::range)?, self.outstanding()?);
        Some(ChannelState { end, cursor, finished, outstanding, paused })
    }

    fn record(&mut self) -> Option<Owned> {
        Some(match self.u8()? {
            1 => {
                let (fanout, paused) = (self.u64()?, self.u8()? != 0);
                Owned::Topic { fanout, paused, deferred: self.deferrals()? }
            }
            2 | 4 => Owned::ChannelState(self.name()?, self.state()?),
            3 => Owned::ChannelDeleted(self.name()?),
            5 => {
                let (channel, end, cursor) = (self.name()?, self.u64()?, self.u64()?);
                let (finished, outstanding) = (self.list(Self::range)?, self.outstanding()?);
                Owned::ChannelDelta(channel, ChannelDelta { end, cursor, finished, outstanding })
            }
            6 => Owned::ChannelPaused(self.name()?, self.u8()? != 0),
            7 => Owned::Deferrals(self.deferrals()?),
            8 => {
                let (segment, bytes, end) = (self.u32()?, self.u64()?, self.u64()?);
                Owned::Checkpoint { segment, bytes, end }
            }
            _ => return None,
        })
    }
}
