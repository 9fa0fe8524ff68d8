//! Beginning segments before an append needs them: ahead of time, or to give up one whose messages are all finished.

use std::{
    sync::atomic::Ordering::{Relaxed, Release},
    time::Duration,
};

use super::{Appender, Inner, Spare};
use crate::{error::Error, lock, site::Site};

/// A segment whose messages are all finished is retired at once if it is longer than this …
const DRAINED_BYTES_MAX: u64 = 4 << 20;
/// … and after [`DRAINED_IDLE`] without an append if it is longer than this.
const IDLE_BYTES_MAX: u64 = 64 << 10;
const DRAINED_IDLE: Duration = Duration::from_millis(500);

/// The outcome of [`TopicLog::retire`](crate::TopicLog::retire).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Retired {
    /// The newest segment is short, or holds messages that are needed.
    No,
    /// It will be retired if it is asked for half a second after the last append.
    NotYet,
    /// It can be released.
    Yes,
}

impl Appender {
    /// Creates the next segment's file if there is no active segment or it is more than three quarters full.
    pub(crate) fn prepare(&self, site: &Site<'_>) -> Result<(), Error> {
        site.marks.filling.store(false, Relaxed);
        let near = site.shared.options.segment_bytes / 4 * 3;
        {
            let inner = lock(&self.inner);
            inner.state.check_append(site.name)?;
            let early = inner.active.as_ref().is_some_and(|active| active.length() <= near);
            if early || inner.spare.is_some() {
                return Ok(());
            }
        }
        self.create_spare(site)
    }

    /// Creates the next segment's file, outside of the lock.
    fn create_spare(&self, site: &Site<'_>) -> Result<(), Error> {
        let spare = Spare::create(site)?;
        let mut inner = lock(&self.inner);
        // Segment numbers rise with the sequence numbers: a spare that was overtaken is of no use.
        let newer = inner.active.as_ref().is_none_or(|active| active.segment.number < spare.number);
        if inner.is_open() && inner.spare.is_none() && newer {
            inner.spare = Some(spare);
            inner.names_dirty = true;
        } else {
            drop(inner);
            spare.remove(site);
        }
        Ok(())
    }

    /// Begins a new segment if no message from `low` on exists and the newest segment is worth it.
    pub(crate) fn retire(&self, site: &Site<'_>, low: u64, now_ns: i64) -> Result<Retired, Error> {
        let spare = {
            let inner = lock(&self.inner);
            match inner.drained(site, low, now_ns) {
                Retired::Yes => inner.spare.is_some(),
                other => return Ok(other),
            }
        };
        if !spare {
            match self.create_spare(site) {
                Err(Error::Io(error)) if error.is_temporary() => {
                    return Ok(self.drop_drained(site, low, now_ns));
                }
                created => created?,
            }
        }
        let mut inner = lock(&self.inner);
        // Appended to meanwhile: the spare is for the next time.
        let drained = inner.drained(site, low, now_ns);
        if drained == Retired::Yes {
            inner.write_pending(site)?;
            inner.roll(site, now_ns)?;
        }
        Ok(drained)
    }

    /// Gives up all segments before the next one exists: where space is short, that may need theirs. Sequence numbers
    /// go on from the end that the journal claims.
    fn drop_drained(&self, site: &Site<'_>, low: u64, now_ns: i64) -> Retired {
        let mut inner = lock(&self.inner);
        let drained = inner.drained(site, low, now_ns);
        if drained != Retired::Yes {
            return drained;
        }
        inner.active = None;
        inner.unsynced.clear();
        let end = site.marks.end();
        site.marks.written.store(end, Release);
        let released = site.segments.clear(end);
        drop(inner);
        site.remove_files(&released);
        // Without it the next append creates its segment itself.
        let _ = self.create_spare(site);
        drained
    }
}

impl Inner {
    /// Decides whether the newest segment is to be retired. Messages before `low` are finished.
    fn drained(&self, site: &Site<'_>, low: u64, now_ns: i64) -> Retired {
        if site.memory_only || !self.is_open() || low < site.marks.end() {
            return Retired::No;
        }
        let bytes = match &self.active {
            Some(active) => active.length(),
            // Closed by the last stop, but the newest all the same.
            None => site.segments.newest_bytes(),
        };
        let idle = Duration::from_nanos(now_ns.abs_diff(self.appended_ns)) >= DRAINED_IDLE;
        match bytes {
            0..=IDLE_BYTES_MAX => Retired::No,
            ..=DRAINED_BYTES_MAX if !idle => Retired::NotYet,
            _ => Retired::Yes,
        }
    }
}
