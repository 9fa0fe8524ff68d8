//! Cold reads: whole batches from a segment file, checked, in a recycled buffer.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    batch::{BATCH_HEADER_BYTES, BatchHeader, checksum, records_end},
    disk::File,
    error::{Context, IoError, ReadError},
    lock,
    notice::{Event, Notice},
    pool::{Buffer, Pool, Pooled},
    segment::{SEGMENT_HEADER_BYTES, Segment, Table},
    tail::{Pieces, Read, Slice},
    topic_log::TopicLog,
    walk::{Expected, Step, Trust, Walker},
};

/// The least that is read from a file at once.
const READ_BYTES_MIN: usize = 64 << 10;
/// Records of batches below this are moved together, so that a backlog of single publishes is read as one slice.
const MERGE_BYTES_MAX: usize = 4 << 10;

/// Messages read back from disk.
#[derive(Debug)]
pub struct Chunk {
    lost: Range<u64>,
    pieces: Pieces,
    notices: Vec<Notice>,
}

impl Chunk {
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

    /// Takes messages, as [`TopicLog::read`] does from memory.
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

/// A position in a segment file from which messages are wanted.
struct Cursor {
    segment: Arc<Segment>,
    path: PathBuf,
    file: Arc<dyn File>,
    /// Bytes of the file that may be read.
    limit: u64,
    /// The first message that is not in this segment.
    end: u64,
    expected: Expected,
}

impl TopicLog {
    /// Reads whole batches from disk, from the one that holds `first`: about `bytes`, at least one batch.
    ///
    /// Blocks for as long as the device takes; no lock is held meanwhile.
    ///
    /// # Errors
    /// When the file cannot be read, or `first` is not on disk yet. Damage is no error: the
    /// chunk tells which messages are lost.
    pub fn load(&self, first: u64, bytes: usize) -> Result<Chunk, ReadError> {
        let written = self.written();
        if first >= written || self.memory_only {
            return Err(ReadError::Beyond { first, end: written });
        }
        let mut chunk =
            Chunk { lost: first..first, pieces: Pieces::starting_at(first), notices: Vec::new() };
        let mut seq = first;
        loop {
            seq = self.skip_lost(seq, written);
            chunk.lost.end = seq;
            chunk.pieces = Pieces::starting_at(seq);
            if seq >= written {
                return Ok(chunk);
            }
            let Some(cursor) = self.cursor(seq, written, &mut chunk.notices)? else {
                // Released between two looks: the next look says so.
                continue;
            };
            self.index(&cursor, &mut chunk.notices)?;
            if lock(&self.table).hole_end(seq).is_some() {
                continue;
            }
            let start = cursor.segment.extent().nearest(seq);
            let start = start.unwrap_or((cursor.segment.first, SEGMENT_HEADER_BYTES as u64));
            match self.fill(&cursor, start.1, seq, bytes)? {
                Some(pieces) => {
                    chunk.pieces = pieces;
                    return Ok(chunk);
                }
                None => self.find_hole(&cursor, start, seq, &mut chunk.notices)?,
            }
        }
    }

    /// The first sequence number from `seq` on that is not known to be lost.
    fn skip_lost(&self, seq: u64, written: u64) -> u64 {
        let table = lock(&self.table);
        let kept_from = table.segments.first().map_or(written, |segment| segment.first);
        let mut seq = seq.max(kept_from);
        while let Some(end) = table.hole_end(seq) {
            seq = end;
        }
        seq
    }

