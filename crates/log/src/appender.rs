//! The writing end of a topic's log: appending to the active segment and beginning the next one.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::Ordering::{Relaxed, Release},
    },
};

use nsq_protocol::TopicName;

use self::active::{Spare, WriteError};
use crate::{
    batch::{BATCH_HEADER_BYTES, BatchBuilder, Place},
    error::{AppendError, Error, IoError},
    id::SEGMENT_MESSAGES_MAX,
    journal::{Position, nanos},
    lock,
    segment::SEGMENT_HEADER_BYTES,
    site::{Append, Site},
};

mod active;
mod flushing;
mod retiring;

pub use self::retiring::Retired;
pub(crate) use self::{active::Active, flushing::FlushPlan};

/// The active segment and all that is settled with an append, behind a lock of its own.
///
/// The lock is held over writes to the page cache, never over a flush, a rename, a removal or, if
/// [`Appender::prepare`] came in time, a creation.
#[derive(Debug)]
pub(crate) struct Appender {
    inner: Mutex<Inner>,
}

/// The state that an appender starts from.
#[derive(Debug, Default)]
pub(crate) struct AppenderStart {
    /// The segment that appending goes on in.
    pub(crate) active: Option<Active>,
    /// Numbers of closed segments that may not be flushed.
    pub(crate) unsynced: Vec<u32>,
    /// Files or directories were created and their names not flushed.
    pub(crate) names_dirty: bool,
}

#[derive(Debug)]
struct Inner {
    state: State,
    active: Option<Active>,
    spare: Option<Spare>,
    unsynced: Vec<u32>,
    names_dirty: bool,
    /// The time of the last append.
    appended_ns: i64,
}

/// The state of a topic, which decides whether it takes appends.
#[derive(Clone, Debug, Default)]
pub(crate) enum State {
    #[default]
    Open,
    /// A write or a flush failed.
    Stopped(Arc<IoError>),
    Deleted,
    Closed,
}

impl State {
    fn check_append(&self, name: &TopicName) -> Result<(), AppendError> {
        match self {
            Self::Open => Ok(()),
            Self::Stopped(reason) => {
                let (topic, reason) = (name.to_string(), Arc::clone(reason));
                Err(AppendError::Stopped { topic, reason })
            }
            Self::Deleted => Err(AppendError::Deleted(name.to_string())),
            Self::Closed => Err(AppendError::Closed),
        }
    }

    fn check_open(&self, name: &TopicName) -> Result<(), Error> {
        match self {
            Self::Deleted => Err(Error::Deleted(name.to_string())),
            Self::Closed => Err(Error::Closed),
            Self::Open | Self::Stopped(_) => Ok(()),
        }
    }
}

impl Appender {
    pub(crate) fn new(start: AppenderStart) -> Self {
        let AppenderStart { active, unsynced, names_dirty } = start;
        let (state, spare) = (State::Open, None);
        let inner = Inner { state, active, spare, unsynced, names_dirty, appended_ns: 0 };
        Self { inner: Mutex::new(inner) }
    }

    /// Writes a batch and returns the sequence numbers of its messages. `show` makes it visible to readers; it runs
    /// under the lock, so that batches become visible in the order of their numbers.
    pub(crate) fn append(
        &self,
        site: &Site<'_>,
        batch: &mut BatchBuilder,
        at: Append,
        show: impl FnOnce(&mut BatchBuilder, Range<u64>),
    ) -> Result<Range<u64>, AppendError> {
        let mut inner = lock(&self.inner);
        inner.state.check_append(site.name)?;
        if !site.memory_only {
            site.shared.space.check()?;
        }
        let first = site.marks.end();
        let end = first + batch.count() as u64;
        if end == first {
            return Ok(first..end);
        }
        let active = inner.active_with_room(site, batch, at.timestamp_ns)?;
        batch.place(&Place {
            first,
            topic_id: site.id,
            wall_ns: at.timestamp_ns,
            defer_ns: at.defer.map_or(0, nanos),
            incarnation: site.shared.incarnation,
            segment: active.segment.number,
            segment_key: active.segment.key,
            index: active.index_of(first),
        });
        let written = active.put(site, batch.encoded(), first, end);
        let filling = active.length() > site.shared.options.segment_bytes / 4 * 3;
        written.map_err(|error| inner.fail(site, error))?;
        inner.appended_ns = at.timestamp_ns;
        if filling && inner.spare.is_none() {
            site.marks.filling.store(true, Relaxed);
        }
        show(batch, first..end);
        // Last: a reader that sees the new end finds the messages.
        site.marks.end.store(end, Release);
        Ok(first..end)
    }

    /// Writes the batches that level `memory` has gathered.
    pub(crate) fn flush(&self, site: &Site<'_>) -> Result<(), AppendError> {
        let mut inner = lock(&self.inner);
        if let State::Open = inner.state { inner.write_pending(site) } else { Ok(()) }
    }

