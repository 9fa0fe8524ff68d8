//! The log of one topic.
//!
//! # Invariants
//! 1. `first ≤ end`, `tail start ≤ end` and `synced ≤ written`; none of them ever goes back while the log is open.
//! 2. Each part has a lock of its own. They are taken in the order flushing, appender, then one of journal, segments,
//!    tail, node at a time. Readers take the tail or the segments only, so they never wait for a write.
//! 3. No lock but `flushing` is held over a flush, a rename or a removal.
//! 4. A message whose append was acknowledged is in the tail or, once written, in a segment.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::Ordering::{Relaxed, Release},
    },
};

use nsq_protocol::{MessageId, TopicName};

use crate::{
    appender::{Appender, AppenderStart, Retired},
    batch::{BatchBuilder, RECORDS_BYTES_MAX},
    error::{AppendError, Error},
    holes::Holes,
    id::{SEGMENT_MESSAGES_MAX, split_id},
    journal::Journal,
    lock,
    notice::{Event, Notice},
    segment::{SegmentSpan, segment_path},
    segments::{Segments, Table},
    shared::Shared,
    site::{Append, Marks, Site},
    slice::Slice,
    tail::{Bounds, Read, Tail, TailRead},
    usage::{EphemeralBytes, Usage},
};

/// The append-only log of one topic.
#[derive(Debug)]
pub struct TopicLog {
    pub(crate) name: TopicName,
    pub(crate) id: u64,
    pub(crate) dir: PathBuf,
    pub(crate) shared: Arc<Shared>,
    /// Ephemeral: nothing is on disk, the tail keeps everything until it is released.
    pub(crate) memory_only: bool,
    pub(crate) appender: Appender,
    pub(crate) segments: Segments,
    pub(crate) tail: Tail,
    pub(crate) journal: Journal,
    /// Held during a flush and a reopen, so that there is one at a time.
    pub(crate) flushing: Mutex<()>,
    /// Messages that were lost before they were flushed, as a reopen found.
    pub(crate) lost: Mutex<Holes>,
    pub(crate) marks: Marks,
}

/// The state that a log starts from: empty, or as recovery found it.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) id: u64,
    pub(crate) end: u64,
    pub(crate) synced: u64,
    pub(crate) table: Table,
    pub(crate) appender: AppenderStart,
    pub(crate) journal: Journal,
}

impl TopicLog {
    pub(crate) fn new(name: TopicName, dir: PathBuf, shared: Arc<Shared>, start: Start) -> Self {
        let marks = Marks::default();
        marks.end.store(start.end, Release);
        marks.written.store(start.end, Release);
        marks.synced.store(start.synced, Release);
        let memory_only = name.is_ephemeral();
        let usage = memory_only.then(|| Usage::new(Arc::clone(&shared.ephemeral_bytes)));
        Self {
            memory_only,
            name,
            id: start.id,
            dir,
            shared,
            appender: Appender::new(start.appender),
            segments: Segments::new(start.table, start.end),
            tail: Tail::starting_at(start.end, usage),
            journal: start.journal,
            flushing: Mutex::default(),
            lost: Mutex::default(),
            marks,
        }
    }

