//! The background work of a topic: its journal is written, its files are flushed, finished segments are deleted,
//! and failed writes are retried.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use nsq_log::Retired;

use super::{
    Topic,
    channel::Channel,
    disk::{Errands, Told},
    journal::Record,
};
use crate::{chores::queue::Errand, lock::lock};

/// The idle time after which the file of a drained topic is replaced by an empty one.
const DRAINED_REST: Duration = Duration::from_millis(600);

/// The errands of a topic; they do nothing once it is gone.
pub(super) fn errands(topic: &Weak<Topic>) -> Errands {
    Errands {
        keep: Errand::of(topic, Topic::keep),
        flush: Errand::of(topic, |topic| topic.disk.flush()),
        tidy: Errand::of(topic, Topic::tidy),
        mend: Errand::of(topic, Topic::mend),
    }
}

impl Topic {
    /// Has the journal written soon.
    pub(crate) fn keep_soon(&self) {
        self.disk.keep_soon();
    }

    /// Writes the changes since the last time.
    fn keep(&self) {
        if self.is_exiting() && self.name.is_ephemeral() {
            return;
        }
        // `mend` retries after a failure.
        let _ = self.write_changes();
        if self.log.waypoint_due() {
            // Without it a start walks a little more.
            let _ = self.log.waypoint();
        }
        self.disk.tidy_after(Duration::ZERO);
    }

    /// Writes the changes of all channels to the journal now, for a client that may rely on them from now on.
    ///
    /// # Errors
    /// When the journal cannot be written. Nothing is lost by that unless nsqd is killed before a retry succeeds.
    pub(crate) fn write_changes(&self) -> Result<(), nsq_log::Error> {
        if self.name.is_ephemeral() {
            self.lap_channels();
            return Ok(());
        }
        let mut fanout = 0;
        self.disk.record(|told| {
            let (records, upto) = self.collect(told);
            fanout = upto;
            records
        })?;
        // Every channel's journal reaches beyond them now, with their due times.
        self.log.forget_deferrals(fanout);
        Ok(())
    }

    /// As [`Topic::write_changes`], of one channel.
    pub(crate) fn write_changes_of(&self, channel: &Arc<Channel>) -> Result<(), nsq_log::Error> {
        if self.name.is_ephemeral() || channel.name.is_ephemeral() {
            return Ok(());
        }
        let name = channel.name.clone();
        self.disk.record(|_| {
            channel.journal_delta().map(|delta| Record::Changed(name, delta)).into_iter().collect()
        })
    }

    /// Writes the topic's own state to the journal, and what it has handed to its channels with it: the record of a
    /// pause says how far that was.
    pub(super) fn write_topic(&self) -> Result<(), nsq_log::Error> {
        if self.name.is_ephemeral() {
            return Ok(());
        }
        self.disk.record(|told| {
            let (mut records, _) = self.collect(told);
            records.push(self.topic_record(told));
            records
        })
    }

    pub(super) fn topic_record(&self, told: &mut Told) -> Record {
        let routes = lock(&self.routes);
        let fan = routes.fan.state();
        told.fanout = fan.fanout;
        Record::Topic { fanout: fan.fanout, paused: routes.paused, deferred: fan.deferred }
    }

    /// The changes of the durable channels, and the fan-out up to which they have been given messages.
    fn collect(&self, told: &mut Told) -> (Vec<Record>, u64) {
        let (channels, fanout) = {
            let routes = lock(&self.routes);
            (routes.channels.values().cloned().collect::<Vec<_>>(), routes.fan.fanout())
        };
        if std::mem::take(&mut told.incomplete) {
            return (self.everything(told), fanout);
        }
        let mut durable = false;
        let mut records = Vec::new();
        for channel in channels {
            // Ephemeral channels are asked too, or they would not report the next change.
            let delta = channel.journal_delta();
            if !channel.name.is_ephemeral() {
                durable = true;
                records.extend(delta.map(|delta| Record::Changed(channel.name.clone(), delta)));
            }
        }
        // Without durable channels nothing else tells how far the topic has got.
        if !durable && fanout != told.fanout {
            records.push(self.topic_record(told));
        }
        (records, fanout)
    }

    /// Drops the changes of channels that have no journal, so that they report the next ones.
    fn lap_channels(&self) {
        for channel in self.channels() {
            channel.journal_delta();
        }
    }

    /// Deletes the segments that no channel needs, and keeps journal and files short.
    fn tidy(&self) {
        let kept = self.release();
        if self.name.is_ephemeral() {
            self.trim();
            return;
        }
        match self.log.retire(kept, self.services.clock.wall_ns()) {
            Ok(Retired::Yes) => _ = self.release(),
            Ok(Retired::NotYet) => self.disk.tidy_after(DRAINED_REST),
            // An error comes back with the next append, which reports it.
            Ok(Retired::No) | Err(_) => {}
        }
        if self.log.needs_compaction() {
            self.compact();
        }
        if self.log.prepare_due() {
            // A file that cannot be created ahead is created when it is needed.
            let _ = self.log.prepare();
        }
    }

    /// Frees the memory of messages that every channel has finished, and the segments that no durable channel needs:
    /// ephemeral ones pin nothing on disk. Returns where the latter end.
    fn release(&self) -> u64 {
        let (needed, kept) = {
            let routes = lock(&self.routes);
            let needed = routes.low();
            let kept = if self.name.is_ephemeral() { needed } else { routes.durable_low() };
            (needed, kept)
        };
        self.log.release(needed);
        self.log.release_files(kept);
        kept
    }

    fn compact(&self) {
        match self.log.compact() {
            Ok(None) => {}
            Ok(Some(notice)) => {
                self.services.logger.error(format_args!("{notice}"));
                // Memory has lost nothing. Failures are retried by `mend`.
                self.disk.mark_incomplete();
                let _ = self.write_changes();
            }
            Err(error) => self.disk.mark_failed("journal not compacted", &error),
        }
    }

    /// The whole state of the topic and its durable channels.
    fn everything(&self, told: &mut Told) -> Vec<Record> {
        let mut records = vec![self.topic_record(told)];
        for channel in self.channels() {
            // Ephemeral channels are asked too, as in `collect`.
            let state = channel.journal_state();
            if !channel.name.is_ephemeral() {
                records.push(Record::Created(channel.name.clone(), state));
            }
        }
        records
    }

    fn mend(&self) {
        self.disk.mend(|| self.tidy(), || self.write_changes());
    }

    /// Writes everything down, before nsqd stops.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub(crate) fn close(&self) -> Result<(), nsq_log::Error> {
        self.write_changes()
    }
}