    /// Closes the files until the next append.
    pub(crate) fn rest(&self) {
        let mut inner = lock(&self.inner);
        if let Some(active) = inner.active.as_mut() {
            active.pending.shrink_to_fit();
            active.file.iter().for_each(|file| file.close());
        }
        inner.spare.iter().for_each(Spare::rest);
    }

    /// The end of what is written; `None` while there is no segment.
    ///
    /// # Errors
    /// When the topic takes no appends: the file may not hold what was written to it.
    pub(crate) fn position(&self, site: &Site<'_>) -> Result<Option<Position>, AppendError> {
        let inner = lock(&self.inner);
        inner.state.check_append(site.name)?;
        Ok(inner.position(site))
    }

    /// Returns true if the topic is open and nothing of it waits to be written or flushed.
    pub(crate) fn is_flushed(&self, site: &Site<'_>) -> bool {
        let inner = lock(&self.inner);
        inner.is_open()
            && inner.unsynced.is_empty()
            && !inner.names_dirty
            && site.marks.synced() == site.marks.end()
    }

    /// Refuses appends from now on, since the topic is being deleted. Returns the state before, to go back to if the
    /// deletion fails.
    pub(crate) fn begin_delete(&self) -> State {
        std::mem::replace(&mut lock(&self.inner).state, State::Deleted)
    }

    /// Takes a deletion back.
    pub(crate) fn undo_delete(&self, before: State) {
        lock(&self.inner).state = before;
    }

    /// Refuses appends from now on.
    ///
    /// # Errors
    /// When the topic was stopped: its files are left for recovery to check.
    pub(crate) fn close(&self, site: &Site<'_>) -> Result<(), Error> {
        let (before, spare) = {
            let mut inner = lock(&self.inner);
            (std::mem::replace(&mut inner.state, State::Closed), inner.spare.take())
        };
        if let Some(spare) = spare {
            spare.remove(site);
        }
        Ok(before.check_append(site.name)?)
    }
}

impl Inner {
    fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    fn position(&self, site: &Site<'_>) -> Option<Position> {
        let end = site.marks.written();
        if let Some(active) = &self.active {
            let (segment, bytes) = (active.segment.number, active.bytes);
            return Some(Position { segment, bytes, end, open: true });
        }
        let newest = site.segments.newest()?;
        let bytes = newest.extent().bytes;
        Some(Position { segment: newest.number, bytes, end, open: false })
    }

    /// Reports a failed write to the publisher, and stops the topic unless it was a mere shortage.
    fn fail(&mut self, site: &Site<'_>, failed: WriteError) -> AppendError {
        site.shared.space.note(&failed.error);
        if failed.undone && failed.error.is_temporary() {
            return AppendError::Temporary(failed.error);
        }
        let reason = Arc::new(failed.error);
        self.state = State::Stopped(Arc::clone(&reason));
        AppendError::Stopped { topic: site.name.to_string(), reason }
    }

    /// The active segment, which is a new one if the batch does not fit into the old.
    fn active_with_room(
        &mut self,
        site: &Site<'_>,
        batch: &BatchBuilder,
        wall_ns: i64,
    ) -> Result<&mut Active, AppendError> {
        let room = self.active.as_ref().is_some_and(|active| {
            let length = active.length() + BATCH_HEADER_BYTES as u64 + batch.bytes() as u64;
            let index = u64::from(active.index_of(site.marks.end()));
            let empty = active.length() <= SEGMENT_HEADER_BYTES as u64;
            (empty || length <= site.shared.options.segment_bytes)
                && index + batch.count() as u64 <= SEGMENT_MESSAGES_MAX
        });
        if !room {
            self.write_pending(site)?;
            self.roll(site, wall_ns)?;
        }
        self.active.as_mut().ok_or(AppendError::Closed)
    }

    fn write_pending(&mut self, site: &Site<'_>) -> Result<(), AppendError> {
        let Some(active) = self.active.as_mut() else { return Ok(()) };
        let written = active.write_pending(site, site.marks.end());
        written.map_err(|error| self.fail(site, error))
    }

    /// Begins a new segment: with one small write if its file was created ahead.
    fn roll(&mut self, site: &Site<'_>, wall_ns: i64) -> Result<(), AppendError> {
        let next = self.begin_next(site, wall_ns);
        let next = next.map_err(|error| self.fail(site, WriteError::before(error)))?;
        site.segments.push(Arc::clone(&next.segment));
        if let Some(closed) = self.active.replace(next)
            && !site.memory_only
        {
            self.unsynced.push(closed.segment.number);
        }
        Ok(())
    }

    fn begin_next(&mut self, site: &Site<'_>, wall_ns: i64) -> Result<Active, IoError> {
        let spare = match self.spare.take() {
            Some(spare) => spare,
            None => {
                self.names_dirty = true;
                Spare::create(site)?
            }
        };
        let next = spare.begin(site, site.marks.end(), wall_ns);
        if next.is_err() {
            self.spare = Some(spare);
        }
        next
    }
}
