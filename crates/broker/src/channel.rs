//! A channel: a position in the topic's log, and the messages it has not finished.
//!
//! # Invariants
//!
//! 1. Each message the channel was given is in exactly one place: never delivered, ready for
//!    redelivery, deferred, in flight to one client, or finished.
//! 2. A refused FIN, REQ or TOUCH changes nothing.
//! 3. A client is given a message only while fewer are in flight to it than its ready count.
//! 4. While a message could be delivered, each client that could take it and is asleep either has
//!    been woken, or all of them are reserved for clients that have been woken.
//! 5. Memory follows from the messages not finished, never from those that passed.

mod deliver;
mod figures;
mod recover;
#[cfg(test)]
mod tests;

use std::{ops::Range, time::Duration};

use self::deliver::Source;
pub use self::{deliver::Offer, figures::Counters};
use crate::{
    ClientConfig, ClientId, ClientStats, Distance, FanOut, Refusal, Stamp, Time,
    aside::Aside,
    changes::Unreported,
    hand_out::Clients,
    in_flight::{Entry, InFlight},
    pending::Pending,
    run::Run,
};

/// The most entries that one call of [`Channel::expire`] makes ready. More would keep publishers and consumers
/// waiting for the channel.
const EXPIRED_ENTRIES_MAX: usize = 1_024;

/// The settings of a channel.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct ChannelConfig {
    /// The most messages that may be ready, not counting those that waiting clients would take at once; beyond it,
    /// published messages are dropped. `None` is without bound.
    pub depth_max: Option<u64>,
    /// How long after its delivery a message can be kept in flight by TOUCH.
    pub max_msg_timeout: Duration,
    /// The seed of the draws for sampled clients.
    pub seed: u64,
}

/// The scheduler of one channel.
///
/// A call that makes messages deliverable wakes clients that had found nothing ([`Channel::park`])
/// and now have messages reserved; [`Channel::drain_woken`] returns them. A client may be woken by a
/// call of its own. A woken client is expected to call [`Channel::offer`] soon.
#[derive(Debug)]
pub struct Channel {
    config: ChannelConfig,
    end: u64,
    paused: bool,
    pending: Pending,
    aside: Aside,
    in_flight: InFlight,
    /// Where the next hand-out comes from, if there is something.
    turn: Source,
    clients: Clients,
    unreported: Unreported,
    message_count: u64,
    counters: Counters,
    /// Deliveries by the distance of the client.
    deliveries: [u64; Distance::COUNT],
}

impl Channel {
    /// Creates a channel whose first message will be `start`.
    pub fn new(config: ChannelConfig, start: u64) -> Channel {
        Channel {
            config,
            end: start,
            paused: false,
            pending: Pending::default(),
            aside: Aside::default(),
            in_flight: InFlight::default(),
            turn: Source::Aside,
            clients: Clients::default(),
            unreported: Unreported { told: (start, start), ..Unreported::default() },
            message_count: 0,
            counters: Counters::default(),
            deliveries: [0; Distance::COUNT],
        }
    }

    /// Takes messages over from the topic. Those the channel was given before are ignored; if
    /// messages in front of `fan_out` are missing, they are taken as published with it.
    pub fn publish(&mut self, fan_out: &FanOut, now: Time) {
        let mut next = self.end;
        let end = fan_out.range.end.max(next);
        self.message_count += end - next;
        self.end = end;
        let delayed = fan_out.deferred.iter().filter(|(_, delay)| !delay.is_zero());
        for (range, delay) in delayed {
            let range = range.start.max(next)..range.end.min(end);
            if range.is_empty() {
                continue;
            }
            self.add_pending(next..range.start);
            next = range.end;
            let run = Run { from: range.start, to: range.end, attempts: 0, changed: true };
            self.aside.defer(run, now + *delay);
        }
        self.add_pending(next..end);
        self.wake();
    }

    /// Passes over messages below `to` that the channel was never given: the topic has dropped them.
    pub fn skip(&mut self, to: u64) {
        if self.end < to {
            self.unreported.finished.insert(self.end..to);
            self.end = to;
        }
    }

