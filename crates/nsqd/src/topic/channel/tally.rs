//! A channel's share of the node's counters.

use nsq_broker::Counters;

use crate::meters::Meters;

/// The counts that a channel has added to the node's counters.
#[derive(Debug, Default)]
pub(super) struct Tally {
    added: Counters,
    /// Messages that could not be read back. The schedule counts them as delivered and finished.
    lost: u64,
}

impl Tally {
    /// Notes messages that could not be read back.
    pub(super) fn lose(&mut self, count: u64, meters: &Meters) {
        self.lost += count;
        meters.lost.add(count);
    }

    /// The counters of a schedule without the messages that were lost.
    pub(super) fn of(&self, counters: Counters) -> Counters {
        Counters {
            deliveries: counters.deliveries - self.lost,
            finishes: counters.finishes - self.lost,
            ..counters
        }
    }

    /// Adds what has happened since the last call to the node's counters.
    pub(super) fn add(&mut self, counters: Counters, meters: &Meters) {
        let counters = self.of(counters);
        let before = std::mem::replace(&mut self.added, counters);
        meters.delivered.add(counters.deliveries - before.deliveries);
        meters.finished.add(counters.finishes - before.finishes);
        meters.requeued.add(counters.requeues - before.requeues);
        meters.timed_out.add(counters.timeouts - before.timeouts);
    }
}
