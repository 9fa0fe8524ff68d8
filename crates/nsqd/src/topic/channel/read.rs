//! Reading a channel's messages: from memory, or back from disk ahead of the consumer.

use std::{fmt::Display, sync::Arc, time::Duration};

use nsq_broker::{ClientId, Offer, Time};
use nsq_log::{Chunk, Notice, Read, Slice};

use super::{Channel, Inner};
use crate::lock::lock;

/// The pause before a failed load is retried.
const COLD_RETRY: Duration = Duration::from_secs(1);
/// The number of failed loads in a row after which a segment is given up.
const COLD_TRIES: u32 = 3;

impl Channel {
    /// Reads the beginning of an offer into the channel's slices.
    pub(super) fn read(
        self: &Arc<Self>,
        inner: &mut Inner,
        offer: &Offer,
        bytes_max: usize,
    ) -> Read {
        let read = self.log.read(offer.range.clone(), bytes_max, &mut inner.slices);
        if !matches!(read, Read::Cold) {
            if !offer.was_put_aside() {
                // The channel has caught up with the memory tail.
                inner.cold.release();
            }
            return read;
        }
        let read = inner.cold.read(offer, bytes_max, &mut inner.slices);
        let (tail_start, sparing) = (self.log.tail_start(), self.log.reads_are_exhausted());
        if let Some((first, bytes)) = inner.cold.wanted(offer, tail_start, sparing) {
            self.load(first, bytes, offer.was_put_aside());
        }
        read
    }

    /// Notes how long the first message of a hand-out has waited since it was published. One that comes again, or was to
    /// come later, has had other reasons to wait.
    pub(super) fn observe_wait(&self, offer: &Offer, slices: &[Slice]) {
        if offer.attempts > 1 || offer.was_put_aside() {
            return;
        }
        if let Some(published_ns) = slices.first().and_then(Slice::timestamp_ns) {
            let waited = self.services.clock.since_wall(published_ns);
            self.services.meters.waits.observe(waited);
        }
    }

    /// Reads ahead on a thread that may block, then wakes those who wait for it.
    fn load(self: &Arc<Self>, first: u64, bytes: usize, put_aside: bool) {
        let (channel, log) = (Arc::clone(self), Arc::clone(&self.log));
        tokio::spawn(async move {
            let loaded = tokio::task::spawn_blocking(move || log.load(first, bytes)).await;
            match loaded {
                Ok(Ok(chunk)) => channel.loaded(chunk, put_aside),
                Ok(Err(error)) => channel.not_loaded(first, &error, error.is_temporary()).await,
                Err(panic) => channel.not_loaded(first, &panic, false).await,
            }
            channel.wake_stalled();
        });
    }

    fn loaded(&self, chunk: Chunk, put_aside: bool) {
        chunk.notices().iter().for_each(|notice| self.report_loss(notice));
        let mut inner = lock(&self.inner);
        let wanted = !inner.clients.is_empty();
        inner.cold.loaded(wanted.then_some(chunk), put_aside);
    }

    /// Has the load retried in a moment. After some tries the segment is given up, so that the messages behind it are
    /// delivered; never for a shortage, which says nothing about the segment.
    async fn not_loaded(&self, first: u64, error: &(dyn Display + Sync), is_temporary: bool) {
        if self.is_exiting() {
            return;
        }
        let (topic, name) = (self.log.name(), &self.name);
        self.services.logger.error(format_args!("CHANNEL({topic}:{name}): reading back - {error}"));
        tokio::time::sleep(COLD_RETRY).await;
        let failures = lock(&self.inner).cold.failed(is_temporary);
        if failures >= COLD_TRIES
            && let Some(notice) = self.log.quarantine(first)
        {
            self.report_loss(&notice);
        }
    }

    fn report_loss(&self, notice: &Notice) {
        if self.is_exiting() {
            // Its topic may have been deleted, and the files with it.
            return;
        }
        self.services.logger.error(format_args!("{notice}"));
        self.services.health.lost(&format!("TOPIC({})", self.log.name()), notice);
    }

    fn wake_stalled(&self) {
        let mut inner = lock(&self.inner);
        while let Some(id) = inner.stalled.pop() {
            if let Some(client) = inner.clients.get(&id) {
                client.wake();
            }
        }
    }

    /// Finishes messages whose bytes are gone, or the channel would never get past them.
    pub(super) fn drop_lost(
        &self,
        inner: &mut Inner,
        id: ClientId,
        offer: &Offer,
        count: u64,
        now: Time,
    ) {
        let first = offer.range.start;
        inner.tally.lose(count, &self.services.meters);
        inner.schedule.take(id, offer, count, now);
        inner.schedule.finish(id, first..first + count, &mut Vec::new());
        let (topic, name, logger) = (self.log.name(), &self.name, &self.services.logger);
        if name.is_ephemeral() {
            // Nothing is kept on disk for an ephemeral channel that is behind.
            logger.info(format_args!("CHANNEL({topic}:{name}): dropped {count} old messages"));
        } else {
            logger.error(format_args!(
                "CHANNEL({topic}:{name}): {count} messages from sequence {first} are lost"
            ));
        }
    }
}
