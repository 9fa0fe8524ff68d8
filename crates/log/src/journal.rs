//! The journal: one stream of records for the state of a topic and of all its channels.
//!
//! # Invariants
//! 1. Records carry consecutive numbers; replay sorts by them and drops repeats.
//! 2. A record is applied only if every record before it is: replay ends at the first gap or defect.
//! 3. After a failed write nothing is appended until a snapshot has replaced the file.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    disk::{Disk, File},
    error::{Context, Error, IoError},
    journal_codec::{HEADER_BYTES, JournalRecord, encode_header, encode_record},
    state::TopicState,
};

/// A journal is rewritten only when it is longer than this.
const COMPACT_BYTES_MIN: u64 = 64 << 10;
/// A journal is rewritten when it is this many times as long as its last snapshot.
const COMPACT_FACTOR: u64 = 4;

/// Messages of one deferred publish that the log remembers until the journal has them.
pub(crate) type Deferral = (Range<u64>, Duration);

/// The writing end of a topic's journal.
#[derive(Debug)]
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    topic_id: u64,
    /// Length of the file; 0 while there is none.
    bytes: u64,
    snapshot_bytes: u64,
    next_number: u64,
    broken: Option<String>,
    closed: bool,
    /// Written since the last sync.
    pub(crate) dirty: bool,
    /// Created since the last sync, so that its directory needs one too.
    pub(crate) created: bool,
    /// Deferred batches of the active segment.
    active: Vec<Deferral>,
    /// Those of closed segments that no snapshot has accounted for: one may be older than they are.
    sealed: Vec<Deferral>,
    /// How many of `sealed` are in the file.
    sealed_written: usize,
    scratch: Vec<u8>,
}

