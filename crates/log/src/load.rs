//! Cold reads: whole batches from a segment file, checked, in a recycled buffer.

use std::{io, path::PathBuf, sync::Arc};

use crate::{
    chunk::Chunk,
    error::{Context, IoError, ReadError},
    extent::{BatchAt, Hole},
    notice::{Event, Notice},
    open_files::BorrowedFile,
    scan::{first_bytes, pieces, scan},
    segment::Segment,
    tail::Pieces,
    topic_log::TopicLog,
    walk::{Expected, Step, Trust, Walker},
};

/// The least that is read from a file at once.
const READ_BYTES_MIN: usize = 64 << 10;
/// The distance at which batches that a load passes are noted.
const NOTE_BYTES: u64 = 64 << 10;

/// A segment file from which messages are wanted.
struct Source<'a> {
    segment: Arc<Segment>,
    path: PathBuf,
    file: BorrowedFile<'a>,
    /// Bytes of the file that may be read.
    limit: u64,
    /// The first message that is not in this segment.
    end: u64,
    expected: Expected,
}

impl Source<'_> {
    fn walker(&self) -> Walker<'_> {
        Walker::new(self.file.file(), self.limit, self.expected)
    }

    /// The batch that holds message `seq`, from `start` on and if the headers between can be trusted.
    fn seek(&self, start: BatchAt, seq: u64) -> Result<Option<BatchAt>, IoError> {
        let mut noted = start.offset;
        let pass = |batch: BatchAt| {
            if batch.offset - noted >= NOTE_BYTES {
                noted = batch.offset;
                self.segment.extent().note(batch);
            }
        };
        self.walker().seek(start, seq, pass).context("read", &self.path)
    }
}

impl TopicLog {
    /// Returns true if cold reads hold as much memory as they may: only what is needed now should be loaded.
    pub fn reads_are_exhausted(&self) -> bool {
        self.shared.reads.is_exhausted()
    }