    fn cursor(
        &self,
        seq: u64,
        written: u64,
        notices: &mut Vec<Notice>,
    ) -> Result<Option<Cursor>, IoError> {
        let Some((segment, next)) = lock(&self.table).holding(seq) else { return Ok(None) };
        let path = self.segment_path(segment.number);
        let file = match self.shared.disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut table = lock(&self.table);
                if table.segments.iter().any(|known| known.number == segment.number) {
                    // Removed behind our back: all of it is lost.
                    let lost = segment.first..next.unwrap_or(written);
                    note(&mut table, &path, 0..0, lost, notices);
                }
                return Ok(None);
            }
            Err(error) => return Err(IoError::new("open", &path, error)),
        };
        let expected = Expected {
            topic_id: Some(self.id),
            segment: segment.number,
            first: Some(segment.first),
        };
        let limit = segment.extent().bytes;
        let limit = limit.min(file.len().context("measure", &path)?);
        let end = next.unwrap_or(written);
        Ok(Some(Cursor { segment, path, file, limit, end, expected }))
    }

    /// Builds the index of a segment that was written by an earlier run.
    fn index(&self, cursor: &Cursor, notices: &mut Vec<Notice>) -> Result<(), IoError> {
        if cursor.segment.extent().indexed {
            return Ok(());
        }
        let mut walker = Walker::new(&*cursor.file, cursor.limit, cursor.expected);
        let first = cursor.segment.first;
        let mut walked = walker.walk(first, Trust::Headers).context("read", &cursor.path)?;
        if !walked.holes.is_empty() || walked.end < cursor.end {
            // A damaged header misled the walk; only checksums tell which one.
            walked = walker.walk(first, Trust::Nothing).context("read", &cursor.path)?;
        }
        let mut table = lock(&self.table);
        for hole in &walked.holes {
            note(&mut table, &cursor.path, hole.bytes.clone(), hole.lost.clone(), notices);
        }
        if walked.end < cursor.end {
            let bytes = walked.extent.bytes..cursor.limit;
            note(&mut table, &cursor.path, bytes, walked.end..cursor.end, notices);
        }
        let mut extent = cursor.segment.extent();
        // The active segment may have grown since; its newer batches are noted already.
        let known = extent.index.iter().filter(|(_, offset)| *offset >= cursor.limit).copied();
        walked.extent.index.extend(known);
        extent.index = walked.extent.index;
        extent.indexed = true;
        Ok(())
    }

    /// Reads from `offset`, where a batch begins, and keeps those that hold `seq` and what follows.
    /// `None` when the batch that should hold `seq` is damaged.
    fn fill(
        &self,
        cursor: &Cursor,
        offset: u64,
        seq: u64,
        bytes: usize,
    ) -> Result<Option<Pieces>, IoError> {
        let hole = lock(&self.table).next_hole(seq).unwrap_or(u64::MAX);
        let stop = cursor.end.min(hole);
        let mut offset = offset;
        let mut wanted = bytes.max(READ_BYTES_MIN);
        loop {
            let mut buffer = self.shared.pool.take(wanted);
            let rest = usize::try_from(cursor.limit.saturating_sub(offset)).unwrap_or(usize::MAX);
            buffer.bytes.resize(wanted.min(rest), 0);
            let read = cursor.file.read_at(&mut buffer.bytes, offset);
            let read = read.context("read", &cursor.path)?;
            buffer.bytes.truncate(read);
            let found = scan(&buffer.bytes, &cursor.expected, seq, stop);
            if let Some(last) = found.batches.last() {
                cursor.segment.extent().hint = (last.end, offset + last.bytes.end as u64);
                return Ok(pieces(buffer, &found.batches, &self.shared.pool));
            }
            self.shared.pool.give(buffer);
            match found.stopped {
                // Only batches before `seq` were in the window.
                Stopped::Short { at: 1.., .. } => offset += found.stopped.at(),
                Stopped::Short { at: 0, needs }
                    if needs > wanted as u64 && needs <= rest as u64 =>
                {
                    wanted = usize::try_from(needs).unwrap_or(usize::MAX);
                }
                _ => return Ok(None),
            }
        }
    }

    /// Finds out what is damaged between `start`, where a batch should be, and `seq`, so that the next look goes around it.
    fn find_hole(
        &self,
        cursor: &Cursor,
        start: (u64, u64),
        seq: u64,
        notices: &mut Vec<Notice>,
    ) -> Result<(), IoError> {
        let mut walker = Walker::new(&*cursor.file, cursor.limit, cursor.expected);
        let damage = first_damage(&mut walker, start, seq).context("read", &cursor.path)?;
        if let Some(next) = damage.next {
            cursor.segment.extent().insert(next);
        }
        let (end, to) = damage.next.unwrap_or((cursor.end, cursor.limit));
        let (bytes, lost) = (damage.offset..to, damage.first..end);
        note(&mut lock(&self.table), &cursor.path, bytes, lost, notices);
        Ok(())
    }
}

/// Notes a hole in the table and in what is reported.
fn note(
    table: &mut Table,
    path: &Path,
    bytes: Range<u64>,
    lost: Range<u64>,
    notices: &mut Vec<Notice>,
) {
    if table.add_hole(lost.clone()) {
        notices.push(Notice { path: path.to_owned(), event: Event::lost(bytes, lost) });
    }
}

