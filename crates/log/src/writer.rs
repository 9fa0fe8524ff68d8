//! The writing half of a topic's log: appending, closing segments, flushing, syncing, and starting again after an error.

use std::{
    io,
    ops::Range,
    sync::{Arc, atomic::Ordering::Release},
    time::Duration,
};

use nsq_protocol::TopicName;

use crate::{
    batch::{BATCH_HEADER_BYTES, BatchBuilder, Place, RECORDS_BYTES_MAX},
    disk::File,
    error::{AppendError, Context, Error, IoError},
    id::SEGMENT_MESSAGES_MAX,
    journal_codec::nanos,
    lock,
    segment::{Extent, SEGMENT_HEADER_BYTES, Segment, SegmentHeader},
    store::Durability,
    topic_log::{Append, Health, TopicLog, io_error},
};

/// At level `memory`, this much gathers before it is written.
const GATHER_BYTES: usize = 256 << 10;
/// A segment of which nothing is needed any more is closed early if it is longer than this.
const DRAINED_BYTES_MAX: u64 = 4 << 20;
/// Batches below this are copied into a block shared with others.
const COPY_BYTES_MAX: usize = 4 << 10;
/// Batches below this are copied too if they fill less than half of their buffer.
const COPY_LOOSE_BYTES_MAX: usize = 32 << 10;

/// What the writer lock protects.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) active: Option<Active>,
    /// Numbers of closed segments that were not synced yet.
    pub(crate) unsynced: Vec<u32>,
    /// A file or directory was created since the last sync.
    pub(crate) names_dirty: bool,
    pub(crate) state: State,
    /// The last shortage, until an append succeeds.
    pub(crate) shortage: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    #[default]
    Open,
    /// A write or a sync failed.
    Stopped(String),
    Deleted,
    Closed,
}

/// The segment being written.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) segment: Arc<Segment>,
    /// `None` while the topic rests, and for ephemeral topics.
    pub(crate) file: Option<Arc<dyn File>>,
    /// Bytes in the file.
    pub(crate) bytes: u64,
    /// Encoded batches that follow them but are not written yet (level `memory` only).
    pub(crate) pending: Vec<u8>,
}

impl Active {
    /// The length of the segment with everything appended.
    fn length(&self) -> u64 {
        self.bytes + self.pending.len() as u64
    }
}

impl Writer {
    /// Whether the topic still exists; being stopped is no obstacle.
    pub(crate) fn check_open(&self, name: &TopicName) -> Result<(), Error> {
        match self.state {
            State::Deleted => Err(Error::Deleted(name.to_string())),
            State::Closed => Err(Error::Closed),
            State::Open | State::Stopped(_) => Ok(()),
        }
    }

    fn check_append(&self, name: &TopicName) -> Result<(), AppendError> {
        match &self.state {
            State::Open => Ok(()),
            State::Stopped(reason) => {
                Err(AppendError::Stopped { topic: name.to_string(), reason: reason.clone() })
            }
            State::Deleted => Err(AppendError::Deleted(name.to_string())),
            State::Closed => Err(AppendError::Closed),
        }
    }

    pub(crate) fn health(&self) -> Health {
        match (&self.state, &self.shortage) {
            (State::Stopped(reason), _) => Health::Stopped(reason.clone()),
            (_, Some(shortage)) => Health::Short(shortage.clone()),
            _ => Health::Good,
        }
    }

    /// Turns a failed operation into what the publisher is told, and stops the topic unless it is a mere shortage.
    fn fail(&mut self, name: &TopicName, error: IoError, clean: bool) -> AppendError {
        if clean && error.is_temporary() {
            self.shortage = Some(error.to_string());
            return AppendError::Temporary(error);
        }
        let reason = error.to_string();
        self.state = State::Stopped(reason.clone());
        AppendError::Stopped { topic: name.to_string(), reason }
    }
}