    /// Reads whole batches from disk, from the one that holds `first`: about `bytes` or, where the memory for cold
    /// reads is short, less; at least one batch.
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
        let mut chunk = Chunk::starting_at(first);
        loop {
            let seq = self.segments.skip_lost(first, written);
            chunk.lose_until(seq);
            if seq >= written {
                return Ok(chunk);
            }
            // `None` if the segment was released meanwhile: the next look goes on behind it.
            if let Some(source) = self.source(seq, written, &mut chunk.notices)?
                && let Some(pieces) = self.load_from(&source, seq, bytes, &mut chunk.notices)?
            {
                chunk.fill(pieces);
                return Ok(chunk);
            }
        }
    }

    fn source(
        &self,
        seq: u64,
        written: u64,
        notices: &mut Vec<Notice>,
    ) -> Result<Option<Source<'_>>, IoError> {
        let Some((segment, next)) = self.segments.holding(seq) else { return Ok(None) };
        let path = self.segment_path(segment.number);
        let end = next.unwrap_or(written);
        let file = match self.shared.open_files.borrow(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.segments.contains(segment.number) {
                    // The file was removed by others: all of it is lost.
                    let hole = Hole { lost: segment.first..end, bytes: 0..0 };
                    self.note_hole(path, hole, notices);
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
        let limit = limit.min(file.file().len().context("measure", &path)?);
        Ok(Some(Source { segment, path, file, limit, end, expected }))
    }

    /// Reads the batch that holds `seq` and those that follow. `None` when `seq` turns out to be lost.
    fn load_from(
        &self,
        source: &Source<'_>,
        seq: u64,
        bytes: usize,
        notices: &mut Vec<Notice>,
    ) -> Result<Option<Pieces>, IoError> {
        let mut start = source.segment.nearest(seq);
        loop {
            if let Some(at) = source.seek(start, seq)?
                && let Some(pieces) = self.fill(source, at, seq, bytes)?
            {
                return Ok(Some(pieces));
            }
            // Headers misled the way, or the batch is damaged: only checksums tell.
            match self.find_hole(source, start, seq, notices)? {
                Some(next) if next.first <= seq => start = next,
                _ => return Ok(None),
            }
        }
    }

    /// Reads the batch at `at`, which holds `seq`, and those that follow. `None` when it is damaged.
    fn fill(
        &self,
        source: &Source<'_>,
        at: BatchAt,
        seq: u64,
        bytes: usize,
    ) -> Result<Option<Pieces>, IoError> {
        let hole = self.segments.next_hole(seq).unwrap_or(u64::MAX);
        let stop = source.end.min(hole);
        let pool = &self.shared.pool;
        let mut lease = self.shared.reads.take(bytes.max(READ_BYTES_MIN), READ_BYTES_MIN);
        let rest = usize::try_from(source.limit.saturating_sub(at.offset)).unwrap_or(usize::MAX);
        let mut wanted = lease.bytes().min(rest);
        loop {
            let mut buffer = pool.take(wanted);
            lease.resize(buffer.bytes.capacity());
            buffer.bytes.resize(wanted, 0);
            let read = source.file.file().read_at(&mut buffer.bytes, at.offset);
            let read = read.context("read", &source.path)?;
            buffer.bytes.truncate(read);
            let batches = scan(&buffer.bytes, &source.expected, seq, stop);
            if let Some(last) = batches.last() {
                let next = BatchAt { first: last.end, offset: at.offset + last.bytes.end as u64 };
                source.segment.extent().note_read(at, next);
                return Ok(pieces(buffer, &batches, pool, lease));
            }
            let needs = first_bytes(&buffer.bytes, &source.expected);
            pool.give(buffer);
            match needs.and_then(|needs| usize::try_from(needs).ok()) {
                Some(needs) if needs > wanted && needs <= rest => wanted = needs,
                _ => return Ok(None),
            }
        }
    }

    /// Finds the first damage between `start`, where a batch should be, and `seq`, and notes the messages that are
    /// lost by it. Returns the good batch that follows, if there is one in the file.
    fn find_hole(
        &self,
        source: &Source<'_>,
        start: BatchAt,
        seq: u64,
        notices: &mut Vec<Notice>,
    ) -> Result<Option<BatchAt>, IoError> {
        let damage =
            first_damage(&mut source.walker(), start, seq).context("read", &source.path)?;
        let (at, next) = damage;
        if let Some(next) = next {
            source.segment.extent().note_detour(next);
        }
        let to = next.unwrap_or(BatchAt { first: source.end, offset: source.limit });
        self.note_hole(source.path.clone(), Hole::between(at, to), notices);
        Ok(next)
    }

    /// Notes lost messages, and reports them if that is news.
    fn note_hole(&self, path: PathBuf, hole: Hole, notices: &mut Vec<Notice>) {
        if self.segments.add_hole(hole.lost.clone()) > 0 {
            notices.push(Notice { path, event: Event::lost(hole) });
        }
    }
}

/// Walks from `start` to the first bad batch at or before `seq`. Returns where it should begin, and the good one
/// that follows.
fn first_damage(
    walker: &mut Walker<'_>,
    start: BatchAt,
    seq: u64,
) -> io::Result<(BatchAt, Option<BatchAt>)> {
    let mut at = start;
    loop {
        let after = |offset: u64, end, bytes| BatchAt { first: end, offset: offset + bytes };
        match walker.step(at.offset, at.first, Trust::Nothing)? {
            Step::Batch(header) if header.end() <= seq => {
                at = after(at.offset, header.end(), header.bytes());
            }
            // The checksum is right and yet the records do not add up: not something to look at twice.
            Step::Batch(header) => {
                return Ok((at, Some(after(at.offset, header.end(), header.bytes()))));
            }
            Step::Damage(next) => {
                let next = next.map(|(offset, header)| BatchAt { first: header.first, offset });
                return Ok((at, next));
            }
            Step::End => return Ok((at, None)),
        }
    }
}