impl Journal {
    /// A journal in `dir` that has no file yet.
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: &Path, topic_id: u64) -> Self {
        Self {
            disk,
            path: dir.join("journal"),
            topic_id,
            bytes: 0,
            snapshot_bytes: 0,
            next_number: 1,
            broken: None,
            closed: false,
            dirty: false,
            created: false,
            active: Vec::new(),
            sealed: Vec::new(),
            sealed_written: 0,
            scratch: Vec::new(),
        }
    }

    /// Continues a file of `bytes` whose last record has the number before `next_number`.
    pub(crate) fn resume(&mut self, bytes: u64, next_number: u64) {
        (self.bytes, self.next_number) = (bytes, next_number);
    }

    /// The deferred batches of the active segment, found by recovery.
    pub(crate) fn restore_active(&mut self, deferrals: Vec<Deferral>) {
        self.active = deferrals;
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Remembers a deferred batch that was appended to the active segment.
    pub(crate) fn note_deferral(&mut self, range: Range<u64>, delay: Duration) {
        push_deferral(&mut self.active, range, delay);
    }

    /// The active segment is about to be closed: its deferred batches go into the file, since recovery walks only
    /// the newest.
    ///
    /// # Errors
    /// When there is no space for them: the segment must not be closed yet. Any other failure is reported to
    /// whoever journals next, and mended by the snapshot that follows.
    pub(crate) fn seal_segment(&mut self) -> Result<(), IoError> {
        self.sealed.append(&mut self.active);
        if self.sealed_written == self.sealed.len() {
            return Ok(());
        }
        match self.append(&[]) {
            Err(Error::Io(error)) if error.is_temporary() => Err(error),
            _ => Ok(()),
        }
    }

    /// Appends records with one write.
    pub(crate) fn append(&mut self, records: &[JournalRecord<'_>]) -> Result<(), Error> {
        self.check()?;
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        let mut number = self.next_number;
        if self.bytes == 0 {
            out.extend_from_slice(&encode_header(self.topic_id, number));
        }
        let unwritten = self.sealed.get(self.sealed_written..).unwrap_or_default();
        if !unwritten.is_empty() {
            encode_record(&mut out, &mut number, &JournalRecord::Deferrals(unwritten));
        }
        for record in records {
            encode_record(&mut out, &mut number, record);
        }
        let result = self.write(&out);
        if result.is_ok() {
            self.created |= self.bytes == 0;
            self.bytes += out.len() as u64;
            self.next_number = number;
            self.sealed_written = self.sealed.len();
            self.dirty = true;
        }
        // A burst must not pin its buffer for the life of an idle topic.
        if out.capacity() <= 16 << 10 {
            self.scratch = out;
        }
        Ok(result?)
    }

    fn write(&mut self, out: &[u8]) -> Result<(), IoError> {
        let file = match self.file() {
            Ok(file) => file,
            Err(source) => return Err(self.failed("open", source, None)),
        };
        match file.write_all_at(out, self.bytes) {
            Ok(()) => Ok(()),
            Err(source) => Err(self.failed("write", source, Some(&file))),
        }
    }

    /// Files are opened for each write: thousands of idle topics must not hold descriptors.
    fn file(&self) -> std::io::Result<Arc<dyn File>> {
        if self.bytes == 0 { self.disk.create(&self.path) } else { self.disk.open(&self.path) }
    }

    /// Takes a partial write back; when that fails or the device does, only a snapshot helps.
    fn failed(
        &mut self,
        operation: &'static str,
        source: std::io::Error,
        file: Option<&Arc<dyn File>>,
    ) -> IoError {
        let error = IoError::new(operation, &self.path, source);
        let taken_back = file.is_none_or(|file| file.truncate(self.bytes).is_ok());
        if !error.is_temporary() || !taken_back {
            self.broken = Some(error.to_string());
        }
        error
    }

    /// Refuses everything from now on.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.closed { Err(Error::Deleted(self.topic())) } else { Ok(()) }
    }

    fn check(&self) -> Result<(), Error> {
        self.check_open()?;
        self.broken.as_ref().map_or(Ok(()), |reason| {
            Err(Error::JournalBroken { topic: self.topic(), reason: reason.clone() })
        })
    }

    fn topic(&self) -> String {
        let dir = self.path.parent().and_then(Path::file_name).unwrap_or_default();
        dir.to_string_lossy().trim_end_matches(".topic").to_owned()
    }

    pub(crate) fn needs_compaction(&self) -> bool {
        self.broken.is_some()
            || self.bytes > COMPACT_BYTES_MIN.max(COMPACT_FACTOR * self.snapshot_bytes)
    }

    /// Replaces the file by a snapshot. The old file stays until the new one is durable.
    pub(crate) fn compact(&mut self, snapshot: &TopicState) -> Result<(), Error> {
        self.check_open()?;
        Ok(self.rewrite(snapshot)?)
    }

    /// As [`Journal::compact`], for recovery.
    pub(crate) fn rewrite(&mut self, snapshot: &TopicState) -> Result<(), IoError> {
        let mut number = self.next_number;
        let mut out = encode_header(self.topic_id, number).to_vec();
        for record in snapshot.records() {
            encode_record(&mut out, &mut number, &record);
        }
        // What was published after the snapshot was taken is not in it.
        let known = snapshot.deferred.last().map_or(0, |(last, _)| last.end).max(snapshot.fanout);
        let sealed: Vec<_> =
            self.sealed.iter().filter(|(range, _)| range.end > known).cloned().collect();
        if !sealed.is_empty() {
            encode_record(&mut out, &mut number, &JournalRecord::Deferrals(&sealed));
        }
        replace_file(&*self.disk, &self.path, &out)?;
        self.bytes = out.len() as u64;
        self.snapshot_bytes = self.bytes;
        self.next_number = number;
        self.broken = None;
        self.sealed_written = sealed.len();
        self.sealed = sealed;
        Ok(())
    }

    /// Writes what a clean start needs: where the log ends and which deferred batches the active segment holds.
    pub(crate) fn checkpoint(&mut self, segment: u32, bytes: u64, end: u64) -> Result<(), Error> {
        let active = std::mem::take(&mut self.active);
        let deferrals = JournalRecord::Deferrals(&active);
        let checkpoint = JournalRecord::Checkpoint { segment, bytes, end };
        let result = if active.is_empty() {
            self.append(&[checkpoint])
        } else {
            self.append(&[deferrals, checkpoint])
        };
        self.active = active;
        result
    }

    /// Whether the journal has been written to disk at all.
    pub(crate) fn has_file(&self) -> bool {
        self.bytes >= HEADER_BYTES as u64
    }
}

/// Adds a deferral, joining it to the last one when it continues it.
pub(crate) fn push_deferral(list: &mut Vec<Deferral>, range: Range<u64>, delay: Duration) {
    match list.last_mut() {
        Some((last, same)) if last.end == range.start && *same == delay => last.end = range.end,
        _ => list.push((range, delay)),
    }
}

/// Writes a file so that a crash leaves either the old or the new one, whole.
pub fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), IoError> {
    let temp = path.with_extension("tmp");
    let file = disk.create(&temp).context("create", &temp)?;
    let written = file
        .write_all_at(bytes, 0)
        .context("write", &temp)
        .and_then(|()| file.sync_data().context("sync", &temp))
        .and_then(|()| disk.rename(&temp, path).context("rename", &temp));
    if let Err(error) = written {
        // Best effort: a start removes what is left.
        let _ = disk.remove(&temp);
        return Err(error);
    }
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    disk.sync_dir(dir).context("sync directory", dir)
}
