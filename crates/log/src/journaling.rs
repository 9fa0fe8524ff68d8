//! The public side of a topic's journal, and the waypoints that bound the work of a recovery.

use std::sync::atomic::Ordering::Acquire;

use crate::{
    error::{Error, SyncError},
    journal::{JournalRecord, Position, Waypoint},
    lock,
    notice::Notice,
    topic_log::TopicLog,
};

/// A waypoint is due when this much has been appended since the last one: the most that a recovery has to walk.
const WAYPOINT_BYTES: u64 = 4 << 20;
/// A sync that has caught up with the log adds a waypoint when this much has been appended since the last one.
const WAYPOINT_BYTES_AT_REST: u64 = 256 << 10;

impl TopicLog {
    /// Records changes of the topic and its channels with one write. No-op for an ephemeral topic.
    ///
    /// `now_ns` is node time; it goes into the journal once a second.
    ///
    /// # Errors
    /// When the write fails. The records stay in memory then and are written before any later ones, by the next call
    /// or by [`TopicLog::retry_journal`].
    pub fn journal(&self, records: &[JournalRecord<'_>], now_ns: u64) -> Result<(), Error> {
        if self.memory_only || records.is_empty() {
            return Ok(());
        }
        self.note_shortage(self.journal.append(records, now_ns))
    }

    /// Returns true if records that could not be written wait in memory.
    pub fn journal_behind(&self) -> bool {
        self.journal.is_behind()
    }

    /// Writes the records that wait in memory if that takes no new file: nothing is waited for but that write.
    ///
    /// # Errors
    /// When they still cannot be written, or [`TopicLog::retry_journal`] is needed.
    pub fn write_journal(&self) -> Result<(), Error> {
        if self.journal_behind() { self.journal.write_pending() } else { Ok(()) }
    }

    /// Writes the records that wait in memory. Blocks: call it on a background thread.
    ///
    /// # Errors
    /// When they still cannot be written.
    pub fn retry_journal(&self) -> Result<(), Error> {
        if self.journal_behind() { self.journal.retry() } else { Ok(()) }
    }

    /// Returns true if the journal has outgrown its last snapshot, or must be rewritten after a failed flush.
    pub fn needs_compaction(&self) -> bool {
        !self.memory_only && self.journal.needs_compaction()
    }

    /// Replaces the journal's files by a snapshot made from them. Appends go on meanwhile. Blocks: call it on a
    /// background thread.
    ///
    /// Returns a notice if records were lost on disk. The caller should journal the whole state of the topic
    /// and its channels then.
    ///
    /// # Errors
    /// When the files cannot be read or the snapshot cannot be written. The old files stay.
    pub fn compact(&self) -> Result<Option<Notice>, Error> {
        if self.memory_only { Ok(None) } else { self.note_shortage(self.journal.compact()) }
    }

    /// As [`Store::recover_space`](crate::Store::recover_space), for the owner of a topic.
    ///
    /// # Errors
    /// When the free space cannot be found out.
    pub fn recover_space(&self) -> Result<bool, Error> {
        Ok(self.shared.space.recover()?)
    }

    /// Forgets the delays of deferred messages below a sequence number: the journal has every channel's due times
    /// for them.
    pub fn forget_deferrals(&self, below: u64) {
        self.journal.forget_deferrals(below);
    }

    /// Returns true if so much was appended since the last waypoint that [`TopicLog::waypoint`] should be called.
    pub fn waypoint_due(&self) -> bool {
        let appended = self.marks.appended_bytes.load(Acquire);
        !self.memory_only && appended.saturating_sub(self.journal.waypoint_at()) >= WAYPOINT_BYTES
    }

    /// Records the end of the log, so that the next start need not walk anything before it. Counts only until
    /// the machine reboots, unlike the waypoints of [`TopicLog::sync`].
    ///
    /// # Errors
    /// As [`TopicLog::journal`].
    pub fn waypoint(&self) -> Result<(), Error> {
        if self.memory_only {
            return Ok(());
        }
        // First: batches that come in between are before the position and count as behind it.
        let appended = self.marks.appended_bytes.load(Acquire);
        match self.appender.position(&self.site())? {
            Some(position) => {
                let waypoint = self.waypoint_at(position, false);
                self.note_shortage(self.journal.waypoint(waypoint, appended))
            }
            None => Ok(()),
        }
    }

    fn note_shortage<T>(&self, written: Result<T, Error>) -> Result<T, Error> {
        match &written {
            Err(Error::JournalBehind { reason, .. }) => self.shared.space.note(reason),
            Err(Error::Io(error)) => self.shared.space.note(error),
            _ => {}
        }
        written
    }

    /// Flushes the journal, after the segments were flushed up to `position`.
    pub(crate) fn sync_journal(
        &self,
        position: Option<Position>,
        appended: u64,
    ) -> Result<(), SyncError> {
        let since = appended.saturating_sub(self.journal.flushed_at());
        let at_rest = position.is_some_and(|position| position.end == self.end());
        let due = since >= WAYPOINT_BYTES || (at_rest && since >= WAYPOINT_BYTES_AT_REST);
        if let Some(position) = position.filter(|_| due) {
            // A failure is kept like that of any record, and not one of the flush.
            let _ = self.journal.waypoint(self.waypoint_at(position, true), appended);
        }
        self.journal.sync()
    }

    pub(crate) fn waypoint_at(&self, position: Position, flushed: bool) -> Waypoint {
        Waypoint { position, flushed, boot_id: self.shared.boot_id }
    }

    /// Deletes the topic by `rename`, which takes its files away. Nothing writes to them by then: a new topic of the
    /// same name may come. If `rename` fails, the topic goes on as before.
    ///
    /// # Errors
    /// Those of `rename`.
    pub(crate) fn delete_with(
        &self,
        rename: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        // Waits for a flush, a repair or a compaction of this topic, which work with the names of its files.
        let _turn = lock(&self.flushing);
        self.journal.close();
        let before = self.appender.begin_delete();
        let renamed = rename();
        if renamed.is_err() {
            self.appender.undo_delete(before);
            self.journal.unclose();
        }
        renamed
    }
}
