//! Reading the records of a journal or snapshot file, one at a time.

use std::{ops::Range, path::Path, time::Duration};

use nsq_protocol::ChannelName;

use super::{
    Deferral,
    encode::{FileHeader, HEADER_BYTES, NO_DUE_TIME, RECORD_HEAD_BYTES},
    record::OwnedRecord,
    waypoint::{Position, Waypoint},
};
use crate::{
    batch::{u16_at, u32_at, u64_at},
    disk::File,
    error::{Context, IoError},
    segment::HeaderDefect,
    state::{ChannelDelta, ChannelState, Outstanding},
};

/// How much is read from a file at once.
const WINDOW_BYTES: usize = 256 << 10;

/// A position in a journal or snapshot file that moves from record to record.
pub(super) struct RecordReader<'a> {
    file: &'a dyn File,
    path: &'a Path,
    length: u64,
    /// The end of the last good record.
    offset: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a> RecordReader<'a> {
    pub(super) fn new(file: &'a dyn File, path: &'a Path) -> Result<Self, IoError> {
        let length = file.len().context("measure", path)?;
        Ok(Self { file, path, length, offset: 0, window: Vec::new(), window_at: 0 })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The end of the last good record.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads the header, which comes before the first record.
    pub(super) fn header(&mut self) -> Result<Result<FileHeader, HeaderDefect>, IoError> {
        let header = FileHeader::decode(self.view(HEADER_BYTES)?);
        if header.is_ok() {
            self.offset = HEADER_BYTES as u64;
        }
        Ok(header)
    }

    /// Reads the next record and its number; `None` at the end of the file or at the first defect.
    pub(super) fn next(&mut self) -> Result<Option<(u64, OwnedRecord)>, IoError> {
        let Some(head) = self.view(RECORD_HEAD_BYTES)?.first_chunk::<RECORD_HEAD_BYTES>().copied()
        else {
            return Ok(None);
        };
        let bytes = RECORD_HEAD_BYTES as u64 + u64::from(u32_at(&head, 0));
        if bytes > self.length - self.offset {
            return Ok(None);
        }
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let record = self.view(bytes)?.get(RECORD_HEAD_BYTES..bytes);
        let record = record.filter(|summed| crc32c::crc32c(summed) == u32_at(&head, 4));
        let record = record.and_then(decode_record);
        if record.is_some() {
            self.offset += bytes as u64;
        }
        Ok(record)
    }

    /// The file from `offset` on: at least `bytes` unless the file ends before.
    fn view(&mut self, bytes: usize) -> Result<&[u8], IoError> {
        let window_end = self.window_at + self.window.len() as u64;
        let wanted = (self.offset + bytes as u64).min(self.length);
        if wanted > window_end {
            let rest = usize::try_from(self.length - self.offset).unwrap_or(usize::MAX);
            self.window.resize(WINDOW_BYTES.max(bytes).min(rest), 0);
            let read = self.file.read_at(&mut self.window, self.offset);
            self.window.truncate(read.context("read", self.path)?);
            self.window_at = self.offset;
        }
        let at = usize::try_from(self.offset - self.window_at).unwrap_or(usize::MAX);
        Ok(self.window.get(at..).unwrap_or_default())
    }
}

/// Decodes a record and its number.
fn decode_record(summed: &[u8]) -> Option<(u64, OwnedRecord)> {
    let mut payload = Payload(summed);
    let number = payload.u64()?;
    let record = payload.record()?;
    payload.0.is_empty().then_some((number, record))
}

struct Payload<'a>(&'a [u8]);

impl<'a> Payload<'a> {
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

    fn deferrals(&mut self) -> Option<Vec<Deferral>> {
        self.list(|payload| Some((payload.range()?, Duration::from_nanos(payload.u64()?))))
    }

    fn outstanding(&mut self) -> Option<Vec<Outstanding>> {
        self.list(|payload| {
            let range = payload.range()?;
            let attempts = u16_at(payload.take(2)?, 0);
            let due = payload.u64()?;
            Some(Outstanding { range, attempts, due_ns: (due != NO_DUE_TIME).then_some(due) })
        })
    }

    fn state(&mut self) -> Option<ChannelState> {
        let (end, cursor, paused) = (self.u64()?, self.u64()?, self.u8()? != 0);
        let (finished, outstanding) = (self.list(Self::range)?, self.outstanding()?);
        Some(ChannelState { end, cursor, finished, outstanding, paused })
    }

    fn delta(&mut self) -> Option<ChannelDelta> {
        let (end, cursor) = (self.u64()?, self.u64()?);
        let (finished, outstanding) = (self.list(Self::range)?, self.outstanding()?);
        Some(ChannelDelta { end, cursor, finished, outstanding })
    }

    fn waypoint(&mut self) -> Option<Waypoint> {
        let (segment, bytes, end) = (self.u32()?, self.u64()?, self.u64()?);
        let flags = self.u8()?;
        let boot_id = *self.take(16)?.first_chunk()?;
        let position = Position { segment, bytes, end, open: flags & 2 != 0 };
        Some(Waypoint { position, flushed: flags & 1 != 0, boot_id })
    }

    fn record(&mut self) -> Option<OwnedRecord> {
        Some(match self.u8()? {
            1 => {
                let (fanout, paused) = (self.u64()?, self.u8()? != 0);
                OwnedRecord::Topic { fanout, paused, deferred: self.deferrals()? }
            }
            2 | 4 => OwnedRecord::ChannelState(self.name()?, self.state()?),
            3 => OwnedRecord::ChannelDeleted(self.name()?),
            5 => OwnedRecord::ChannelDelta(self.name()?, self.delta()?),
            6 => OwnedRecord::ChannelPaused(self.name()?, self.u8()? != 0),
            7 => OwnedRecord::Deferrals(self.deferrals()?),
            8 => OwnedRecord::Waypoint(self.waypoint()?),
            9 => OwnedRecord::ChannelPart(self.name()?, self.outstanding()?),
            10 => OwnedRecord::Time { node_ns: self.u64()? },
            _ => return None,
        })
    }
}
