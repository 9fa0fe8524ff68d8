//! New generations of a journal, and the snapshots that replace old ones.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Release},
};

use super::{
    Journal, Replay, Replayed,
    encode::{FileHeader, HEADER_BYTES},
    files::Generations,
};
use crate::{
    error::{Context, Error, IoError},
    lock,
    notice::{Event, Notice},
    state::TopicState,
};

/// A journal is compacted only when it is longer than this.
const COMPACT_BYTES_MIN: u64 = 64 << 10;
/// A journal is compacted when it is this many times as long as its snapshot.
const COMPACT_FACTOR: u64 = 4;

impl Journal {
    /// Creates the first file.
    ///
    /// # Errors
    /// When it cannot be created.
    pub(crate) fn begin(&self) -> Result<(), Error> {
        let _maintenance = lock(&self.maintenance);
        self.begin_generation()?;
        Ok(())
    }

    /// Continues the stream after the last record that a replay of the files in `found` has applied.
    ///
    /// # Errors
    /// When a new file is needed and cannot be created. A shortage is no error; the next [`Journal::retry`]
    /// creates the file.
    pub(crate) fn resume(&self, replay: &Replay, found: &Generations) -> Result<(), Error> {
        let _maintenance = lock(&self.maintenance);
        let newest = found.newest().unwrap_or(0);
        lock(&self.stream).resume(replay, newest);
        if replay.newest == Some(newest) {
            return Ok(());
        }
        pass_over_shortage(self.begin_or_spoil())
    }

    /// Replaces all files by a snapshot of `state`, which they do not agree with.
    ///
    /// # Errors
    /// When the snapshot cannot be written. A shortage is no error; nothing is recorded before
    /// [`Journal::retry`] has written the snapshot.
    pub(crate) fn replace(
        &self,
        replay: Option<&Replay>,
        found: &Generations,
        state: TopicState,
    ) -> Result<(), Error> {
        let _maintenance = lock(&self.maintenance);
        let mut stream = lock(&self.stream);
        stream.generation = found.newest().unwrap_or(0);
        if let Some(replay) = replay {
            stream.next_number = replay.next_number;
            stream.pending_number = replay.next_number;
            stream.time_ns = replay.state.time_ns;
        }
        drop(stream);
        pass_over_shortage(self.restart(state))
    }

    /// Writes a snapshot of `state` and begins a generation behind it. Until that has worked, `state` is owed.
    pub(super) fn restart(&self, state: TopicState) -> Result<(), Error> {
        let (generation, number, time_ns) = {
            let stream = lock(&self.stream);
            (stream.generation + 1, stream.pending_number, stream.time_ns)
        };
        let header = self.header(number);
        let written =
            self.files.write_snapshot(generation, header, |out| out.put_recovered(&state, time_ns));
        self.owes_snapshot.store(written.is_err(), Release);
        match written {
            Ok(bytes) => lock(&self.stream).snapshot_bytes = bytes,
            Err(error) => {
                lock(&self.stream).owed = Some(state);
                return Err(self.spoil(error));
            }
        }
        self.begin_or_spoil()?;
        self.remove_older(generation);
        Ok(())
    }

    /// Begins a generation; if that fails, it is for [`Journal::retry`] to try again.
    fn begin_or_spoil(&self) -> Result<(), Error> {
        match self.begin_generation() {
            Ok(_) => Ok(()),
            Err(Error::Io(error)) => Err(self.spoil(error)),
            Err(error) => Err(error),
        }
    }

    /// Keeps records in memory from now on, until there is a new generation.
    fn spoil(&self, error: IoError) -> Error {
        let reason = Arc::new(error);
        lock(&self.stream).spoiled = Some(Arc::clone(&reason));
        self.behind.store(true, Release);
        Error::JournalBehind { topic: self.topic(), reason }
    }