    /// Adds a client that is awake and has a ready count of zero.
    pub fn add_client(&mut self, id: ClientId, config: ClientConfig) {
        self.clients.configure(id, config);
    }

    /// Changes the settings of a client for later deliveries and touches.
    pub fn configure_client(&mut self, id: ClientId, config: ClientConfig) {
        if self.clients.contains(id) {
            self.clients.configure(id, config);
        }
    }

    /// Removes a client and returns its counters. Messages in flight to it wait for their timeout,
    /// or are ready at once when `requeue` is set, which counts as requeued.
    pub fn remove_client(&mut self, id: ClientId, requeue: bool) -> Option<ClientStats> {
        let stats = self.clients.remove(id)?;
        if requeue {
            for run in self.in_flight.take_client(id, stats.in_flight) {
                self.counters.requeues += run.len();
                self.aside.push_ready(run);
            }
        }
        self.wake();
        Some(stats)
    }

    /// Removes and returns the clients woken since the last call, in the order they were woken.
    pub fn drain_woken(&mut self) -> impl Iterator<Item = ClientId> {
        self.clients.drain_woken()
    }

    /// Sets how many messages may be in flight to a client. Lowering it recalls nothing.
    pub fn set_ready(&mut self, id: ClientId, count: u64) {
        self.clients.update(id, |stats| stats.ready = count);
        self.wake();
    }

    /// Finishes messages that are in flight to `id` and returns how many; each of the others is
    /// added to `failed`, ascending. Costs one lookup for messages that were delivered together.
    pub fn finish(
        &mut self,
        id: ClientId,
        range: Range<u64>,
        failed: &mut Vec<(u64, Refusal)>,
    ) -> u64 {
        self.finish_stamped(id, range, failed, |_, _| ())
    }

    /// As [`Channel::finish`], and calls `finished` with the number of messages and their stamp for each run of
    /// messages that were handed out together.
    pub fn finish_stamped(
        &mut self,
        id: ClientId,
        range: Range<u64>,
        failed: &mut Vec<(u64, Refusal)>,
        mut finished: impl FnMut(u64, Stamp),
    ) -> u64 {
        let mut count = 0;
        let mut next = range.start;
        while next < range.end {
            match self.check(id).and_then(|()| self.in_flight.finish(id, next..range.end)) {
                Ok((end, stamp)) => {
                    finished(end - next, stamp);
                    self.unreported.finished.insert(next..end);
                    count += end - next;
                    next = end;
                }
                Err(refusal) => {
                    failed.push((next, refusal));
                    next += 1;
                }
            }
        }
        if count > 0 {
            self.counters.finishes += count;
            self.clients.update(id, |stats| {
                stats.in_flight = stats.in_flight.saturating_sub(count);
                stats.finish_count += count;
            });
            self.wake();
        }
        count
    }

    /// Takes a message back from a client, to be delivered again after `delay`.
    ///
    /// # Errors
    /// The message is not in flight, or to another client; nothing has changed.
    pub fn requeue(
        &mut self,
        id: ClientId,
        seq: u64,
        delay: Duration,
        now: Time,
    ) -> Result<(), Refusal> {
        self.check(id)?;
        let run = self.in_flight.take_one(id, seq)?.run;
        if delay.is_zero() {
            self.aside.push_ready(run);
        } else {
            self.aside.defer(Run { changed: true, ..run }, now + delay);
        }
        self.counters.requeues += 1;
        self.clients.update(id, |stats| {
            stats.in_flight = stats.in_flight.saturating_sub(1);
            stats.requeue_count += 1;
        });
        self.wake();
        Ok(())
    }

    /// Restarts the timeout of a message, up to `max_msg_timeout` after its delivery.
    ///
    /// # Errors
    /// The message is not in flight, or to another client; nothing has changed.
    pub fn touch(&mut self, id: ClientId, seq: u64, now: Time) -> Result<(), Refusal> {
        self.check(id)?;
        let mut delivery = self.in_flight.delivery(id, seq)?;
        let timeout = self.clients.get(id).map_or(Duration::ZERO, |it| it.config.msg_timeout);
        let latest = delivery.delivered_at + self.config.max_msg_timeout;
        let deadline = (now + timeout).min(latest);
        if deadline != delivery.deadline {
            delivery.deadline = deadline;
            let Entry { run, .. } = self.in_flight.take_one(id, seq)?;
            self.in_flight.insert_joining(Entry { run, delivery });
        }
        Ok(())
    }

