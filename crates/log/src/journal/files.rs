//! The files of a topic's journal: `journal.<generation>` and `snapshot.<generation>`.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Deferral,
    channel::ReplayedChannel,
    encode::{FileHeader, HEADER_BYTES, encode_record},
    record::{JournalRecord, LogRecord},
    replay::Replayed,
};
use crate::{
    disk::{Disk, File},
    error::{Context, IoError},
    state::{ChannelState, TopicState},
};

/// A snapshot is written in pieces of about this size.
const WRITE_BYTES: usize = 256 << 10;
/// A record of a snapshot holds at most this many outstanding ranges of a channel.
const PART_ENTRIES: usize = 4096;

/// The place of a topic's journal files.
#[derive(Clone, Debug)]
pub(crate) struct JournalFiles {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
}

/// The generations of the files in a topic's directory, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Generations {
    pub(super) snapshots: Vec<u32>,
    pub(super) journals: Vec<u32>,
}

impl Generations {
    /// Picks the journal files out of the names in a directory.
    pub(crate) fn among(names: &[String]) -> Self {
        let generations = |prefix| {
            let digits = names.iter().filter_map(|name| name.strip_prefix(prefix));
            let mut found: Vec<_> = digits.filter_map(parse_generation).collect();
            found.sort_unstable();
            found
        };
        Self { snapshots: generations("snapshot."), journals: generations("journal.") }
    }

    pub(super) fn newest(&self) -> Option<u32> {
        self.snapshots.last().max(self.journals.last()).copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.newest().is_none()
    }
}

fn parse_generation(digits: &str) -> Option<u32> {
    let canonical = digits.len() == 8
        && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    canonical.then(|| u32::from_str_radix(digits, 16).ok())?
}

impl JournalFiles {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, dir: dir.to_owned() }
    }

    pub(super) fn journal_path(&self, generation: u32) -> PathBuf {
        self.dir.join(format!("journal.{generation:08x}"))
    }

    /// The newest of the files in `found`; the first journal if there is none.
    pub(crate) fn newest_path(&self, found: &Generations) -> PathBuf {
        match (found.journals.last(), found.snapshots.last()) {
            (None, Some(snapshot)) => self.snapshot_path(*snapshot),
            (journal, _) => self.journal_path(journal.copied().unwrap_or(1)),
        }
    }

    pub(super) fn snapshot_path(&self, generation: u32) -> PathBuf {
        self.dir.join(format!("snapshot.{generation:08x}"))
    }

    /// Opens a file; `None` if there is none.
    pub(super) fn open(&self, path: &Path) -> Result<Option<Arc<dyn File>>, IoError> {
        match self.disk.open(path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(IoError::new("open", path, error)),
        }
    }

    /// The files of generations before `generation`.
    pub(super) fn list_older(&self, generation: u32) -> Result<Vec<PathBuf>, IoError> {
        let names = self.disk.list(&self.dir).context("list", &self.dir)?;
        let found = Generations::among(&names);
        let journals = found.journals.iter().map(|older| (*older, self.journal_path(*older)));
        let snapshots = found.snapshots.iter().map(|older| (*older, self.snapshot_path(*older)));
        let files = journals.chain(snapshots).filter(|(older, _)| *older < generation);
        Ok(files.map(|(_, path)| path).collect())
    }

    /// Writes `snapshot.<generation>`, which replaces all records before the number in the header, and returns its
    /// length. A crash leaves either a whole snapshot or none.
    pub(super) fn write_snapshot(
        &self,
        generation: u32,
        header: FileHeader,
        fill: impl FnOnce(&mut SnapshotWriter<'_>) -> Result<(), IoError>,
    ) -> Result<u64, IoError> {
        let path = self.snapshot_path(generation);
        let temp = self.dir.join(format!("snapshot.{generation:08x}.tmp"));
        let file = self.disk.create(&temp).context("create", &temp)?;
        let mut writer = SnapshotWriter::new(&*file, &temp);
        let written = fill(&mut writer).and_then(|()| writer.finish(header)).and_then(|bytes| {
            self.disk.rename(&temp, &path).context("rename", &temp)?;
            Ok(bytes)
        });
        if written.is_err() {
            // Best effort: the next start removes it.
            let _ = self.disk.remove(&temp);
        }
        let bytes = written?;
        self.disk.sync_dir(&self.dir).context("sync directory", &self.dir)?;
        Ok(bytes)
    }
}