    /// Begins the next generation with the records that are pending; returns it and the number of its first record.
    /// The file is created before the stream's lock is taken.
    pub(super) fn begin_generation(&self) -> Result<(u32, u64), Error> {
        let generation = lock(&self.stream).generation + 1;
        let path = self.files.journal_path(generation);
        let file = self.files.disk.create(&path).context("create", &path)?;
        let mut stream = lock(&self.stream);
        let number = stream.pending_number;
        let mut first = self.header(number).encode().to_vec();
        first.extend_from_slice(&stream.pending);
        let opened = self.check_open(&stream);
        let written =
            opened.and_then(|()| Ok(file.write_all_at(&first, 0).context("write", &path)?));
        if let Err(error) = written {
            drop(stream);
            // Best effort: an empty or torn file that was never put to use ends no replay.
            let _ = self.files.disk.remove(&path);
            return Err(error);
        }
        stream.older_bytes += stream.bytes.saturating_sub(HEADER_BYTES as u64);
        (stream.generation, stream.bytes) = (generation, 0);
        stream.written(first.len() as u64);
        stream.names_dirty = true;
        stream.spoiled = None;
        self.behind.store(false, Release);
        Ok((generation, number))
    }

    fn header(&self, number: u64) -> FileHeader {
        FileHeader { topic_id: self.topic_id, number, records: None }
    }

    /// Returns true if the files have outgrown the last snapshot, or must be written anew after a failed flush.
    pub(crate) fn needs_compaction(&self) -> bool {
        let stream = lock(&self.stream);
        let bytes = stream.older_bytes + stream.bytes + stream.snapshot_bytes;
        stream.suspect || bytes > COMPACT_BYTES_MIN.max(COMPACT_FACTOR * stream.snapshot_bytes)
    }

    /// Replaces all files but a new one by a snapshot. Appends go on meanwhile.
    ///
    /// Returns a notice if records turned out to be lost.
    ///
    /// # Errors
    /// When the files cannot be read or the snapshot cannot be written. The old files stay.
    pub(crate) fn compact(&self) -> Result<Option<Notice>, Error> {
        let _maintenance = lock(&self.maintenance);
        let (owed, boundary) = {
            let mut stream = lock(&self.stream);
            self.check_open(&stream)?;
            (stream.owed.take(), stream.boundary)
        };
        if let Some(state) = owed {
            self.restart(state)?;
            return Ok(None);
        }
        let (generation, number) = match boundary {
            Some(boundary) => boundary,
            None => self.begin_generation()?,
        };
        lock(&self.stream).boundary = Some((generation, number));
        let (state, notice) = self.replay_older(generation, number)?;
        let header = self.header(number);
        let snapshot_bytes =
            self.files.write_snapshot(generation, header, |out| out.put_replayed(&state))?;
        let mut stream = lock(&self.stream);
        stream.snapshot_bytes = snapshot_bytes;
        stream.older_bytes = 0;
        // A flush that failed meanwhile has taken the boundary away: the new file may have lost records too.
        stream.suspect &= stream.boundary.take().is_none();
        // The directory was flushed with the snapshot.
        stream.names_dirty = false;
        stream.unsynced.retain(|unsynced| *unsynced >= generation);
        drop(stream);
        self.remove_older(generation);
        Ok(notice)
    }

    /// Replays the files before a generation that begins with record `number`; with a notice unless all records
    /// before it are there.
    fn replay_older(
        &self,
        generation: u32,
        number: u64,
    ) -> Result<(Replayed, Option<Notice>), Error> {
        let names = self.files.disk.list(&self.files.dir);
        let names = names.context("list", &self.files.dir)?;
        let replay = match self.files.replay(&Generations::among(&names), generation)? {
            Ok(replay) => replay,
            Err(unusable) => {
                let event = Event::JournalReset { reason: unusable.reason };
                return Ok((Replayed::default(), Some(Notice { path: unusable.path, event })));
            }
        };
        let lost = replay.next_number < number;
        let notice = lost.then(|| match replay.cut {
            Some(cut) => cut.notice(),
            None => Notice {
                path: self.files.journal_path(generation),
                event: Event::JournalCut { offset: 0, bytes: 0 },
            },
        });
        Ok((replay.state, notice))
    }

    /// Removes the files that a snapshot has replaced.
    fn remove_older(&self, generation: u32) {
        let older: Vec<PathBuf> = self.files.list_older(generation).unwrap_or_default();
        for path in older {
            // Best effort: the next start or compaction removes it.
            let _ = self.files.disk.remove(&path);
        }
    }
}

/// Drops an error that a later [`Journal::retry`] may not meet.
fn pass_over_shortage(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::JournalBehind { reason, .. }) if reason.is_temporary() => Ok(()),
        other => other,
    }
}
