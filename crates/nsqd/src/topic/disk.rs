//! What of a topic reaches the disk besides its messages: flushes, journals, and trying again what failed.

use std::{
    fmt::Display,
    sync::{Arc, atomic::Ordering},
};

use nsq_log::{ChannelDelta, JournalRecord, Retired, SyncError};
use nsq_protocol::ChannelName;

use super::{State, Synced, Topic, low};
use crate::{lock::lock, topic::channel::Channel, topic::journal};

/// Why a topic still cannot write.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MendError {
    /// Its files cannot be opened, checked or written.
    #[error(transparent)]
    Log(#[from] nsq_log::Error),
    /// They cannot be flushed.
    #[error("flush - {0}")]
    Flush(#[from] SyncError),
}

impl Topic {
    /// Flushes the log to the disk and tells those who wait for it.
    pub(crate) fn sync(&self) {
        self.unsynced.store(0, Ordering::Release);
        match self.log.sync() {
            Ok(end) => {
                self.synced.send_modify(|synced| *synced = Ok(end));
                if self.log.end() == end {
                    // What cannot be written now is kept, and fails again where somebody hears of it.
                    let _ = self.log.rest();
                }
            }
            Err(error) => {
                self.ail("flush failed", &error);
                self.synced.send_modify(|synced| *synced = Err(error.to_string().into()));
            }
        }
    }

    /// Waits until everything below `end` is on the disk. Nothing of an ephemeral topic ever is.
    ///
    /// # Errors
    /// When it could not be flushed: nobody knows what of it is on the disk.
    pub(crate) async fn synced(&self, end: u64) -> Result<(), Arc<str>> {
        if self.name.is_ephemeral() {
            return Ok(());
        }
        let mut synced = self.synced.subscribe();
        let reached = |synced: &Synced| synced.as_ref().map_or(true, |synced| *synced >= end);
        match synced.wait_for(reached).await.as_deref() {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.clone()),
            Err(_) => Err("topic is gone".into()),
        }
    }

    /// Writes what changed since the last time and frees the segments nobody needs.
    pub(crate) fn keep(&self) {
        self.dirty.store(false, Ordering::Release);
        let mut state = lock(&self.state);
        if !self.is_ailing() {
            // Nothing is lost by a failure: the mender writes everything.
            let written = self.write_changes(&mut state);
            if written.is_ok() {
                self.shorten_recovery();
            }
        }
        // In any case: what is finished is not needed, and its space may be what the disk lacks.
        let low = low(&state);
        self.log.release(low);
        let now = self.services.clock.now().0.cast_signed();
        // What cannot be had now is tried again with the next message that is finished.
        if self.log.retire(low, now).is_ok_and(|retired| retired == Retired::Yes) {
            self.log.release(low);
        }
    }

    /// Compacts the journal and records a waypoint when they are due.
    fn shorten_recovery(&self) {
        if self.log.needs_compaction() {
            match self.log.compact() {
                Ok(None) => {}
                Ok(Some(notice)) => self.services.logger.warn(format_args!("{notice}")),
                Err(error) => self.ail("journal not compacted", &error),
            }
        }
        if self.log.waypoint_due()
            && let Err(error) = self.log.waypoint()
        {
            self.ail("journal not written", &error);
        }
    }

    /// Writes at once what changed in a channel, where a client may rely on it from now on.
    pub(crate) fn keep_channel(&self, channel: &Arc<Channel>) {
        if channel.name.is_ephemeral() || self.is_ailing() {
            return;
        }
        let mut state = lock(&self.state);
        let deltas = journal::changes(std::iter::once(channel));
        // Nothing is lost by a failure: the mender writes everything.
        let _ = self.write_deltas(&mut state, &deltas);
    }

    /// Writes down what a channel's pause or emptying changed, at once.
    pub(crate) fn persist(&self) -> Result<(), nsq_log::Error> {
        self.write_snapshot(&mut lock(&self.state))
    }

    /// Whether something waits for the mender.
    pub(crate) fn is_ailing(&self) -> bool {
        self.ailing.load(Ordering::Acquire)
    }

    /// Tries again what the disk did not take.
    ///
    /// # Errors
    /// When it still does not; nothing is lost by that.
    pub(crate) fn mend(&self) -> Result<(), MendError> {
        for notice in self.log.reopen()?.notices {
            self.services.logger.warn(format_args!("{notice}"));
        }
        let mut state = lock(&self.state);
        self.log.release(low(&state));
        self.log.retry_journal()?;
        self.write_snapshot(&mut state)?;
        drop(state);
        let end = self.log.sync()?;
        self.synced.send_modify(|synced| *synced = Ok(end));
        self.ailing.store(false, Ordering::Release);
        self.services.logger.info(format_args!("TOPIC({}): writing works again", self.name));
        Ok(())
    }

    /// Leaves the topic to the mender, after the disk did not take something.
    pub(super) fn ail(&self, what: &str, error: &dyn Display) {
        if self.is_exiting() {
            return;
        }
        self.services.health.failed(error);
        if !self.ailing.swap(true, Ordering::AcqRel) {
            self.services.logger.error(format_args!("TOPIC({}): {what} - {error}", self.name));
            self.services.mender.wake();
        }
    }

    pub(super) fn write_changes(&self, state: &mut State) -> Result<(), nsq_log::Error> {
        let deltas = journal::changes(state.channels.values());
        self.write_deltas(state, &deltas)
    }

    fn write_deltas(
        &self,
        state: &mut State,
        deltas: &[(ChannelName, ChannelDelta)],
    ) -> Result<(), nsq_log::Error> {
        let delta = |(channel, delta)| JournalRecord::ChannelDelta { channel, delta };
        let mut records: Vec<_> =
            deltas.iter().map(|(channel, changes)| delta((channel, changes))).collect();
        // Without durable channels nobody else tells how far the topic has got.
        let durable = state.channels.keys().any(|name| !name.is_ephemeral());
        let fan = (!durable && state.fan.fanout() != state.fanout_told).then(|| state.fan.state());
        if let Some(fan) = &fan {
            records.push(JournalRecord::Topic {
                fanout: fan.fanout,
                paused: state.paused,
                deferred: &fan.deferred,
            });
        }
        if records.is_empty() {
            return Ok(());
        }
        let written = self.log.journal(&records, self.services.clock.now().0);
        if written.is_ok()
            && let Some(fan) = &fan
        {
            state.fanout_told = fan.fanout;
        }
        self.note(written)
    }

    pub(super) fn write_snapshot(&self, state: &mut State) -> Result<(), nsq_log::Error> {
        let snapshot = journal::snapshot(&state.fan, state.paused, state.channels.values());
        let topic = JournalRecord::Topic {
            fanout: snapshot.fanout,
            paused: snapshot.paused,
            deferred: &snapshot.deferred,
        };
        let channels = snapshot.channels.iter();
        let channels =
            channels.map(|(channel, state)| JournalRecord::ChannelSnapshot { channel, state });
        let records: Vec<_> = std::iter::once(topic).chain(channels).collect();
        let written = self.log.journal(&records, self.services.clock.now().0);
        if written.is_ok() {
            state.unwritten.clear();
            state.fanout_told = snapshot.fanout;
        }
        self.note(written)
    }

    pub(super) fn note(&self, written: Result<(), nsq_log::Error>) -> Result<(), nsq_log::Error> {
        written.inspect_err(|error| self.ail("journal not written", error))
    }
}
