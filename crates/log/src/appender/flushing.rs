//! The appender's part in flushes, and in starting again after one that failed.

use std::sync::{
    Arc,
    atomic::Ordering::{Acquire, Release},
};

use super::{Appender, State};
use crate::{
    error::{AppendError, Error, IoError},
    journal::Position,
    lock,
    open_files::KeptFile,
    site::Site,
};

/// The files that one flush covers.
#[derive(Debug)]
pub(crate) struct FlushPlan {
    /// The sequence number that is reached when all of them are flushed.
    pub(crate) end: u64,
    pub(crate) closed: Vec<u32>,
    pub(crate) active: Option<(u32, Arc<KeptFile>)>,
    pub(crate) names: bool,
    /// The position up to which the segments are flushed then.
    pub(crate) position: Option<Position>,
    /// [`Marks::appended_bytes`](crate::site::Marks::appended_bytes) there.
    pub(crate) appended_bytes: u64,
}

impl Appender {
    /// Settles which files have to be flushed for everything appended so far.
    pub(crate) fn plan_flush(&self, site: &Site<'_>) -> Result<FlushPlan, AppendError> {
        let mut inner = lock(&self.inner);
        inner.state.check_append(site.name)?;
        inner.write_pending(site)?;
        let end = site.marks.written();
        let active = inner.active.as_ref().filter(|_| site.marks.synced() < end);
        Ok(FlushPlan {
            end,
            active: active.and_then(|active| Some((active.segment.number, active.file.clone()?))),
            closed: std::mem::take(&mut inner.unsynced),
            names: std::mem::take(&mut inner.names_dirty),
            position: inner.position(site),
            appended_bytes: site.marks.appended_bytes.load(Acquire),
        })
    }

    /// Takes back the plan of a failed flush. `stop` is an error after which unflushed data cannot be relied on.
    pub(crate) fn flush_failed(&self, plan: FlushPlan, stop: Option<&Arc<IoError>>) {
        let mut inner = lock(&self.inner);
        inner.unsynced.extend(plan.closed);
        inner.names_dirty |= plan.names;
        if let (State::Open, Some(error)) = (&inner.state, stop) {
            inner.state = State::Stopped(Arc::clone(error));
        }
    }

    /// The segments that may not hold what was written to them; `None` if the topic is not stopped.
    pub(crate) fn begin_reopen(&self, site: &Site<'_>) -> Result<Option<Vec<u32>>, Error> {
        let inner = lock(&self.inner);
        inner.state.check_open(site.name)?;
        let State::Stopped(_) = inner.state else { return Ok(None) };
        let active = inner.active.as_ref();
        // The handle may be of a file that is about to be replaced.
        active.and_then(|active| active.file.as_ref()).iter().for_each(|file| file.close());
        let numbers = inner.unsynced.iter().copied();
        Ok(Some(numbers.chain(active.map(|active| active.segment.number)).collect()))
    }

    /// Notes that the file of a segment was replaced by a copy of the same length.
    pub(crate) fn renewed(&self, segment: u32) {
        if let Some(active) = lock(&self.inner).active.as_ref()
            && active.segment.number == segment
        {
            active.file.iter().for_each(|file| file.close());
        }
    }

    /// Appends no more to a segment.
    pub(crate) fn abandon(&self, segment: u32) {
        let mut inner = lock(&self.inner);
        inner.active.take_if(|active| active.segment.number == segment);
    }

    /// Takes appends again: everything written so far has been checked and flushed.
    pub(crate) fn end_reopen(&self, site: &Site<'_>) -> Result<(), Error> {
        let mut inner = lock(&self.inner);
        inner.state.check_open(site.name)?;
        inner.unsynced.clear();
        inner.names_dirty = false;
        inner.state = State::Open;
        site.marks.synced.store(site.marks.written(), Release);
        Ok(())
    }
}
