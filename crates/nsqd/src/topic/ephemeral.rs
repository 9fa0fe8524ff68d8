//! The memory of ephemeral topics, whose messages are nowhere else.

use std::{
    ops::Range,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use nsq_log::BatchBuilder;

use super::{Topic, body_bytes};
use crate::{lock::lock, meters::Limit};

/// The part of the memory for all ephemeral topics that one may take is one in so many.
const TOPIC_SHARE: usize = 4;
/// Finished messages behind an unfinished one are dropped when the topic takes this much memory, or twice as much as
/// the last time.
const TRIM_BYTES_MIN: usize = 1 << 20;
/// How soon a topic that has dropped new messages looks for old ones to drop.
const TRIM_SOON: Duration = Duration::from_millis(50);

/// When to look for messages that can be dropped.
#[derive(Debug, Default)]
pub(super) struct Trim {
    /// The memory that was left the last time.
    left: AtomicUsize,
    /// New messages were dropped since then.
    urgent: AtomicBool,
}

impl Topic {
    /// Returns true if an ephemeral topic has no room for a batch.
    pub(super) fn is_full(&self, batch: &BatchBuilder) -> bool {
        self.has_too_many_waiting() || !self.has_memory_for(batch)
    }

    /// Returns true if the topic holds as many messages as it may, and none goes on to a channel.
    fn has_too_many_waiting(&self) -> bool {
        let routes = lock(&self.routes);
        let waits = routes.fan.is_paused() || routes.channels.is_empty();
        waits && routes.fan.depth() >= self.services.options.mem_queue_size
    }

    fn has_memory_for(&self, batch: &BatchBuilder) -> bool {
        if self.memory_fits(batch.bytes()) {
            return true;
        }
        if self.is_trim_due() {
            self.drop_finished();
            if self.memory_fits(batch.bytes()) {
                return true;
            }
        }
        self.services.meters.reached(Limit::EphemeralMemory);
        let (name, count, used) = (&self.name, batch.count(), self.log.ephemeral_bytes());
        let line = format_args!(
            "TOPIC({name}): {count} messages dropped, its unfinished ones take {} bytes, those of all ephemeral topics {}",
            used.topic, used.all
        );
        self.services.clients_log.warn("full ephemeral topics", line);
        self.trim.urgent.store(true, Relaxed);
        self.disk.tidy_after(TRIM_SOON);
        false
    }

    fn memory_fits(&self, bytes: usize) -> bool {
        let max = self.services.options.shares.ephemeral_bytes_limit();
        let used = self.log.ephemeral_bytes();
        let fits = |used: usize, max: usize| used.saturating_add(bytes) <= max;
        fits(used.topic, max / TOPIC_SHARE) && fits(used.all, max)
    }

    /// Accepts and counts messages that an ephemeral topic has no room for, and drops them, as NSQ does.
    pub(super) fn drop_newest(&self, batch: &mut BatchBuilder) -> u64 {
        self.count(batch.count() as u64, body_bytes(batch));
        batch.clear();
        self.log.end()
    }

    /// Frees the memory of messages that every channel has finished, also behind one that is not, if there is much.
    pub(super) fn trim(&self) {
        if self.trim.urgent.swap(false, Relaxed) || self.is_trim_due() {
            self.drop_finished();
        }
    }

    fn is_trim_due(&self) -> bool {
        let much = TRIM_BYTES_MIN.max(self.trim.left.load(Relaxed).saturating_mul(2));
        self.log.ephemeral_bytes().topic >= much
    }

    fn drop_finished(&self) {
        let (upto, unfinished) = self.unfinished();
        self.log.drop_others(&unfinished, upto);
        self.trim.left.store(self.log.ephemeral_bytes().topic, Relaxed);
    }

    /// The end of the messages that were given to channels, and those below it that a channel has not finished, sorted.
    fn unfinished(&self) -> (u64, Vec<Range<u64>>) {
        let (upto, channels) = {
            let routes = lock(&self.routes);
            (routes.fan.fanout(), routes.channels.values().cloned().collect::<Vec<_>>())
        };
        // Channels that come meanwhile begin at `upto` or behind.
        let mut unfinished: Vec<_> = channels.iter().flat_map(|it| it.unfinished()).collect();
        unfinished.sort_unstable_by_key(|range| range.start);
        (upto, unfinished)
    }
}