    pub(crate) fn site(&self) -> Site<'_> {
        Site {
            name: &self.name,
            id: self.id,
            dir: &self.dir,
            shared: &self.shared,
            memory_only: self.memory_only,
            segments: &self.segments,
            marks: &self.marks,
        }
    }

    /// The topic's name.
    pub fn name(&self) -> &TopicName {
        &self.name
    }

    /// The sequence number that the next message gets.
    pub fn end(&self) -> u64 {
        self.marks.end()
    }

    /// The sequence number of the oldest message kept; the end when there is none.
    pub fn first(&self) -> u64 {
        if self.memory_only { self.tail.first() } else { self.segments.first() }
    }

    /// The sequence number of the first message in memory.
    pub fn tail_start(&self) -> u64 {
        self.tail.first()
    }

    /// The end of the messages that were written to their segment's file.
    pub fn written(&self) -> u64 {
        self.marks.written()
    }

    /// The end of the messages that survive a power cut. [`TopicLog::survived`] tells those before it that were lost to
    /// a failing disk.
    pub fn synced(&self) -> u64 {
        self.marks.synced()
    }

    /// Appends a batch and empties the builder; returns the sequence numbers of its messages.
    ///
    /// At the levels `log` and `fsync` the batch has been written when this returns. For `fsync` wait until
    /// [`TopicLog::synced`] reaches the end of the range, and ask whether it [survived](TopicLog::survived).
    ///
    /// # Errors
    /// The builder keeps the batch in every case.
    pub fn append(&self, batch: &mut BatchBuilder, at: Append) -> Result<Range<u64>, AppendError> {
        let (count, bytes) = (batch.count(), batch.bytes());
        let fits = count as u64 <= SEGMENT_MESSAGES_MAX && bytes <= RECORDS_BYTES_MAX;
        if !fits || batch.overflowed() {
            return Err(AppendError::TooLarge { count, bytes });
        }
        self.journal.check_append()?;
        self.appender.append(&self.site(), batch, at, |batch, range| {
            if let Some(delay) = at.defer.filter(|delay| !delay.is_zero() && !self.memory_only) {
                self.journal.note_deferral(range, delay);
            }
            self.tail.push(batch, self.tail_bounds(), self.written());
        })
    }

    /// Writes the batches that level `memory` has gathered. A no-op at the other levels.
    ///
    /// # Errors
    /// As [`TopicLog::append`]; batches that were not written stay in memory.
    pub fn flush(&self) -> Result<(), AppendError> {
        self.appender.flush(&self.site())
    }

    /// Returns true if [`TopicLog::prepare`] should be called: the active segment is more than three quarters full.
    pub fn prepare_due(&self) -> bool {
        self.marks.filling.load(Relaxed)
    }

    /// Creates the file of the next segment if there is no active one or it is more than three quarters full, so that
    /// the append that begins it need not wait for a directory. Blocks for as long as the file system takes.
    ///
    /// # Errors
    /// When the file cannot be created. The append that needs it tries again.
    pub fn prepare(&self) -> Result<(), Error> {
        self.appender.prepare(&self.site())
    }

    /// Begins a new segment if no message from `low` on exists, so that [`TopicLog::release`] can delete the newest one
    /// too: a drained topic keeps at most 64 KiB once nothing was appended for half a second, and 4 MiB before.
    /// `now_ns` is on the clock of [`Append::timestamp_ns`].
    ///
    /// Blocks for as long as the file system takes; appends go on meanwhile. If there is no space for a new file, the
    /// old ones are removed at once.
    ///
    /// # Errors
    /// When the new file cannot be created or the old one not be written. The newest segment goes on then.
    pub fn retire(&self, low: u64, now_ns: i64) -> Result<Retired, Error> {
        self.appender.retire(&self.site(), low, now_ns)
    }

    /// Closes the files and frees unused memory until the next append, so that an idle topic holds no descriptor
    /// and little memory.
    ///
    /// # Errors
    /// As [`TopicLog::flush`].
    pub fn rest(&self) -> Result<(), AppendError> {
        self.flush()?;
        self.appender.rest();
        self.tail.rest();
        Ok(())
    }

    /// Reads messages from memory, never from disk: at least one, else as many as fit into `bytes_max`.
    pub fn read(&self, range: Range<u64>, bytes_max: usize, out: &mut Vec<Slice>) -> Read {
        if range.is_empty() {
            return Read::Taken(0);
        }
        match self.tail.read(range.clone(), bytes_max, out) {
            TailRead::Taken(count) => return Read::Taken(count),
            TailRead::Dropped(count) => return Read::Gone(count),
            TailRead::Evicted => {}
        }
        let kept_from = self.first();
        if range.start < kept_from {
            return Read::Gone(kept_from.min(range.end) - range.start);
        }
        let hole_end = self.segments.hole_end(range.start);
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
        self.segments.span(key, || self.end())
    }

    /// Frees the memory of messages before `low`, and deletes the segments that lie wholly before it. The newest segment
    /// stays. Returns the number of segments deleted.
    pub fn release(&self, low: u64) -> usize {
        if low > self.tail.first() {
            self.tail.release(low.min(self.written()));
        }
        self.release_files(low)
    }

    /// Deletes the segments that lie wholly before `low`, as [`TopicLog::release`], but frees no memory: their messages
    /// can be read as long as the memory tail holds them.
    pub fn release_files(&self, low: u64) -> usize {
        if low < self.segments.second() {
            return 0;
        }
        let released = self.segments.release(low);
        if !self.memory_only {
            self.site().remove_files(&released);
        }
        released.len()
    }

    /// The memory of the messages of an ephemeral topic, and of all of them; nothing for a durable topic.
    pub fn ephemeral_bytes(&self) -> EphemeralBytes {
        self.tail.usage().map(Usage::bytes).unwrap_or_default()
    }

    /// Frees the memory of messages below `upto` that are not in `keep`, which is sorted, as far as they lie together:
    /// an ephemeral topic need not keep everything behind its oldest unfinished message. No-op for a durable topic.
    pub fn drop_others(&self, keep: &[Range<u64>], upto: u64) {
        if self.memory_only {
            self.tail.drop_others(keep, upto);
        }
    }

    /// Gives up the segment that holds message `seq` since its file cannot be read: those of its messages that are not
    /// in memory are lost from now on, and [`TopicLog::reopen`] goes on without it. `None` if that costs no message.
    pub fn quarantine(&self, seq: u64) -> Option<Notice> {
        let (segment, next) = self.segments.holding(seq).filter(|_| !self.memory_only)?;
        segment.give_up();
        let end = next.unwrap_or_else(|| self.written()).min(self.tail.first());
        let lost = segment.first..end;
        let messages = self.segments.add_hole(lost.clone());
        let path = self.segment_path(segment.number);
        (messages > 0).then_some(Notice { path, event: Event::Quarantined { lost, messages } })
    }

    /// Returns true if no message of `range` was lost before it was flushed. False for ranges in which a
    /// [reopen](TopicLog::reopen) found a loss, however far [`TopicLog::synced`] has come since.
    pub fn survived(&self, range: Range<u64>) -> bool {
        !lock(&self.lost).touch(&range)
    }

    pub(crate) fn segment_path(&self, number: u32) -> PathBuf {
        segment_path(&self.dir, number)
    }

    /// The bounds of the tail; none for an ephemeral topic, whose messages are nowhere else.
    fn tail_bounds(&self) -> Option<Bounds> {
        let options = &self.shared.options;
        let bounds = Bounds { messages: options.tail_messages as u64, bytes: options.tail_bytes };
        (!self.memory_only).then_some(bounds)
    }
}

/// The directory of a topic. The suffix makes `.` and `..`, which are valid topic names, ordinary file names.
pub(crate) fn topic_dir(topics: &Path, name: &TopicName) -> PathBuf {
    topics.join(format!("{name}.topic"))
}
