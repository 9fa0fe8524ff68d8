//! The disk side of a topic: when its journal is written and its files are flushed, and the retries of both.
//!
//! # Locks
//! `told` is taken first, then the topic's routes, then a channel. It is held while records are collected and
//! appended to the journal, which is a write to the page cache; never while a file is flushed, created or renamed.
//! A publish without a delay does not take it.

use std::{
    collections::BTreeSet,
    fmt::Display,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nsq_log::{AppendError, JournalRecord, SyncError, TopicLog};
use nsq_protocol::ChannelName;
use tokio::sync::watch;

use super::{journal::Record, services::Services};
use crate::{chores::queue::Errand, lock::lock};

/// How long acknowledgements gather before they are written to the journal. What was finished within this time
/// before a crash may be delivered again.
const GATHER: Duration = Duration::from_millis(50);
/// How long to wait before retrying what failed: long enough to cost nothing while the disk is full.
const RETRY: Duration = Duration::from_secs(1);
/// How long to wait before the first retry: space that is held back for journals is given up then, so that what is
/// finished is not forgotten meanwhile.
const FIRST_RETRY: Duration = Duration::from_millis(10);

/// Why a topic still cannot write.
#[derive(Debug, thiserror::Error)]
enum MendError {
    /// Its files cannot be opened, checked or written.
    #[error(transparent)]
    Log(#[from] nsq_log::Error),
    /// They cannot be flushed.
    #[error("flush - {0}")]
    Flush(#[from] SyncError),
    /// There is no room for messages; journals still have some. Worded as the operating system does: whoever watches
    /// `/ping` sees this or its error, depending on the moment.
    #[error("No space left on the file system of the data path")]
    Full,
}

/// The background work of a topic.
pub(super) struct Errands {
    /// Writes the journal.
    pub(super) keep: Arc<Errand>,
    /// Flushes log and journal.
    pub(super) flush: Arc<Errand>,
    /// Deletes segments, compacts the journal.
    pub(super) tidy: Arc<Errand>,
    /// Retries what failed.
    pub(super) mend: Arc<Errand>,
}

/// The state of the journal that decides which records come next.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The fan-out in the last topic record. The records of durable channels imply it.
    pub(super) fanout: u64,
    /// Channels whose creation has not reached the journal.
    pub(super) unwritten: BTreeSet<ChannelName>,
    /// Records were lost on disk: the next one has to be the whole state.
    pub(super) incomplete: bool,
}

/// The part of a log that is flushed.
#[derive(Clone, Debug, Default)]
struct Synced {
    end: u64,
    /// Why the last flush failed, if it did.
    failure: Option<FailedFlush>,
}

/// A flush that failed.
#[derive(Clone, Debug)]
struct FailedFlush {
    /// The end of the log at that time. Later messages wait for the next flush.
    end: u64,
    error: Arc<str>,
}

impl Synced {
    /// Tells whether the messages below `end` are flushed; `None` while that is not known.
    fn outcome(&self, end: u64) -> Option<Result<(), Arc<str>>> {
        if end <= self.end {
            // Also if a later flush has failed.
            return Some(Ok(()));
        }
        let failure = self.failure.as_ref().filter(|failure| end <= failure.end)?;
        Some(Err(Arc::clone(&failure.error)))
    }
}

/// The failures of a topic's disk.
#[derive(Debug, Default)]
struct Trouble {
    /// Failed work is being retried.
    retrying: bool,
    /// The number of failures so far.
    failures: u64,
    /// The topic has been deleted: its failures do not count any more.
    gone: bool,
}

/// The disk side of a topic.
pub(super) struct TopicDisk {
    log: Arc<TopicLog>,
    services: Arc<Services>,
    errands: Errands,
    told: Mutex<Told>,
    /// Messages since the last flush began.
    unsynced: AtomicU64,
    synced: watch::Sender<Synced>,
    /// Taken after `told`.
    trouble: Mutex<Trouble>,
}

impl TopicDisk {
    pub(super) fn new(
        log: Arc<TopicLog>,
        services: Arc<Services>,
        errands: Errands,
        fanout: u64,
    ) -> Self {
        Self {
            log,
            services,
            errands,
            told: Mutex::new(Told { fanout, ..Told::default() }),
            unsynced: AtomicU64::new(0),
            synced: watch::Sender::new(Synced::default()),
            trouble: Mutex::default(),
        }
    }

    fn owner(&self) -> String {
        format!("TOPIC({})", self.log.name())
    }

    /// The errand that writes the journal, for channels to ask for.
    pub(super) fn keep_errand(&self) -> Arc<Errand> {
        Arc::clone(&self.errands.keep)
    }

    /// Notes that the journal has lost records on disk.
    pub(super) fn mark_incomplete(&self) {
        lock(&self.told).incomplete = true;
    }

    /// Has the journal written soon.
    pub(super) fn keep_soon(&self) {
        ask_to_keep(&self.services, &self.errands.keep);
    }

    pub(super) fn tidy_after(&self, delay: Duration) {
        self.services.tidier.ask(&self.errands.tidy, delay);
    }

    /// Notes `count` messages that were appended: they are flushed when the options say so.
    pub(super) fn appended(&self, count: u64) {
        let options = &self.services.options;
        if self.log.name().is_ephemeral() {
            return;
        }
        let before = self.unsynced.fetch_add(count, Ordering::AcqRel);
        let enough = |unsynced| options.sync_every > 0 && unsynced >= options.sync_every;
        if options.waits_for_sync() || (enough(before + count) && !enough(before)) {
            self.services.syncer.ask(&self.errands.flush, Duration::ZERO);
        } else if before == 0 {
            self.flush_in_time();
        }
        if self.log.waypoint_due() {
            self.keep_soon();
        }
    }

    fn flush_in_time(&self) {
        self.services.syncer.ask(&self.errands.flush, self.services.options.sync_timeout);
    }

    /// Writes the records that `collect` gathers. Calls take turns, so records reach the journal in the
    /// order in which they were collected. While an earlier record could not be written, nothing is collected.
    ///
    /// # Errors
    /// When the journal cannot be written. What was collected is kept and written first the next time.
    pub(super) fn record(
        &self,
        collect: impl FnOnce(&mut Told) -> Vec<Record>,
    ) -> Result<(), nsq_log::Error> {
        let mut told = lock(&self.told);
        if self.log.journal_behind() {
            self.log.write_journal().inspect_err(|error| self.journal_failed(error))?;
            told.unwritten.clear();
        }
        let records = collect(&mut told);
        if records.is_empty() {
            return Ok(());
        }
        let records: Vec<JournalRecord<'_>> = records.iter().map(Record::as_journal).collect();
        let now = self.services.clock.now();
        let written = self.log.journal(&records, now.0);
        if written.is_ok() {
            told.unwritten.clear();
            self.flush_in_time();
        }
        written.inspect_err(|error| self.journal_failed(error))
    }

    /// Returns true if the creation of a channel has not reached the journal.
    pub(super) fn is_unwritten(&self, channel: &ChannelName) -> bool {
        lock(&self.told).unwritten.contains(channel)
    }

    /// Has the journal retried if recovery could not write it.
    pub(super) fn resume(&self) {
        if self.log.journal_behind()
            && let Err(error) = self.log.retry_journal()
        {
            self.journal_failed(&error);
        }
    }

    fn journal_failed(&self, error: &nsq_log::Error) {
        if !matches!(error, nsq_log::Error::Deleted(_) | nsq_log::Error::Closed) {
            self.mark_failed("journal not written", error);
        }
    }

    /// Flushes the log and the journal, and wakes the publishers that wait for it.
    pub(super) fn flush(&self) {
        let appended = self.unsynced.swap(0, Ordering::AcqRel);
        match self.sync() {
            Ok(end) => {
                self.note_synced(end);
                if appended > 0 && self.services.options.waits_for_sync() {
                    // The next publish may come at once; a file that had to be opened for each would be dear.
                    self.flush_in_time();
                } else if self.log.end() == end {
                    // Level `memory` keeps batches that cannot be written now, and the next append reports it.
                    let _ = self.log.rest();
                }
            }
            Err(error) => {
                // A topic that is gone has nothing left to retry.
                if !is_gone(&error) {
                    self.mark_failed("flush failed", &error);
                }
                // Everything appended by now may be lost, unless it was flushed before or it was the journal that failed.
                let failure = FailedFlush { end: self.log.end(), error: error.to_string().into() };
                self.synced.send_modify(|synced| {
                    synced.end = synced.end.max(self.log.synced());
                    synced.failure = Some(failure);
                });
            }
        }
    }

    /// Flushes log and journal, and notes how long that took.
    fn sync(&self) -> Result<u64, SyncError> {
        let (clock, meters) = (&self.services.clock, &self.services.meters);
        let began = clock.now();
        let synced = self.log.sync();
        match &synced {
            Ok(_) => meters.flushes.observe(clock.now().since(began)),
            Err(error) if is_gone(error) => {}
            Err(_) => meters.failed_flushes.add(1),
        }
        synced
    }

    fn note_synced(&self, end: u64) {
        self.synced.send_modify(|synced| {
            synced.end = synced.end.max(end);
            synced.failure = None;
        });
    }

    /// Waits until everything below `end` is flushed. Nothing of an ephemeral topic ever is.
    ///
    /// # Errors
    /// When it could not be flushed: it may or may not be on the disk.
    pub(super) async fn synced(&self, end: u64) -> Result<(), Arc<str>> {
        if self.log.name().is_ephemeral() {
            return Ok(());
        }
        let mut synced = self.synced.subscribe();
        let known = |synced: &Synced| synced.outcome(end).is_some();
        let outcome = synced.wait_for(known).await.map(|synced| synced.outcome(end));
        match outcome {
            Ok(Some(Err(error))) => Err(error),
            // A batch is lost as a whole, so its last message tells.
            Ok(_) if self.log.survived(end.saturating_sub(1)..end) => Ok(()),
            Ok(_) => Err("lost in a failed flush".into()),
            Err(_) => Err("topic is gone".into()),
        }
    }

    /// Notes a failure and has all failed work retried in the background.
    pub(super) fn mark_failed(&self, what: &str, error: &dyn Display) {
        let mut trouble = lock(&self.trouble);
        if trouble.gone {
            return;
        }
        let owner = self.owner();
        self.services.health.failed(&owner, error);
        trouble.failures += 1;
        if !std::mem::replace(&mut trouble.retrying, true) {
            self.services.logger.error(format_args!("{owner}: {what}, retrying - {error}"));
            self.services.tidier.ask(&self.errands.mend, FIRST_RETRY);
        }
    }

    /// Retries failed work. `release` runs first: it may free the space that was lacking. `catch_up` runs last: it
    /// records the changes since the failure.
    pub(super) fn mend(
        &self,
        release: impl FnOnce(),
        catch_up: impl FnOnce() -> Result<(), nsq_log::Error>,
    ) {
        let failures = lock(&self.trouble).failures;
        let mended = self.try_to_mend(release, catch_up);
        let mut trouble = lock(&self.trouble);
        if trouble.gone {
            return;
        }
        let owner = self.owner();
        match mended {
            Ok(()) if trouble.failures == failures => {
                trouble.retrying = false;
                self.services.health.recovered(&owner);
                self.services.logger.info(format_args!("{owner}: writing works again"));
                return;
            }
            // Something else has failed since.
            Ok(()) => {}
            Err(error) => self.services.health.failed(&owner, &error),
        }
        self.services.tidier.ask(&self.errands.mend, RETRY);
    }

    fn try_to_mend(
        &self,
        release: impl FnOnce(),
        catch_up: impl FnOnce() -> Result<(), nsq_log::Error>,
    ) -> Result<(), MendError> {
        release();
        let roomy = self.log.recover_space()?;
        let reopened = self.log.reopen()?;
        for notice in &reopened.notices {
            self.services.logger.warn(format_args!("{notice}"));
            if notice.is_loss() {
                self.services.health.lost(&self.owner(), notice);
            }
        }
        self.log.retry_journal()?;
        {
            let mut told = lock(&self.told);
            // Of what was recorded since.
            self.log.write_journal()?;
            told.unwritten.clear();
        }
        catch_up()?;
        let end = self.sync()?;
        self.note_synced(end);
        if roomy { Ok(()) } else { Err(MendError::Full) }
    }

    /// Drops failures and losses, also those still to come: the topic is gone.
    pub(super) fn forget(&self) {
        let mut trouble = lock(&self.trouble);
        trouble.gone = true;
        self.services.health.forget(&self.owner());
    }
}

/// Returns whether a flush failed only because the topic has been deleted or closed.
fn is_gone(error: &SyncError) -> bool {
    matches!(error, SyncError::Append(AppendError::Deleted(_) | AppendError::Closed))
}

/// Has a journal written soon.
pub(super) fn ask_to_keep(services: &Services, keep: &Arc<Errand>) {
    services.keeper.ask(keep, GATHER);
}