impl TopicLog {
    /// Appends a batch and empties the builder; returns the sequence numbers of its messages.
    ///
    /// At the levels `log` and `fsync` the batch has been written when this returns. For `fsync` wait until
    /// [`TopicLog::synced`] reaches the end of the range.
    ///
    /// # Errors
    /// The builder keeps the batch in every case.
    pub fn append(&self, batch: &mut BatchBuilder, at: Append) -> Result<Range<u64>, AppendError> {
        let (count, bytes) = (batch.count() as u64, batch.bytes());
        if count > SEGMENT_MESSAGES_MAX || bytes > RECORDS_BYTES_MAX || batch.overflowed() {
            return Err(AppendError::TooLarge { count: batch.count(), bytes });
        }
        let mut writer = lock(&self.writer);
        writer.check_append(&self.name)?;
        let first = self.end();
        if count == 0 {
            return Ok(first..first);
        }
        self.make_room(&mut writer, count, bytes as u64, at.timestamp_ns)?;
        let Some(active) = writer.active.as_mut() else {
            return Err(AppendError::Closed);
        };
        let defer_ns = at.defer.map_or(0, nanos);
        batch.place(&Place {
            first,
            topic_id: self.id,
            wall_ns: at.timestamp_ns,
            defer_ns,
            incarnation: self.shared.incarnation,
            segment: active.segment.number,
            segment_key: active.segment.key,
            index: index_in(&active.segment, first),
        });
        let offset = active.length();
        let end = first + count;
        active.segment.extent().note(first, offset);
        self.put(&mut writer, batch.encoded(), end)?;
        writer.shortage = None;
        if defer_ns > 0 && !self.memory_only {
            lock(&self.journal).note_deferral(first..end, Duration::from_nanos(defer_ns));
        }
        self.show(batch, end);
        Ok(first..end)
    }

    /// Makes the batch visible in the tail.
    fn show(&self, batch: &mut BatchBuilder, end: u64) {
        let bytes = batch.bytes();
        let loose = bytes * 2 < batch.capacity();
        let mut tail = lock(&self.tail);
        if bytes < COPY_BYTES_MAX || loose && bytes < COPY_LOOSE_BYTES_MAX {
            tail.push_copy(&batch.encoded()[BATCH_HEADER_BYTES..], batch.ends());
            batch.clear();
        } else {
            tail.push_shared(batch);
        }
        if !self.memory_only {
            tail.evict(self.bounds(), self.written());
        }
        self.marks.tail_start.store(tail.first(), Release);
        // Published last and under the lock: whoever sees the new end finds the messages.
        self.marks.end.store(end, Release);
    }

    /// Sees to it that the active segment can take the batch.
    fn make_room(
        &self,
        writer: &mut Writer,
        count: u64,
        bytes: u64,
        wall_ns: i64,
    ) -> Result<(), AppendError> {
        let length_max = self.shared.options.segment_bytes;
        if let Some(active) = &writer.active {
            let length = active.length() + BATCH_HEADER_BYTES as u64 + bytes;
            let index = u64::from(index_in(&active.segment, self.end()));
            let empty = active.length() <= SEGMENT_HEADER_BYTES as u64;
            if (length <= length_max || empty) && index + count <= SEGMENT_MESSAGES_MAX {
                return Ok(());
            }
        }
        self.flush_pending(writer)?;
        self.roll(writer, wall_ns)
    }

    /// Begins a new segment.
    fn roll(&self, writer: &mut Writer, wall_ns: i64) -> Result<(), AppendError> {
        let number = lock(&self.shared.node).take_segment();
        let number = number.map_err(|error| writer.fail(&self.name, error, true))?;
        let header = SegmentHeader {
            number,
            node_id: self.shared.node_id,
            topic_id: self.id,
            first: self.end(),
            created_ns: wall_ns,
            incarnation: self.shared.incarnation,
        };
        let file = if self.memory_only {
            None
        } else {
            if writer.active.is_some() {
                // First: as soon as the next segment exists, recovery does not look into this one.
                let sealed = lock(&self.journal).seal_segment();
                sealed.map_err(|error| writer.fail(&self.name, error, true))?;
            }
            let created = self.create_segment(&header);
            Some(created.map_err(|error| writer.fail(&self.name, error, true))?)
        };
        let bytes = SEGMENT_HEADER_BYTES as u64;
        let extent = Extent { bytes, indexed: true, ..Extent::default() };
        let segment = Arc::new(Segment::new(&header, extent));
        let active = Active { segment: Arc::clone(&segment), file, bytes, pending: Vec::new() };
        if let Some(closed) = writer.active.replace(active)
            && !self.memory_only
        {
            writer.unsynced.push(closed.segment.number);
        }
        writer.names_dirty = true;
        let mut table = lock(&self.table);
        table.segments.push(segment);
        self.mark_table(&table);
        Ok(())
    }

