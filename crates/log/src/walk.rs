//! A walk over the batches of a segment file: checks them and finds the way around damage.

use std::time::Duration;

use crate::{
    batch::{BATCH_HEADER_BYTES, BATCH_MAGIC, BatchHeader, summed_from},
    disk::File,
    extent::{BatchAt, Extent, Hole},
    id::SEGMENT_MESSAGES_MAX,
    journal::{Deferral, push_deferral},
    segment::SEGMENT_HEADER_BYTES,
};

/// How much is read from the file at once.
const WINDOW_BYTES: usize = 256 << 10;
/// Batches above this are skipped in a walk over headers, rather than read.
const SKIP_BYTES_MIN: u64 = 32 << 10;
/// How much is read at once then.
const SKIP_WINDOW_BYTES: usize = 4 << 10;

/// The properties that all batches of a segment share.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Expected {
    /// `None` accepts any topic: for a segment that lost its header.
    pub(crate) topic_id: Option<u64>,
    pub(crate) segment: u32,
    /// The first message of the segment; `None` if it is not known.
    pub(crate) first: Option<u64>,
}

/// How far a walk trusts the file.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// It reads all records and compares checksums.
    Nothing,
    /// It reads headers and skips the records.
    Headers,
}

/// The outcome of looking at a position of a segment file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A good batch.
    Batch(BatchHeader),
    /// Something else; the next good batch, if there is one, with its offset.
    Damage(Option<(u64, BatchHeader)>),
    /// The end of the file.
    End,
}

/// The outcome of a walk over a segment.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// The end of the last good batch, its index and so on.
    pub(crate) extent: Extent,
    /// The sequence number after the last good batch.
    pub(crate) end: u64,
    /// Messages lost between good batches, and where in the file.
    pub(crate) holes: Vec<Hole>,
    pub(crate) deferrals: Vec<Deferral>,
}

/// A window that moves over a segment file.
pub(crate) struct Walker<'a> {
    file: &'a dyn File,
    /// Nothing is read at or behind this offset.
    limit: u64,
    expected: Expected,
    window: Vec<u8>,
    window_at: u64,
    /// The size of the next read.
    window_bytes: usize,
    /// The largest size of a read.
    window_bytes_max: usize,
}

impl<'a> Walker<'a> {
    pub(crate) fn new(file: &'a dyn File, limit: u64, expected: Expected) -> Self {
        Self::with_window(file, limit, expected, WINDOW_BYTES)
    }

    /// A walker that reads little at once: for one that has only a few small headers to look at.
    pub(crate) fn sparing(file: &'a dyn File, limit: u64, expected: Expected) -> Self {
        Self::with_window(file, limit, expected, SKIP_WINDOW_BYTES)
    }

    fn with_window(file: &'a dyn File, limit: u64, expected: Expected, bytes_max: usize) -> Self {
        let (window, window_at) = (Vec::new(), 0);
        let (window_bytes, window_bytes_max) = (bytes_max, bytes_max);
        Self { file, limit, expected, window, window_at, window_bytes, window_bytes_max }
    }

    /// Walks all batches behind the segment header, of which the first begins with message `first`.
    pub(crate) fn walk(&mut self, first: u64, trust: Trust) -> std::io::Result<Walked> {
        self.walk_from(BatchAt { first, offset: SEGMENT_HEADER_BYTES as u64 }, trust)
    }

    /// Walks all batches from one on.
    pub(crate) fn walk_from(&mut self, from: BatchAt, trust: Trust) -> std::io::Result<Walked> {
        let mut offset = from.offset;
        let mut walked = Walked { end: from.first, ..Walked::default() };
        loop {
            match self.step(offset, walked.end, trust)? {
                Step::Batch(header) => {
                    walked.note(&header, offset);
                    offset += header.bytes();
                }
                Step::Damage(Some((found_at, header))) => {
                    let found = BatchAt { first: header.first, offset: found_at };
                    walked.holes.push(Hole::between(BatchAt { first: walked.end, offset }, found));
                    walked.note(&header, found_at);
                    offset = found_at + header.bytes();
                }
                Step::Damage(None) | Step::End => break,
            }
        }
        walked.extent.bytes = offset;
        Ok(walked)
    }

    /// The batch that holds message `seq`, as far as headers between `start` and it can be trusted; `None` when they
    /// do not lead there. `pass` is called with each batch on the way.
    pub(crate) fn seek(
        &mut self,
        start: BatchAt,
        seq: u64,
        mut pass: impl FnMut(BatchAt),
    ) -> std::io::Result<Option<BatchAt>> {
        let mut at = start;
        // The first message of a batch needs no header.
        while at.first < seq {
            let header = self.batch_at(at.offset, Trust::Headers)?;
            let Some(header) = header.filter(|header| header.first == at.first) else {
                return Ok(None);
            };
            if header.end() > seq {
                break;
            }
            at = BatchAt { first: header.end(), offset: at.offset + header.bytes() };
            pass(at);
        }
        Ok(Some(at))
    }

