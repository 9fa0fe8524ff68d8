//! The log of one topic, as its users see it.
//!
//! # Invariants
//! 1. `first ≤ end`, `tail start ≤ end` and `synced ≤ written`; none of them ever goes back while the log is open.
//! 2. Locks are taken in the order syncing, writer, then one of journal, table, tail, node at a time.
//!    Readers take the tail or the table only, so they never wait for a write.
//! 3. What an append was acknowledged for is in the tail or, once written, in a segment.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Acquire, Ordering::Release},
    },
    time::Duration,
};

use nsq_protocol::{MessageId, TopicName};

use crate::{
    error::Error,
    id::split_id,
    journal::Journal,
    journal_codec::JournalRecord,
    lock,
    segment::{SegmentSpan, Table, segment_path},
    state::TopicState,
    store::Shared,
    tail::{Bounds, Read, Slice, Tail},
    writer::Writer,
};

/// When an append was made and when its messages are due.
#[derive(Copy, Clone, Debug, Default)]
pub struct Append {
    /// The time of the publish, ns since 1970; becomes the timestamp of every message of the batch.
    pub timestamp_ns: i64,
    /// How long the messages are to wait before they are delivered.
    pub defer: Option<Duration>,
}

/// How well a topic can take messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// As it should be.
    Good,
    /// The last write failed for lack of space or descriptors; appends are tried again.
    Short(String),
    /// Nothing is appended until [`TopicLog::reopen`] succeeds.
    Stopped(String),
}

/// The append-only log of one topic.
#[derive(Debug)]
pub struct TopicLog {
    pub(crate) name: TopicName,
    pub(crate) id: u64,
    pub(crate) dir: PathBuf,
    pub(crate) shared: Arc<Shared>,
    /// Ephemeral: nothing is on disk, the tail keeps everything until it is released.
    pub(crate) memory_only: bool,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) tail: Mutex<Tail>,
    pub(crate) table: Mutex<Table>,
    pub(crate) journal: Mutex<Journal>,
    /// Held during a sync and a reopen, so that there is one at a time.
    pub(crate) syncing: Mutex<()>,
    pub(crate) marks: Marks,
}

/// Positions that can be read without a lock.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    pub(crate) first: AtomicU64,
    pub(crate) tail_start: AtomicU64,
    pub(crate) end: AtomicU64,
    pub(crate) written: AtomicU64,
    pub(crate) synced: AtomicU64,
    /// Where the second segment begins, before which nothing can be released; `u64::MAX` while there is none.
    pub(crate) release_from: AtomicU64,
}

/// What a log starts from: nothing, or what recovery found.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) id: u64,
    pub(crate) end: u64,
    pub(crate) synced: u64,
    pub(crate) table: Table,
    pub(crate) writer: Writer,
    pub(crate) journal: Journal,
}

impl TopicLog {
    pub(crate) fn new(name: TopicName, dir: PathBuf, shared: Arc<Shared>, start: Start) -> Self {
        let log = Self {
            memory_only: name.is_ephemeral(),
            name,
            id: start.id,
            dir,
            shared,
            writer: Mutex::new(start.writer),
            tail: Mutex::new(Tail::starting_at(start.end)),
            table: Mutex::new(start.table),
            journal: Mutex::new(start.journal),
            syncing: Mutex::new(()),
            marks: Marks::default(),
        };
        log.marks.tail_start.store(start.end, Release);
        log.marks.end.store(start.end, Release);
        log.marks.written.store(start.end, Release);
        log.marks.synced.store(start.synced, Release);
        log.mark_table(&lock(&log.table));
        log
    }

    /// The topic's name.
    pub fn name(&self) -> &TopicName {
        &self.name
    }

    /// The random id that tells this topic from others that had its name before.
    pub fn topic_id(&self) -> u64 {
        self.id
    }

    /// The sequence number that the next message gets.
    pub fn end(&self) -> u64 {
        self.marks.end.load(Acquire)
    }

    /// The sequence number of the oldest message kept; the end when there is none.
    pub fn first(&self) -> u64 {
        if self.memory_only { self.tail_start() } else { self.marks.first.load(Acquire) }
    }

    /// The sequence number of the first message in memory.
    pub fn tail_start(&self) -> u64 {
        self.marks.tail_start.load(Acquire)
    }

    /// The end of what the operating system has.
    pub fn written(&self) -> u64 {
        self.marks.written.load(Acquire)
    }

    /// The end of what survives a power cut.
    pub fn synced(&self) -> u64 {
        self.marks.synced.load(Acquire)
    }

    /// Reads messages from memory, never from disk: at least one, else as many as fit into `bytes_max`.
    pub fn read(&self, range: Range<u64>, bytes_max: usize, out: &mut Vec<Slice>) -> Read {
        if range.is_empty() {
            return Read::Taken(0);
        }
        let mut tail = lock(&self.tail);
        if range.start >= tail.end() {
            return Read::Taken(0);
        }
        if range.start >= tail.first() {
            return Read::Taken(tail.read(range, bytes_max, out));
        }
        drop(tail);
        let kept_from = self.first();
        if range.start < kept_from {
            return Read::Gone(kept_from.min(range.end) - range.start);
        }
        let hole_end = lock(&self.table).hole_end(range.start);
        hole_end.map_or(Read::Cold, |end| Read::Gone(end.min(range.end) - range.start))
    }

