//! The journal: one stream of records for the state of a topic and of all its channels.
//!
//! The stream is cut into files, the generations. Records are appended to the newest; a compaction begins the next one
//! and replaces all before it by a snapshot, which it makes from those files and not from memory.
//!
//! # Invariants
//! 1. Records carry consecutive numbers over all files.
//! 2. A record that could not be written stays in memory, in front of everything recorded later.
//! 3. The stream's lock is held for writes to the page cache, never for a flush or a change of names. The lock
//!    `maintenance` serializes the creation, removal and replacement of files.

mod channel;
mod compaction;
mod decode;
mod encode;
mod files;
mod record;
mod replay;
mod snapshot;
mod stream;
mod waypoint;

use std::{
    ops::Range,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Release},
    },
    time::Duration,
};

pub use self::record::JournalRecord;
pub(crate) use self::{
    encode::nanos,
    files::{Generations, JournalFiles},
    replay::{Replay, Replayed},
    waypoint::{Position, Waypoint},
};
use self::{record::LogRecord, stream::Stream};
use crate::{
    disk::Disk,
    error::{AppendError, Context, Error, IoError, SyncError},
    lock,
};

/// Messages of one deferred publish, and their delay.
pub(crate) type Deferral = (Range<u64>, Duration);

/// The journal of a topic.
#[derive(Debug)]
pub(crate) struct Journal {
    files: JournalFiles,
    topic_id: u64,
    stream: Mutex<Stream>,
    /// Deferred batches that no waypoint covers yet.
    noted: Mutex<Vec<Deferral>>,
    /// Held while files are created, removed or replaced.
    maintenance: Mutex<()>,
    /// Set while the stream has records that are not in a file.
    behind: AtomicBool,
    /// Set while [`Stream::owed`] is a state.
    owes_snapshot: AtomicBool,
    /// How many bytes the log had appended in this run at the last waypoint …
    waypoint_at: AtomicU64,
    /// … and at the last flushed one.
    flushed_at: AtomicU64,
}