    /// The header of the batch at a place, as far as it can be trusted without its checksum.
    pub(crate) fn header(&mut self, at: BatchAt) -> std::io::Result<Option<BatchHeader>> {
        self.batch_at(at.offset, Trust::Headers)
    }

    /// Looks at `offset`, where the batch beginning with message `seq` should be.
    pub(crate) fn step(&mut self, offset: u64, seq: u64, trust: Trust) -> std::io::Result<Step> {
        if offset >= self.limit {
            return Ok(Step::End);
        }
        match self.batch_at(offset, trust)? {
            Some(header) if header.first == seq => Ok(Step::Batch(header)),
            // A batch of the right segment that skips messages: something before it is missing.
            Some(header) if header.first > seq => Ok(Step::Damage(Some((offset, header)))),
            _ => Ok(Step::Damage(self.search(offset + 1, seq)?)),
        }
    }

    /// The first good batch at or behind `offset` that begins with message `seq` or a later one.
    pub(crate) fn search(
        &mut self,
        mut offset: u64,
        seq: u64,
    ) -> std::io::Result<Option<(u64, BatchHeader)>> {
        while offset + BATCH_HEADER_BYTES as u64 <= self.limit {
            let view = self.view(offset, BATCH_HEADER_BYTES)?;
            let Some(at) = view.windows(4).position(|four| four == BATCH_MAGIC) else {
                offset += (view.len() - 3).max(1) as u64;
                continue;
            };
            offset += at as u64;
            match self.batch_at(offset, Trust::Nothing)? {
                Some(header) if header.first >= seq => return Ok(Some((offset, header))),
                _ => offset += 1,
            }
        }
        Ok(None)
    }

    /// The batch at `offset` if there is a good one.
    fn batch_at(&mut self, offset: u64, trust: Trust) -> std::io::Result<Option<BatchHeader>> {
        if self.limit.saturating_sub(offset) < BATCH_HEADER_BYTES as u64 {
            return Ok(None);
        }
        let view = self.view(offset, BATCH_HEADER_BYTES)?;
        let Some(header) = view.first_chunk().and_then(BatchHeader::decode) else {
            return Ok(None);
        };
        let fits = self.expected.accepts(&header) && offset + header.bytes() <= self.limit;
        let skipped = trust == Trust::Headers && header.bytes() >= SKIP_BYTES_MIN;
        self.window_bytes = if skipped { SKIP_WINDOW_BYTES } else { self.window_bytes_max };
        let good =
            fits && (trust == Trust::Headers || self.checksum(offset, &header)? == header.crc);
        Ok(good.then_some(header))
    }

    /// The checksum of a batch, computed window by window so that a wrong length costs no memory.
    fn checksum(&mut self, offset: u64, header: &BatchHeader) -> std::io::Result<u32> {
        let end = offset + header.bytes();
        let mut at = offset + summed_from() as u64;
        let mut crc = 0;
        while at < end {
            let view = self.view(at, 1)?;
            let count = usize::try_from(end - at).map_or(view.len(), |n| n.min(view.len()));
            if count == 0 {
                break;
            }
            crc = crc32c::crc32c_append(crc, &view[..count]);
            at += count as u64;
        }
        Ok(crc)
    }

    /// The bytes of the file from `offset` on: at least `bytes` unless the limit is nearer.
    fn view(&mut self, offset: u64, bytes: usize) -> std::io::Result<&[u8]> {
        let end = self.window_at + self.window.len() as u64;
        let wanted = (offset + bytes as u64).min(self.limit);
        if offset < self.window_at || wanted > end {
            let rest = usize::try_from(self.limit - offset).unwrap_or(usize::MAX);
            self.window.resize(self.window_bytes.max(bytes).min(rest), 0);
            let read = self.file.read_at(&mut self.window, offset)?;
            self.window.truncate(read);
            self.window_at = offset;
            if (read as u64) < wanted - offset {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        let at = usize::try_from(offset - self.window_at).unwrap_or(usize::MAX);
        Ok(&self.window[at..])
    }
}

impl Walked {
    fn note(&mut self, header: &BatchHeader, offset: u64) {
        self.extent.note(BatchAt { first: header.first, offset });
        self.end = header.end();
        if header.defer_ns > 0 {
            let range = header.first..header.end();
            push_deferral(&mut self.deferrals, range, Duration::from_nanos(header.defer_ns));
        }
    }
}

impl Expected {
    /// Returns true if a header fits here, its checksum aside.
    pub(crate) fn accepts(&self, header: &BatchHeader) -> bool {
        self.topic_id.is_none_or(|id| id == header.topic_id)
            && header.segment == self.segment
            && header.count > 0
            && u64::from(header.index) + u64::from(header.count) <= SEGMENT_MESSAGES_MAX
            && header
                .first
                .checked_sub(u64::from(header.index))
                .is_some_and(|first| self.first.is_none_or(|expected| expected == first))
            && header.first.checked_add(u64::from(header.count)).is_some()
    }
}