/// Writes the records of a snapshot as they come, so that a large state is never encoded as a whole.
pub(super) struct SnapshotWriter<'a> {
    file: &'a dyn File,
    path: &'a Path,
    offset: u64,
    buffer: Vec<u8>,
    next_number: u64,
}

impl<'a> SnapshotWriter<'a> {
    fn new(file: &'a dyn File, path: &'a Path) -> Self {
        Self { file, path, offset: HEADER_BYTES as u64, buffer: Vec::new(), next_number: 1 }
    }

    /// Writes the state that a replay has arrived at.
    pub(super) fn put_replayed(&mut self, state: &Replayed) -> Result<(), IoError> {
        let passed = state.passed();
        let waiting = |deferrals: &[Deferral]| -> Vec<Deferral> {
            deferrals.iter().filter(|(range, _)| range.end > passed).cloned().collect()
        };
        let deferred = waiting(&state.deferred);
        self.put_topic(state.fanout, state.paused, &deferred)?;
        for (name, channel) in &state.channels {
            self.put_channel(name, channel)?;
        }
        let added = waiting(&state.added);
        if !added.is_empty() {
            self.put(&LogRecord::Deferrals(&added))?;
        }
        let latest = state.waypoint.filter(|latest| Some(*latest) != state.flushed);
        for waypoint in state.flushed.iter().chain(&latest) {
            self.put(&LogRecord::Waypoint(waypoint))?;
        }
        self.put_time(state.time_ns)
    }

    /// Writes the state that recovery has fitted to the log.
    pub(super) fn put_recovered(
        &mut self,
        state: &TopicState,
        time_ns: u64,
    ) -> Result<(), IoError> {
        self.put_topic(state.fanout, state.paused, &state.deferred)?;
        for (channel, state) in &state.channels {
            self.put(&LogRecord::Broker(JournalRecord::ChannelSnapshot { channel, state }))?;
        }
        self.put_time(time_ns)
    }

    fn put_topic(
        &mut self,
        fanout: u64,
        paused: bool,
        deferred: &[Deferral],
    ) -> Result<(), IoError> {
        self.put(&LogRecord::Broker(JournalRecord::Topic { fanout, paused, deferred }))
    }

    fn put_channel(
        &mut self,
        channel: &nsq_protocol::ChannelName,
        replayed: &ReplayedChannel,
    ) -> Result<(), IoError> {
        let mut outstanding = replayed.outstanding();
        while outstanding.len() > PART_ENTRIES {
            let part: Vec<_> = outstanding.by_ref().take(PART_ENTRIES).collect();
            self.put(&LogRecord::ChannelPart { channel, outstanding: &part })?;
        }
        let state = ChannelState {
            end: replayed.end,
            cursor: replayed.cursor,
            finished: replayed.finished(),
            outstanding: outstanding.collect(),
            paused: replayed.paused,
        };
        self.put(&LogRecord::Broker(JournalRecord::ChannelSnapshot { channel, state: &state }))
    }

    fn put_time(&mut self, node_ns: u64) -> Result<(), IoError> {
        if node_ns == 0 { Ok(()) } else { self.put(&LogRecord::Time { node_ns }) }
    }

    fn put(&mut self, record: &LogRecord<'_>) -> Result<(), IoError> {
        encode_record(&mut self.buffer, &mut self.next_number, record);
        if self.buffer.len() < WRITE_BYTES { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), IoError> {
        self.file.write_all_at(&self.buffer, self.offset).context("write", self.path)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes the header and makes the file survive a power cut; returns its length.
    fn finish(&mut self, header: FileHeader) -> Result<u64, IoError> {
        self.flush()?;
        let records = u32::try_from(self.next_number - 1).ok();
        let header = FileHeader { records, ..header };
        self.file.write_all_at(&header.encode(), 0).context("write", self.path)?;
        self.file.sync_data().context("sync", self.path)?;
        Ok(self.offset)
    }
}