/// A batch that cannot be used, and what follows it.
struct Damage {
    first: u64,
    offset: u64,
    /// First message and offset of what may be good again.
    next: Option<(u64, u64)>,
}

/// Walks from `start` (a message and the offset of the batch it begins) to the first bad batch at or before `seq`.
fn first_damage(walker: &mut Walker<'_>, start: (u64, u64), seq: u64) -> std::io::Result<Damage> {
    let (mut first, mut offset) = start;
    loop {
        match walker.step(offset, first, Trust::Nothing)? {
            Step::Batch(header) if header.end() <= seq => {
                (first, offset) = (header.end(), offset + header.bytes());
            }
            // The checksum is right and yet the records do not add up: not something to look at twice.
            Step::Batch(header) => {
                let next = Some((header.end(), offset + header.bytes()));
                return Ok(Damage { first, offset, next });
            }
            Step::Damage(next) => {
                let next = next.map(|(at, header)| (header.first, at));
                return Ok(Damage { first, offset, next });
            }
            Step::End => return Ok(Damage { first, offset, next: None }),
        }
    }
}

/// A good batch in a window.
struct Found {
    first: u64,
    end: u64,
    /// Header and records.
    bytes: Range<usize>,
    count: u32,
}

/// Why a scan ended.
#[derive(Copy, Clone, Debug)]
enum Stopped {
    /// The window ends within the batch at `at`, which needs so many bytes.
    Short {
        at: u64,
        needs: u64,
    },
    Damaged,
    Done,
}

impl Stopped {
    fn at(self) -> u64 {
        if let Self::Short { at, .. } = self { at } else { 0 }
    }
}

struct Scanned {
    batches: Vec<Found>,
    stopped: Stopped,
}

/// Finds the good batches in a window that begins with a batch: from the one that holds `seq`, without gaps, up to `stop`.
fn scan(window: &[u8], expected: &Expected, seq: u64, stop: u64) -> Scanned {
    let mut batches: Vec<Found> = Vec::new();
    let mut at = 0;
    let stopped = loop {
        let next = batches.last().map(|batch| batch.end);
        if next.is_some_and(|next| next >= stop) {
            break Stopped::Done;
        }
        let Some(head) = window[at..].first_chunk::<BATCH_HEADER_BYTES>() else {
            break Stopped::Short { at: at as u64, needs: BATCH_HEADER_BYTES as u64 };
        };
        let Some(header) = BatchHeader::decode(head).filter(|header| expected.accepts(header))
        else {
            break Stopped::Damaged;
        };
        let needs = header.bytes();
        let Some(batch) = usize::try_from(needs).ok().and_then(|needs| window.get(at..at + needs))
        else {
            break Stopped::Short { at: at as u64, needs };
        };
        let bytes = at..at + batch.len();
        at = bytes.end;
        if header.end() <= seq {
            continue;
        }
        let follows = next.map_or(header.first <= seq, |next| header.first == next);
        if !follows || checksum(batch) != header.crc {
            break Stopped::Damaged;
        }
        batches.push(Found { first: header.first, end: header.end(), bytes, count: header.count });
    };
    Scanned { batches, stopped }
}

/// Makes pieces of the batches in a buffer, moving the records of small ones together.
/// `None` when records do not add up, which a checksum does not allow.
fn pieces(mut buffer: Buffer, batches: &[Found], pool: &Arc<Pool>) -> Option<Pieces> {
    let mut pieces = Pieces::starting_at(batches.first()?.first);
    let mut spans: Vec<(u64, Range<usize>)> = Vec::new();
    for batch in batches {
        let records = batch.bytes.start + BATCH_HEADER_BYTES..batch.bytes.end;
        let length = records.len();
        let target = match spans.last_mut() {
            Some((_, span)) if length < MERGE_BYTES_MAX => {
                buffer.bytes.copy_within(records, span.end);
                let start = span.end;
                span.end += length;
                start..start + length
            }
            _ => {
                spans.push((batch.first, records.clone()));
                records
            }
        };
        let base = spans.last().map_or(target.start, |(_, span)| span.start);
        let base = u32::try_from(target.start - base).ok()?;
        let whole = records_end(&buffer.bytes[target], batch.count, |end| {
            pieces.push_end(base.saturating_add(end));
        });
        if !whole {
            return None;
        }
    }
    let bytes = Bytes::from_owner(Pooled::new(buffer, Arc::clone(pool)));
    for (first, span) in spans {
        pieces.push_bytes(first, bytes.slice(span), 0);
    }
    Some(pieces)
}
