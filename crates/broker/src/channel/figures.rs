//! The figures of a channel.

use super::Channel;
use crate::{ClientId, ClientStats, Distance};

/// The counters of a channel, since it was created or recovered.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Counters {
    /// Messages put in flight; each redelivery counts.
    pub deliveries: u64,
    /// Messages finished by a client.
    pub finishes: u64,
    /// Messages requeued by a client.
    pub requeues: u64,
    /// Messages that timed out in flight.
    pub timeouts: u64,
}

impl Channel {
    /// Returns whether deliveries are stopped.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// One past the last message the channel was given.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The lowest message that is not finished; the end when there is none.
    pub fn low(&self) -> u64 {
        let firsts = [self.pending.first(), self.in_flight.first(), self.aside.first()];
        firsts.into_iter().flatten().min().unwrap_or(self.end)
    }

    /// The number of messages that are ready to be delivered.
    pub fn depth(&self) -> u64 {
        self.pending.count() + self.aside.ready()
    }

    /// The number of ready messages below `seq`. Meant for statistics: it takes a step for some dozens of
    /// messages that were put aside, each with its own history.
    pub fn ready_below(&self, seq: u64) -> u64 {
        if seq >= self.end {
            return self.depth();
        }
        self.pending.below(seq) + self.aside.ready_below(seq)
    }

    /// The number of messages in flight.
    pub fn in_flight_count(&self) -> u64 {
        self.in_flight.count()
    }

    /// The number of messages deferred, by their publisher or by a requeue.
    pub fn deferred_count(&self) -> u64 {
        self.aside.deferred()
    }

    /// The number of messages the topic gave to the channel.
    pub fn message_count(&self) -> u64 {
        self.message_count
    }

    /// The number of messages that clients requeued.
    pub fn requeue_count(&self) -> u64 {
        self.counters.requeues
    }

    /// The number of messages that timed out in flight.
    pub fn timeout_count(&self) -> u64 {
        self.counters.timeouts
    }

    /// The counters so far.
    pub fn counters(&self) -> Counters {
        Counters { deliveries: self.deliveries.iter().sum(), ..self.counters }
    }

    /// The lowest message that is ready or in flight. Deferred ones wait because they are meant to. Meant for statistics,
    /// as [`Channel::ready_below`].
    pub fn oldest(&self) -> Option<u64> {
        let firsts = [self.pending.first(), self.in_flight.first(), self.aside.first_ready()];
        firsts.into_iter().flatten().min()
    }

    /// The number of deliveries to clients at a distance.
    pub fn delivery_count(&self, distance: Distance) -> u64 {
        self.deliveries[distance.index()]
    }

    /// The number of clients.
    pub fn client_count(&self) -> usize {
        self.clients.len()
    }

    /// The counters of a client.
    pub fn client(&self, id: ClientId) -> Option<&ClientStats> {
        self.clients.get(id).map(|client| &client.stats)
    }
}
