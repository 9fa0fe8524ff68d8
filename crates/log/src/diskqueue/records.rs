//! The records of a queue file, read in order and in bounded memory.

use std::{io, ops::Range, path::PathBuf, sync::Arc};

use super::{ID_AT, LENGTH_BYTES, RECORD_HEAD_BYTES};
use crate::{
    batch::{u16_at, u32_at, u64_at},
    disk::{Disk, File},
    error::{Context, IoError},
};

/// A file is read in pieces of this size.
const READ_BYTES: u64 = 1 << 20;

/// A message in a queue file.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) timestamp_ns: i64,
    /// The number of deliveries so far.
    pub(crate) attempts: u16,
    pub(crate) body: &'a [u8],
}

/// The next thing in a queue file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    Record {
        at: u64,
        record: Record<'a>,
    },
    /// Bytes that are no record: damage, or a write that was cut short.
    Unreadable(Range<u64>),
}

/// Reads the records of a file.
///
/// The format has no checksums. A record counts as one if its length fits into the file and its id is hexadecimal, as all
/// ids of nsqd are; after bytes that are none the next one is searched for.
pub(super) struct Records {
    file: Arc<dyn File>,
    path: PathBuf,
    offset: u64,
    end: u64,
    buffer: Vec<u8>,
    /// The offset of the buffer in the file.
    buffer_at: u64,
}

impl Records {
    /// Opens a file for reading from `offset` on.
    pub(super) fn open(disk: &dyn Disk, path: PathBuf, offset: u64) -> Result<Self, IoError> {
        let file = disk.open(&path).context("open", &path)?;
        let end = file.len().context("measure", &path)?;
        Ok(Self { file, path, offset, end, buffer: Vec::new(), buffer_at: 0 })
    }

    /// The next record, or the bytes in front of it that are none; `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Item<'_>>, IoError> {
        let at = self.offset;
        if at >= self.end {
            return Ok(None);
        }
        let Some(bytes) = self.measure(at)? else {
            self.offset = self.find_record(at + 1)?;
            return Ok(Some(Item::Unreadable(at..self.offset)));
        };
        self.offset = at + bytes;
        let bytes = self.bytes(at, bytes)?;
        let record = Record {
            timestamp_ns: u64_at(bytes, LENGTH_BYTES).cast_signed(),
            attempts: u16_at(bytes, LENGTH_BYTES + 8),
            body: &bytes[RECORD_HEAD_BYTES..],
        };
        Ok(Some(Item::Record { at, record }))
    }

    /// The size of the record at `offset`; `None` if there is none.
    fn measure(&mut self, offset: u64) -> Result<Option<u64>, IoError> {
        let rest = self.end - offset;
        if rest < RECORD_HEAD_BYTES as u64 {
            return Ok(None);
        }
        let head = self.bytes(offset, RECORD_HEAD_BYTES as u64)?;
        let bytes = LENGTH_BYTES as u64 + u64::from(u32_at(head, 0));
        let fits = (RECORD_HEAD_BYTES as u64..=rest).contains(&bytes);
        let has_id = head[ID_AT..RECORD_HEAD_BYTES].iter().all(u8::is_ascii_hexdigit);
        Ok((fits && has_id).then_some(bytes))
    }

    /// The offset of the first record from `offset` on; the end of the file if there is none.
    fn find_record(&mut self, mut offset: u64) -> Result<u64, IoError> {
        while offset + RECORD_HEAD_BYTES as u64 <= self.end {
            let id = &self.bytes(offset, RECORD_HEAD_BYTES as u64)?[ID_AT..];
            // A byte that is not part of an id rules out every record whose id would reach over it.
            match id.iter().rposition(|byte| !byte.is_ascii_hexdigit()) {
                Some(at) => offset += at as u64 + 1,
                None if self.measure(offset)?.is_some() => return Ok(offset),
                None => offset += 1,
            }
        }
        Ok(self.end)
    }

    /// Bytes of the file, all before its end.
    fn bytes(&mut self, offset: u64, count: u64) -> Result<&[u8], IoError> {
        let held = self.buffer_at..self.buffer_at + self.buffer.len() as u64;
        if offset < held.start || offset + count > held.end {
            self.fill(offset, count)?;
        }
        let at = usize::try_from(offset - self.buffer_at).unwrap_or(usize::MAX);
        Ok(&self.buffer[at..][..usize::try_from(count).unwrap_or(usize::MAX)])
    }

    fn fill(&mut self, offset: u64, count: u64) -> Result<(), IoError> {
        let wanted = count.max(READ_BYTES).min(self.end - offset);
        self.buffer.resize(usize::try_from(wanted).unwrap_or(usize::MAX), 0);
        let read = self.file.read_at(&mut self.buffer, offset).context("read", &self.path)?;
        if read < self.buffer.len() {
            self.buffer.clear();
            let shrunk = io::ErrorKind::UnexpectedEof.into();
            return Err(IoError::new("read", &self.path, shrunk));
        }
        self.buffer_at = offset;
        Ok(())
    }
}