    /// The sequence number of the message with this id, if it is in this log.
    pub fn locate(&self, id: MessageId) -> Option<u64> {
        let parts = split_id(id)?;
        self.segment_of(parts.segment)?.seq(parts.index)
    }

    /// The live segment with this key (the segment part of an id). A session may remember the span: it grows while
    /// the segment is written, and never holds a message of another one.
    pub fn segment_of(&self, key: u32) -> Option<SegmentSpan> {
        let table = lock(&self.table);
        // Read under the table's lock: a segment is listed before the end moves into it.
        table.span(key, self.end())
    }

    /// Records what happened to the topic and its channels, with one write. Nothing for an ephemeral topic.
    ///
    /// # Errors
    /// When the write fails. Nothing of it was recorded then; after a failure that is not a shortage,
    /// only [`TopicLog::compact`] helps.
    pub fn journal(&self, records: &[JournalRecord<'_>]) -> Result<(), Error> {
        if self.memory_only || records.is_empty() {
            return Ok(());
        }
        lock(&self.writer).check_open(&self.name)?;
        lock(&self.journal).append(records)
    }

    /// Whether the journal has outgrown its last snapshot, or has to be replaced after a failed write.
    pub fn needs_compaction(&self) -> bool {
        !self.memory_only && lock(&self.journal).needs_compaction()
    }

    /// Replaces the journal by a snapshot of the state.
    ///
    /// `snapshot` must contain everything that was journaled before, and nothing may be journaled between
    /// taking the snapshot and this call.
    ///
    /// # Errors
    /// When the new file cannot be written. The old one stays.
    pub fn compact(&self, snapshot: &TopicState) -> Result<(), Error> {
        if self.memory_only {
            return Ok(());
        }
        lock(&self.writer).check_open(&self.name)?;
        lock(&self.journal).compact(snapshot)
    }

    /// Gives up what no channel needs: frees memory and deletes segments that lie wholly before `low`.
    /// The newest segment stays. Returns the number of segments deleted.
    pub fn release(&self, low: u64) -> usize {
        if low > self.tail_start() {
            let mut tail = lock(&self.tail);
            tail.release(low.min(self.written()));
            self.marks.tail_start.store(tail.first(), Release);
        }
        if low < self.marks.release_from.load(Acquire) {
            return 0;
        }
        let mut table = lock(&self.table);
        let count = table.segments.iter().skip(1).take_while(|next| next.first <= low).count();
        let released: Vec<_> = table.segments.drain(..count).collect();
        let first = table.segments.first().map_or(low, |segment| segment.first);
        table.forget_holes(first);
        self.mark_table(&table);
        drop(table);
        if !self.memory_only {
            for segment in &released {
                // One that cannot be removed is found again at the next start, and released again.
                let _ = self.shared.disk.remove(&segment_path(&self.dir, segment.number));
            }
        }
        count
    }

    /// How well the topic can take messages.
    pub fn health(&self) -> Health {
        lock(&self.writer).health()
    }

    /// Bytes of the segment files.
    pub fn disk_bytes(&self) -> u64 {
        if self.memory_only {
            return 0;
        }
        lock(&self.table).segments.iter().map(|segment| segment.extent().bytes).sum()
    }

    /// Whether something was written that a power cut may take, or is not written yet.
    pub fn dirty(&self) -> bool {
        !self.memory_only && (self.synced() < self.end() || lock(&self.journal).dirty)
    }

    /// Whether as many messages as [`Options::sync_every`](crate::Options::sync_every) asks for wait for a sync.
    pub fn sync_due(&self) -> bool {
        let every = self.shared.options.sync_every;
        !self.memory_only && every > 0 && self.end() - self.synced() >= every
    }

    pub(crate) fn segment_path(&self, number: u32) -> PathBuf {
        segment_path(&self.dir, number)
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let options = &self.shared.options;
        Bounds { messages: options.tail_messages as u64, bytes: options.tail_bytes }
    }

    /// Brings the marks that depend on the table up to date.
    pub(crate) fn mark_table(&self, table: &Table) {
        let first = table.segments.first().map_or_else(|| self.end(), |segment| segment.first);
        let second = table.segments.get(1).map_or(u64::MAX, |segment| segment.first);
        self.marks.first.store(first, Release);
        self.marks.release_from.store(second, Release);
    }
}

/// An I/O error that keeps its kind and tells the path.
pub(crate) fn io_error(error: crate::error::IoError) -> io::Error {
    io::Error::new(error.source.kind(), error)
}

/// The directory of a topic. The suffix makes `.` and `..`, which are valid topic names, ordinary file names.
pub(crate) fn topic_dir(topics: &Path, name: &TopicName) -> PathBuf {
    topics.join(format!("{name}.topic"))
}