    /// Makes ready the messages that timed out in flight, and the deferred ones that are due.
    ///
    /// The work of one call is bounded. As long as [`Channel::next_deadline`] is not after `now`, there is more.
    pub fn expire(&mut self, now: Time) {
        let mut expired = 0;
        while expired < EXPIRED_ENTRIES_MAX && self.expire_next(now) {
            expired += 1;
        }
        if expired > 0 {
            self.wake();
        }
    }

    /// When [`Channel::expire`] has something to do next.
    pub fn next_deadline(&self) -> Option<Time> {
        let times = [self.in_flight.next_deadline(), self.aside.next_due()];
        times.into_iter().flatten().min()
    }

    /// Stops deliveries. All else goes on.
    pub fn pause(&mut self) {
        self.paused = true;
        self.clients.release_all();
    }

    /// Ends a pause.
    pub fn unpause(&mut self) {
        self.paused = false;
        self.wake();
    }

    /// Drops the messages that are ready, in flight and deferred. Clients stay, with nothing in flight.
    pub fn empty(&mut self) {
        self.unreported.finished.insert(self.low()..self.end);
        self.unreported.reset = true;
        self.pending = Pending::default();
        self.aside = Aside::default();
        self.in_flight = InFlight::default();
        self.turn = Source::Aside;
        self.clients.forget_in_flight();
    }

    /// Refuses commands of a client that is not there.
    fn check(&self, id: ClientId) -> Result<(), Refusal> {
        if self.clients.contains(id) { Ok(()) } else { Err(Refusal::NotOwner) }
    }

    /// The number of messages that may be delivered.
    fn available(&self) -> u64 {
        if self.paused { 0 } else { self.depth() }
    }

    /// Wakes clients for the messages that are ready and not reserved.
    fn wake(&mut self) {
        self.clients.wake(self.available());
    }

    /// Makes the messages ready that timed out or became due first, if any have; returns whether it did.
    fn expire_next(&mut self, now: Time) -> bool {
        let (deadline, due) = (self.in_flight.next_deadline(), self.aside.next_due());
        let deferred_first = due.is_some_and(|due| deadline.is_none_or(|deadline| due < deadline));
        if deferred_first {
            self.aside.expire_next(now)
        } else {
            self.in_flight.take_due(now).map(|entry| self.time_out(entry)).is_some()
        }
    }

    fn time_out(&mut self, entry: Entry) {
        let Entry { run, delivery } = entry;
        self.counters.timeouts += run.len();
        self.clients.update(delivery.client, |stats| {
            stats.in_flight = stats.in_flight.saturating_sub(run.len());
        });
        self.aside.push_ready(run);
    }

    /// Adds messages never delivered, as many as there is room for, and drops the others.
    fn add_pending(&mut self, range: Range<u64>) {
        let end = match self.config.depth_max {
            Some(depth_max) => {
                range.end.min(range.start.saturating_add(self.room(depth_max, &range)))
            }
            None => range.end,
        };
        self.unreported.finished.insert(end..range.end);
        self.pending.push(range.start..end);
    }

    /// How many of the messages in `range` can become ready in a channel that is bounded. Messages that waiting
    /// clients are about to take do not count: they are not going to stay.
    fn room(&self, depth_max: u64, range: &Range<u64>) -> u64 {
        let wanted = self.depth().saturating_add(range.end.saturating_sub(range.start));
        let mut bound = depth_max;
        if !self.paused && wanted > bound {
            bound = bound.saturating_add(self.clients.reserved());
            bound = bound.saturating_add(self.clients.unserved(wanted.saturating_sub(bound)));
        }
        bound.saturating_sub(self.depth())
    }
}