    /// Begins a new segment if no channel needs anything, so that [`TopicLog::release`] can delete the newest one
    /// too: a drained topic must not hold on to a long file. `low` is where the first message that is needed
    /// would be. Answers whether there is something to release.
    ///
    /// # Errors
    /// As [`TopicLog::append`]; the newest segment goes on then.
    pub fn retire(&self, low: u64, wall_ns: i64) -> Result<bool, AppendError> {
        let mut writer = lock(&self.writer);
        if self.memory_only || writer.state != State::Open || low < self.end() {
            return Ok(false);
        }
        let newest = lock(&self.table).segments.last().map(Arc::clone);
        if newest.is_none_or(|newest| newest.extent().bytes <= DRAINED_BYTES_MAX) {
            return Ok(false);
        }
        self.flush_pending(&mut writer)?;
        self.roll(&mut writer, wall_ns)?;
        Ok(true)
    }

    fn create_segment(&self, header: &SegmentHeader) -> Result<Arc<dyn File>, IoError> {
        let path = self.segment_path(header.number);
        let file = self.shared.disk.create_new(&path).context("create", &path)?;
        let written = file.write_all_at(&header.encode(), 0).context("write", &path);
        if let Err(error) = written {
            // A file without a header is harmless: recovery sets it aside.
            let _ = self.shared.disk.remove(&path);
            return Err(error);
        }
        Ok(file)
    }

    /// Writes a batch that ends with message `end`, or keeps it for later at level `memory`.
    fn put(&self, writer: &mut Writer, batch: &[u8], end: u64) -> Result<(), AppendError> {
        let Some(active) = writer.active.as_mut() else { return Err(AppendError::Closed) };
        if self.memory_only {
            active.bytes += batch.len() as u64;
            self.marks.written.store(end, Release);
            return Ok(());
        }
        if self.shared.options.durability == Durability::Memory {
            if active.pending.len() + batch.len() > GATHER_BYTES {
                self.flush_pending(writer)?;
            }
            if let Some(active) = writer.active.as_mut()
                && batch.len() <= GATHER_BYTES
            {
                active.pending.extend_from_slice(batch);
                return Ok(());
            }
        }
        self.write(writer, batch)?;
        self.marks.written.store(end, Release);
        Ok(())
    }

    /// Writes at the end of the active segment; on an error nothing remains of it, or the topic is stopped.
    fn write(&self, writer: &mut Writer, bytes: &[u8]) -> Result<(), AppendError> {
        let Some(active) = writer.active.as_mut() else { return Err(AppendError::Closed) };
        let path = self.segment_path(active.segment.number);
        let file = match &active.file {
            Some(file) => file,
            None => match self.shared.disk.open(&path).context("open", &path) {
                Ok(file) => active.file.insert(file),
                Err(error) => return Err(writer.fail(&self.name, error, true)),
            },
        };
        match file.write_all_at(bytes, active.bytes).context("write", &path) {
            Ok(()) => {
                active.bytes += bytes.len() as u64;
                // Before `written` moves, so that a cold read finds all of what it may read.
                active.segment.extent().bytes = active.bytes;
                Ok(())
            }
            Err(error) => {
                let clean = file.truncate(active.bytes).is_ok();
                Err(writer.fail(&self.name, error, clean))
            }
        }
    }

    /// Writes what has gathered at level `memory`.
    fn flush_pending(&self, writer: &mut Writer) -> Result<(), AppendError> {
        let Some(active) = writer.active.as_mut() else { return Ok(()) };
        if active.pending.is_empty() {
            return Ok(());
        }
        let mut pending = std::mem::take(&mut active.pending);
        let result = self.write(writer, &pending);
        if let Some(active) = writer.active.as_mut() {
            if result.is_ok() {
                pending.clear();
                self.marks.written.store(self.end(), Release);
            }
            active.pending = pending;
        }
        result
    }

