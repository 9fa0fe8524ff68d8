//! The end of a journal's stream of records: the newest file, and the records that are not in it yet.

use std::{path::Path, sync::Arc};

use super::{Replay, Waypoint, encode::encode_record, record::LogRecord};
use crate::{
    disk::Disk,
    error::{Context, IoError, SyncError},
    state::TopicState,
};

/// Time records are at least this far apart.
const TIME_STEP_NS: u64 = 1_000_000_000;
/// A buffer larger than this is freed after use: a burst must not pin it for the life of an idle topic.
const BUFFER_BYTES_KEPT: usize = 16 << 10;

/// The state behind a journal's lock.
#[derive(Debug)]
pub(super) struct Stream {
    /// The newest file; 0 while there is none.
    pub(super) generation: u32,
    /// Its length.
    pub(super) bytes: u64,
    /// Length of the files before it that no snapshot has replaced.
    pub(super) older_bytes: u64,
    pub(super) snapshot_bytes: u64,
    /// The number of the next record.
    pub(super) next_number: u64,
    /// Records that are not in a file yet.
    pub(super) pending: Vec<u8>,
    /// The number of the first of them.
    pub(super) pending_number: u64,
    /// Why nothing can be written to the newest file any more, if so: the next write needs a new generation.
    pub(super) spoiled: Option<Arc<IoError>>,
    /// A state that has to be in a snapshot before anything else is recorded: the files are wrong.
    pub(super) owed: Option<TopicState>,
    /// A generation was begun by a compaction that then failed: its number, and its first record.
    pub(super) boundary: Option<(u32, u64)>,
    /// Generations written since the last sync.
    pub(super) unsynced: Vec<u32>,
    pub(super) names_dirty: bool,
    /// A flush failed or records were lost: only a compaction makes the files good again.
    pub(super) suspect: bool,
    pub(super) closed: bool,
    pub(super) time_ns: u64,
    /// The last waypoint and the last flushed one.
    pub(super) waypoint: Option<Waypoint>,
    pub(super) flushed: Option<Waypoint>,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            generation: 0,
            bytes: 0,
            older_bytes: 0,
            snapshot_bytes: 0,
            next_number: 1,
            pending: Vec::new(),
            pending_number: 1,
            spoiled: None,
            owed: None,
            boundary: None,
            unsynced: Vec::new(),
            names_dirty: false,
            suspect: false,
            closed: false,
            time_ns: 0,
            waypoint: None,
            flushed: None,
        }
    }
}

impl Stream {
    /// Continues after a replay.
    pub(super) fn resume(&mut self, replay: &Replay, newest: u32) {
        self.generation = newest;
        self.bytes = replay.newest_bytes;
        self.older_bytes = replay.older_bytes;
        self.snapshot_bytes = replay.snapshot_bytes;
        self.next_number = replay.next_number;
        self.pending_number = replay.next_number;
        (self.waypoint, self.flushed) = (replay.state.waypoint, replay.state.flushed);
        self.time_ns = replay.state.time_ns;
    }

    pub(super) fn record(&mut self, record: &LogRecord<'_>) {
        encode_record(&mut self.pending, &mut self.next_number, record);
    }

    /// Records the time unless that was done within the last second.
    pub(super) fn record_time(&mut self, now_ns: u64) {
        if now_ns >= self.time_ns.saturating_add(TIME_STEP_NS) {
            self.time_ns = now_ns;
            self.record(&LogRecord::Time { node_ns: now_ns });
        }
    }

    pub(super) fn record_waypoint(&mut self, waypoint: Waypoint) {
        self.record(&LogRecord::Waypoint(&waypoint));
        self.waypoint = Some(waypoint);
        if waypoint.flushed {
            self.flushed = Some(waypoint);
        }
    }

    /// Returns true if a waypoint says more than the last one of its kind.
    pub(super) fn is_news(&self, waypoint: &Waypoint) -> bool {
        let last = if waypoint.flushed { self.flushed } else { self.waypoint };
        last.is_none_or(|last| {
            let (new, old) = (waypoint.position, last.position);
            let (new_at, old_at) = ((new.segment, new.bytes), (old.segment, old.bytes));
            new_at > old_at || (new_at == old_at && new.open != old.open)
        })
    }

    /// Returns true if every record survives a power cut.
    pub(super) fn is_flushed(&self) -> bool {
        self.pending.is_empty()
            && self.unsynced.is_empty()
            && !self.names_dirty
            && !self.suspect
            && self.spoiled.is_none()
    }

    /// Writes the pending records to the newest file, which is at `path`. Files are opened for each write:
    /// thousands of idle topics must not hold descriptors.
    pub(super) fn write(&mut self, disk: &dyn Disk, path: &Path) -> Result<(), Arc<IoError>> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let written = disk.open(path).context("open", path).and_then(|file| {
            let written = file.write_all_at(&self.pending, self.bytes).context("write", path);
            if written.is_err() {
                // Best effort: the same bytes are written there again, or a new file goes on behind the torn end.
                let _ = file.truncate(self.bytes);
            }
            written
        });
        match written {
            Ok(()) => self.written(self.pending.len() as u64),
            Err(error) => {
                let error = Arc::new(error);
                if !error.is_temporary() {
                    self.spoiled = Some(Arc::clone(&error));
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Notes that the pending records are in the newest file, which has grown by `bytes`.
    pub(super) fn written(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.pending.clear();
        self.pending.shrink_to(BUFFER_BYTES_KEPT);
        self.pending_number = self.next_number;
        self.mark_unsynced();
    }

    pub(super) fn mark_unsynced(&mut self) {
        if self.unsynced.last() != Some(&self.generation) {
            self.unsynced.push(self.generation);
        }
    }

    /// Notes that a flush of `generations` failed. Unless it could not even begin, records may be lost.
    pub(super) fn flush_failed(&mut self, generations: Vec<u32>, error: &SyncError) {
        self.unsynced.splice(..0, generations);
        self.unsynced.dedup();
        if error.stops().is_some() {
            self.suspect = true;
            // The newest file may be the one that failed, so the compaction has to replace it too.
            self.boundary = None;
        }
    }
}
