//! Hand-out and FIN, where the time from publishing to finishing is measured.
//!
//! A FIN is a sequence number, and the message is not looked at again. So the time of publishing goes with the messages
//! in flight as their stamp, one for each batch.

use std::{ops::Range, sync::Arc};

use nsq_broker::{ClientId, Offer, Refusal, Stamp, Time};
use nsq_log::Slice;

use super::{Channel, Inner};
use crate::{
    latency::{Latencies, LatencyReport},
    lock::lock,
};

impl Channel {
    /// Finishes runs of messages; what is refused is added to `refused`.
    pub(crate) fn finish(
        self: &Arc<Self>,
        id: ClientId,
        runs: impl Iterator<Item = Range<u64>>,
        refused: &mut Vec<(u64, Refusal)>,
    ) {
        let mut guard = lock(&self.inner);
        let Inner { schedule, latency, .. } = &mut *guard;
        match latency {
            None => {
                for run in runs {
                    schedule.finish(id, run, refused);
                }
            }
            Some(window) => {
                let clock = &self.services.clock;
                let (newest, wall_ns) = (window.newest(clock.now()), clock.wall_ns());
                for run in runs {
                    schedule.finish_stamped(id, run, refused, |count, Stamp(published_ns)| {
                        newest.add(wall_ns.saturating_sub(published_ns), count);
                    });
                }
            }
        }
        self.settle(&mut guard);
    }

    /// The latencies that `/stats` shows.
    pub(crate) fn latency(&self) -> LatencyReport {
        self.services.latency_report(self.latencies().as_ref())
    }

    /// The latencies of the last window; `None` when they are not measured.
    pub(in crate::topic) fn latencies(&self) -> Option<Latencies> {
        let now = self.services.clock.now();
        Some(lock(&self.inner).latency.as_mut()?.all(now))
    }
}

impl Inner {
    /// Puts messages in flight that have been read into `slices`; with their stamps if latencies are measured.
    pub(super) fn take(&mut self, id: ClientId, offer: &Offer, count: u64, now: Time) {
        if self.latency.is_none() {
            self.schedule.take(id, offer, count, now);
            return;
        }
        let runs = self.slices.iter().flat_map(Slice::timestamps);
        let stamped = runs.map(|(count, published_ns)| (count, Stamp(published_ns)));
        self.schedule.take_stamped(id, offer, stamped, now);
    }
}