impl Journal {
    /// A journal in `dir` without files. [`Journal::begin`] or [`Journal::resume`] comes next.
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: &Path, topic_id: u64) -> Self {
        Self {
            files: JournalFiles::new(disk, dir),
            topic_id,
            stream: Mutex::default(),
            noted: Mutex::default(),
            maintenance: Mutex::default(),
            behind: AtomicBool::new(false),
            owes_snapshot: AtomicBool::new(false),
            waypoint_at: AtomicU64::new(0),
            flushed_at: AtomicU64::new(0),
        }
    }

    /// Appends records with one write.
    ///
    /// # Errors
    /// When the write fails. The records are kept in memory then, for the next append or [`Journal::retry`].
    pub(crate) fn append(&self, records: &[JournalRecord<'_>], now_ns: u64) -> Result<(), Error> {
        let mut stream = lock(&self.stream);
        self.check_open(&stream)?;
        stream.record_time(now_ns);
        for record in records {
            stream.record(&LogRecord::Broker(*record));
        }
        self.write(&mut stream)
    }

    /// Returns true if records wait in memory for [`Journal::retry`].
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.load(Acquire)
    }

    /// Writes the records that a failed write left in memory, unless that takes a new file.
    ///
    /// # Errors
    /// When they still cannot be written, or not to the newest file.
    pub(crate) fn write_pending(&self) -> Result<(), Error> {
        let mut stream = lock(&self.stream);
        self.check_open(&stream)?;
        self.write(&mut stream)
    }

    /// Writes the records that a failed write left in memory, to a new file if the newest cannot be relied on.
    ///
    /// # Errors
    /// When they still cannot be written.
    pub(crate) fn retry(&self) -> Result<(), Error> {
        if lock(&self.stream).spoiled.is_none() {
            return self.write_pending();
        }
        let _maintenance = lock(&self.maintenance);
        let owed = lock(&self.stream).owed.take();
        match owed {
            Some(state) => self.restart(state),
            None => self.begin_generation().map(drop),
        }
    }

    /// Writes the records in memory to the newest file.
    fn write(&self, stream: &mut Stream) -> Result<(), Error> {
        let written = match &stream.spoiled {
            Some(reason) => Err(Arc::clone(reason)),
            None => stream.write(&*self.files.disk, &self.files.journal_path(stream.generation)),
        };
        self.behind.store(written.is_err(), Release);
        written.map_err(|reason| Error::JournalBehind { topic: self.topic(), reason })
    }

    /// Remembers a deferred batch until the next waypoint.
    pub(crate) fn note_deferral(&self, range: Range<u64>, delay: Duration) {
        push_deferral(&mut lock(&self.noted), range, delay);
    }

    /// Takes over the deferred batches that recovery found behind the last waypoint.
    pub(crate) fn restore_noted(&self, deferrals: Vec<Deferral>) {
        *lock(&self.noted) = deferrals;
    }

    /// Fails while the files contradict the recovered state, for lack of space to replace them: new messages must not
    /// take sequence numbers that the files mention.
    pub(crate) fn check_append(&self) -> Result<(), AppendError> {
        if self.owes_snapshot.load(Acquire) {
            let full = std::io::ErrorKind::StorageFull.into();
            let error = IoError::new("replace the journal in", &self.files.dir, full);
            return Err(AppendError::Temporary(error));
        }
        Ok(())
    }

    /// Forgets deferred batches below a sequence number.
    pub(crate) fn forget_deferrals(&self, below: u64) {
        let mut noted = lock(&self.noted);
        let passed = noted.partition_point(|(range, _)| range.end <= below);
        noted.drain(..passed);
    }

    /// Records that the log is complete up to `position`, with the deferred batches before it. `appended` is the
    /// number of bytes appended in this run up to the position.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub(crate) fn waypoint(&self, waypoint: Waypoint, appended: u64) -> Result<(), Error> {
        let mut stream = lock(&self.stream);
        self.check_open(&stream)?;
        if !stream.is_news(&waypoint) {
            return Ok(());
        }
        // Taken under the stream's lock: whichever waypoint comes first in the stream follows the deferrals.
        let noted = std::mem::take(&mut *lock(&self.noted));
        if !noted.is_empty() {
            stream.record(&LogRecord::Deferrals(&noted));
        }
        stream.record_waypoint(waypoint);
        self.waypoint_at.fetch_max(appended, Release);
        if waypoint.flushed {
            self.flushed_at.fetch_max(appended, Release);
        }
        self.write(&mut stream)
    }

    /// How many bytes the log had appended in this run at the last waypoint.
    pub(crate) fn waypoint_at(&self) -> u64 {
        self.waypoint_at.load(Acquire)
    }

    /// How many bytes the log had appended in this run at the last flushed waypoint.
    pub(crate) fn flushed_at(&self) -> u64 {
        self.flushed_at.load(Acquire)
    }

    /// Returns true if a flushed waypoint at `position` is the last thing that happened and is flushed itself.
    pub(crate) fn is_settled(&self, position: Option<Position>) -> bool {
        let stream = lock(&self.stream);
        let marked =
            position.is_none_or(|position| stream.flushed.map(|it| it.position) == Some(position));
        marked && stream.is_flushed()
    }

    /// Flushes the files. The names of new files need a sync of the directory before.
    ///
    /// # Errors
    /// When a file cannot be flushed. Its records may be lost then; [`Journal::compact`] finds out.
    pub(crate) fn sync(&self) -> Result<(), SyncError> {
        let generations = std::mem::take(&mut lock(&self.stream).unsynced);
        let synced = generations.iter().try_for_each(|generation| {
            let path = self.files.journal_path(*generation);
            match self.files.open(&path).map_err(SyncError::open)? {
                Some(file) => file.sync_data().context("sync", &path).map_err(SyncError::flush),
                // Replaced by a snapshot, which was flushed first.
                None => Ok(()),
            }
        });
        if let Err(error) = &synced {
            lock(&self.stream).flush_failed(generations, error);
        }
        synced
    }

    /// The bytes of the journal's files.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let stream = lock(&self.stream);
        stream.snapshot_bytes + stream.older_bytes + stream.bytes
    }

    /// Returns true if a file was created since the last call: the directory has to be synced.
    pub(crate) fn take_names_dirty(&self) -> bool {
        std::mem::take(&mut lock(&self.stream).names_dirty)
    }

    /// Refuses everything from now on, after waiting for a compaction to end.
    pub(crate) fn close(&self) {
        let _maintenance = lock(&self.maintenance);
        lock(&self.stream).closed = true;
    }

    /// Undoes [`Journal::close`].
    pub(crate) fn unclose(&self) {
        lock(&self.stream).closed = false;
    }

    fn check_open(&self, stream: &Stream) -> Result<(), Error> {
        if stream.closed { Err(Error::Deleted(self.topic())) } else { Ok(()) }
    }

    fn topic(&self) -> String {
        let dir = self.files.dir.file_name().unwrap_or_default();
        dir.to_string_lossy().trim_end_matches(".topic").to_owned()
    }
}

/// Adds a deferral, joining it to the last one if it continues it.
pub(crate) fn push_deferral(list: &mut Vec<Deferral>, range: Range<u64>, delay: Duration) {
    match list.last_mut() {
        Some((last, same)) if last.end == range.start && *same == delay => last.end = range.end,
        _ => list.push((range, delay)),
    }
}
