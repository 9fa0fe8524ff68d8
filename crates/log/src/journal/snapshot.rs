//! Snapshots: the state of a topic and its channels as records, which replace all earlier ones.

use std::path::Path;

use super::{
    Deferral,
    channel::ReplayedChannel,
    encode::{FileHeader, HEADER_BYTES, encode_record},
    files::JournalFiles,
    record::{JournalRecord, LogRecord},
    replay::Replayed,
};
use crate::{
    disk::File,
    error::{Context, IoError},
    state::{ChannelState, TopicState},
};

/// A snapshot is written in pieces of about this size.
const WRITE_BYTES: usize = 256 << 10;
/// A record of a snapshot holds at most this many outstanding ranges of a channel.
const PART_ENTRIES: usize = 4096;

impl JournalFiles {
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