    /// Writes what level `memory` has gathered. A no-op at the other levels.
    ///
    /// # Errors
    /// As [`TopicLog::append`]; what was not written stays in memory.
    pub fn flush(&self) -> Result<(), AppendError> {
        let mut writer = lock(&self.writer);
        if writer.state == State::Open { self.flush_pending(&mut writer) } else { Ok(()) }
    }

    /// Makes everything appended so far survive a power cut; returns how far that is.
    ///
    /// Appends go on meanwhile. Blocks for as long as the device takes.
    ///
    /// # Errors
    /// When a file cannot be flushed. The topic is stopped then, since what was written may be lost; only a lack
    /// of descriptors is passed over.
    pub fn sync(&self) -> io::Result<u64> {
        if self.memory_only {
            return Ok(self.end());
        }
        let _turn = lock(&self.syncing);
        let (end, plan) = self.plan_sync().map_err(io::Error::other)?;
        if let Err(error) = self.sync_files(&plan) {
            let mut writer = lock(&self.writer);
            // Lack of descriptors keeps a sync from beginning; one that fails leaves nothing to rely on.
            let begun = error.operation != "open" || !error.is_temporary();
            if begun && writer.state == State::Open {
                writer.state = State::Stopped(error.to_string());
            }
            // Left for `reopen` to look at.
            writer.unsynced.extend(plan.closed);
            writer.names_dirty |= plan.names;
            return Err(io_error(error));
        }
        self.marks.synced.fetch_max(end, Release);
        Ok(end)
    }

    /// Settles what has to be synced for everything written so far.
    fn plan_sync(&self) -> Result<(u64, Plan), AppendError> {
        let mut writer = lock(&self.writer);
        writer.check_append(&self.name)?;
        self.flush_pending(&mut writer)?;
        let end = self.written();
        let active = writer.active.as_ref().filter(|_| self.synced() < end);
        let plan = Plan {
            active: active.map(|active| (active.segment.number, active.file.clone())),
            closed: std::mem::take(&mut writer.unsynced),
            names: std::mem::take(&mut writer.names_dirty),
        };
        Ok((end, plan))
    }

    fn sync_files(&self, plan: &Plan) -> Result<(), IoError> {
        let disk = &*self.shared.disk;
        for (number, file) in plan
            .closed
            .iter()
            .map(|number| (*number, &None))
            .chain(plan.active.as_ref().map(|(number, file)| (*number, file)))
        {
            let path = self.segment_path(number);
            let opened = match file {
                Some(file) => Ok(Arc::clone(file)),
                None => disk.open(&path),
            };
            match opened {
                Ok(file) => file.sync_data().context("sync", &path)?,
                // Released meanwhile: nobody needs it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(IoError::new("open", &path, error)),
            }
        }
        let mut journal = lock(&self.journal);
        journal.sync()?;
        if std::mem::take(&mut journal.created) || plan.names {
            disk.sync_dir(&self.dir).context("sync directory", &self.dir)?;
            let topics = self.dir.parent().unwrap_or(&self.dir);
            disk.sync_dir(topics).context("sync directory", topics)?;
        }
        Ok(())
    }

    /// Closes the file and frees what is unused until the next append, so that an idle topic holds no descriptor
    /// and little memory.
    ///
    /// # Errors
    /// As [`TopicLog::flush`].
    pub fn rest(&self) -> Result<(), AppendError> {
        self.flush()?;
        if let Some(active) = lock(&self.writer).active.as_mut() {
            active.file = None;
            active.pending.shrink_to_fit();
        }
        lock(&self.tail).rest();
        Ok(())
    }
}

/// What one sync has to flush.
struct Plan {
    active: Option<(u32, Option<Arc<dyn File>>)>,
    closed: Vec<u32>,
    names: bool,
}

/// The index that the message `seq` has in `segment`.
fn index_in(segment: &Segment, seq: u64) -> u32 {
    u32::try_from(seq - segment.first).unwrap_or(u32::MAX)
}
