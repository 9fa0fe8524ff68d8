//! Flushing a topic's files.

use std::{
    io,
    sync::{Arc, atomic::Ordering::AcqRel},
};

use crate::{
    appender::FlushPlan,
    disk::File,
    error::{Context, IoError, SyncError},
    lock,
    topic_log::TopicLog,
};

impl TopicLog {
    /// Flushes everything appended so far, so that it survives a power cut; returns how far that is.
    ///
    /// Blocks for as long as the device takes. Appends, reads and journal records go on meanwhile.
    ///
    /// # Errors
    /// When a file cannot be flushed. If it is a segment, the topic is stopped, since what was written may be lost; only a
    /// file that cannot be opened for lack of descriptors stops nothing. If it is the journal, all messages are
    /// flushed, as [`TopicLog::synced`] says, and the journal waits for a [compaction](TopicLog::compact).
    pub fn sync(&self) -> Result<u64, SyncError> {
        if self.memory_only {
            return Ok(self.end());
        }
        let _turn = lock(&self.flushing);
        let mut plan = self.appender.plan_flush(&self.site())?;
        plan.names |= self.journal.take_names_dirty();
        if let Err(error) = self.flush_files(&plan) {
            self.appender.flush_failed(plan, error.stops());
            return Err(error);
        }
        self.marks.synced.fetch_max(plan.end, AcqRel);
        self.sync_journal(plan.position, plan.appended_bytes)?;
        Ok(plan.end)
    }

    /// Flushes the segments and the names of all files. The journal, whose waypoint vouches for them, comes later.
    fn flush_files(&self, plan: &FlushPlan) -> Result<(), SyncError> {
        for number in &plan.closed {
            // Not borrowed: readers must not wait for a place that a flush takes.
            let opened = self.shared.disk.open(&self.segment_path(*number));
            self.flush_segment(*number, opened)?;
        }
        if let Some((number, file)) = &plan.active {
            self.flush_segment(*number, self.shared.open_files.get(file))?;
        }
        if plan.names {
            self.flush_names().map_err(SyncError::flush)?;
        }
        Ok(())
    }

    fn flush_segment(
        &self,
        number: u32,
        opened: io::Result<Arc<dyn File>>,
    ) -> Result<(), SyncError> {
        let path = self.segment_path(number);
        match opened {
            Ok(file) => file.sync_data().context("sync", &path).map_err(SyncError::flush),
            // Released meanwhile: its messages are finished.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && !self.segments.contains(number) =>
            {
                Ok(())
            }
            Err(error) => Err(SyncError::open(IoError::new("open", &path, error))),
        }
    }

    /// Makes the names of the topic's files and of its directory survive a power cut.
    pub(crate) fn flush_names(&self) -> Result<(), IoError> {
        let disk = &*self.shared.disk;
        disk.sync_dir(&self.dir).context("sync directory", &self.dir)?;
        let topics = self.dir.parent().unwrap_or(&self.dir);
        disk.sync_dir(topics).context("sync directory", topics)
    }
}
