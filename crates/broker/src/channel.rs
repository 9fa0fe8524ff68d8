//! A channel: a position in the topic's log, and the messages it has not finished with.
//!
//! # Invariants
//!
//! 1. Each message the channel was given is in exactly one place: never delivered, ready for
//!    redelivery, deferred, in flight to one client, or finished.
//! 2. A refused FIN, REQ or TOUCH changes nothing.
//! 3. A client is given a message only while fewer are in flight to it than its ready count.
//! 4. While something could be delivered, each client that could take it and is asleep either has
//!    been called, or everything is reserved for clients that have been called.
//! 5. Memory follows from the messages not finished, never from those that passed.

mod deliver;
mod recover;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::time::Duration;

use crate::changes::Unreported;
use crate::hand_out::Clients;
use crate::outstanding::{Entry, Outstanding, State};
use crate::ready::{Ready, Run};
use crate::{FanOut, Refusal, Time};

pub use deliver::Offer;

/// A connection that consumes a channel. An id is never used for a second connection.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug, Ord, PartialOrd)]
pub struct ClientId(pub u64);

/// The settings of a channel.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct ChannelConfig {
    /// How many messages may be ready, beyond what waiting clients would take at once; what is
    /// published then is dropped. `None` is without bound.
    pub depth_max: Option<u64>,
    /// How long after its delivery a message can be kept in flight by TOUCH.
    pub max_msg_timeout: Duration,
    /// What the draws for sampled clients follow from.
    pub seed: u64,
}

/// What a client asked for when it identified itself.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct ClientConfig {
    /// How long a message may be in flight before it is delivered again.
    pub msg_timeout: Duration,
    /// 0 delivers all messages, else `sample_rate + 1` of 100; the others count as finished.
    pub sample_rate: u8,
}

/// The counters of a client.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct ClientStats {
    /// Its RDY: how many messages may be in flight to it.
    pub ready: u64,
    /// How many messages are in flight to it.
    pub in_flight: u64,
    /// How many deliveries it was given.
    pub message_count: u64,
    /// How many messages it finished.
    pub finish_count: u64,
    /// How many messages it requeued.
    pub requeue_count: u64,
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
    ready: Ready,
    outstanding: Outstanding,
    clients: Clients,
    unreported: Unreported,
    message_count: u64,
    requeue_count: u64,
    timeout_count: u64,
}

impl Channel {
    /// A channel whose first message will be `start`.
    pub fn new(config: ChannelConfig, start: u64) -> Channel {
        Channel {
            config,
            end: start,
            paused: false,
            ready: Ready::new(),
            outstanding: Outstanding::default(),
            clients: Clients::default(),
            unreported: Unreported { told: (start, start), ..Unreported::default() },
            message_count: 0,
            requeue_count: 0,
            timeout_count: 0,
        }
    }

    /// Takes messages over from the topic. What the channel was given before is ignored; if
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
            let state = State::Deferred { due: now + *delay };
            let Range { start: from, end: to } = range;
            self.outstanding.insert_joining(Entry { from, to, attempts: 0, changed: true, state });
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

    /// Changes the settings of a client for deliveries and touches to come.
    pub fn configure_client(&mut self, id: ClientId, config: ClientConfig) {
        if self.clients.contains(id) {
            self.clients.configure(id, config);
        }
    }

    /// Removes a client and returns its counters. What is in flight to it waits for its timeout,
    /// or is ready at once when `requeue` is set, which counts as requeued.
    pub fn remove_client(&mut self, id: ClientId, requeue: bool) -> Option<ClientStats> {
        let stats = self.clients.remove(id)?;
        if requeue && stats.in_flight > 0 {
            for entry in self.outstanding.take_client(id) {
                self.requeue_count += entry.len();
                self.make_ready(&entry, entry.changed);
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
        let mut count = 0;
        let mut next = range.start;
        while next < range.end {
            match self.check(id).and_then(|()| self.outstanding.finish(id, next..range.end)) {
                Ok(end) => {
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
    ///
    /// The message is not in flight, or to another client; nothing has changed.
    pub fn requeue(
        &mut self,
        id: ClientId,
        seq: u64,
        delay: Duration,
        now: Time,
    ) -> Result<(), Refusal> {
        self.check(id)?;
        let entry = self.outstanding.take_one(id, seq)?;
        if delay.is_zero() {
            self.make_ready(&entry, entry.changed);
        } else {
            let state = State::Deferred { due: now + delay };
            self.outstanding.insert_joining(Entry { changed: true, state, ..entry });
        }
        self.requeue_count += 1;
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
    ///
    /// The message is not in flight, or to another client; nothing has changed.
    pub fn touch(&mut self, id: ClientId, seq: u64, now: Time) -> Result<(), Refusal> {
        self.check(id)?;
        let mut delivery = self.outstanding.delivery(id, seq)?;
        let timeout = self.clients.get(id).map_or(Duration::ZERO, |it| it.config.msg_timeout);
        let latest = delivery.delivered_at + self.config.max_msg_timeout;
        let deadline = (now + timeout).min(latest);
        if deadline != delivery.deadline {
            delivery.deadline = deadline;
            let entry = self.outstanding.take_one(id, seq)?;
            self.outstanding.insert_joining(Entry { state: State::InFlight(delivery), ..entry });
        }
        Ok(())
    }

    /// Makes ready what was in flight for too long and what was deferred until `now`.
    pub fn expire(&mut self, now: Time) {
        let mut any = false;
        while let Some(entry) = self.outstanding.take_due(now) {
            any = true;
            match entry.state {
                State::InFlight(delivery) => {
                    self.timeout_count += entry.len();
                    self.clients.update(delivery.client, |stats| {
                        stats.in_flight = stats.in_flight.saturating_sub(entry.len())
                    });
                    self.make_ready(&entry, entry.changed);
                }
                State::Deferred { .. } | State::Ready => self.make_ready(&entry, true),
            }
        }
        if any {
            self.wake();
        }
    }

    /// When [`Channel::expire`] has something to do next.
    pub fn next_deadline(&self) -> Option<Time> {
        self.outstanding.next_timer()
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

    /// Whether deliveries are stopped.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Drops what is ready, in flight and deferred. Clients stay, with nothing in flight.
    pub fn empty(&mut self) {
        self.unreported.finished.insert(self.low()..self.end);
        self.unreported.reset = true;
        self.ready.clear();
        self.outstanding = Outstanding::default();
        self.clients.forget_in_flight();
    }

    /// Every message below this one is finished with.
    pub fn low(&self) -> u64 {
        let pending = self.ready.first_pending().unwrap_or(self.end);
        self.outstanding.first().map_or(pending, |first| first.min(pending))
    }

    /// How many messages are ready to be delivered.
    pub fn depth(&self) -> u64 {
        self.ready.count()
    }

    /// How many of the ready messages have a sequence number below `seq`. Costs a step for each
    /// run of messages that is ready, normally one; it is meant for statistics.
    pub fn ready_below(&self, seq: u64) -> u64 {
        if seq >= self.end { self.depth() } else { self.ready.below(seq) }
    }

    /// How many messages are in flight.
    pub fn in_flight_count(&self) -> u64 {
        self.outstanding.in_flight()
    }

    /// How many messages are deferred, by their publisher or by a requeue.
    pub fn deferred_count(&self) -> u64 {
        self.outstanding.deferred()
    }

    /// How many messages the channel was given by its topic.
    pub fn message_count(&self) -> u64 {
        self.message_count
    }

    /// How many messages clients requeued.
    pub fn requeue_count(&self) -> u64 {
        self.requeue_count
    }

    /// How many messages were in flight for too long.
    pub fn timeout_count(&self) -> u64 {
        self.timeout_count
    }

    /// How many clients the channel has.
    pub fn client_count(&self) -> usize {
        self.clients.len()
    }

    /// The counters of a client.
    pub fn client(&self, id: ClientId) -> Option<&ClientStats> {
        self.clients.get(id).map(|client| &client.stats)
    }

    /// One past the last message the channel was given.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Refuses commands of a client that is not there.
    fn check(&self, id: ClientId) -> Result<(), Refusal> {
        if self.clients.contains(id) { Ok(()) } else { Err(Refusal::NotOwner) }
    }

    /// What may be delivered.
    fn available(&self) -> u64 {
        if self.paused { 0 } else { self.ready.count() }
    }

    /// Wakes clients for what is ready and not reserved.
    fn wake(&mut self) {
        self.clients.wake(self.available());
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
        self.ready.push_pending(range.start..end);
    }

    /// How many of the messages in `range` can become ready in a channel that is bounded. What
    /// waiting clients are about to take does not count: it is not waiting for anybody.
    fn room(&self, depth_max: u64, range: &Range<u64>) -> u64 {
        let room = depth_max.saturating_sub(self.ready.count());
        if self.paused || room >= range.end.saturating_sub(range.start) {
            return room;
        }
        let bound = depth_max.saturating_add(self.clients.spare_of_waiting());
        bound.saturating_sub(self.ready.count())
    }

    /// Lets messages be delivered again; `changed` says whether the journal must learn of it.
    fn make_ready(&mut self, entry: &Entry, changed: bool) {
        let &Entry { from, to, attempts, .. } = entry;
        match self.ready.push_requeued(Run { range: from..to, attempts }) {
            Some(start) => self.outstanding.extend_ready(start, to, changed),
            None => {
                let state = State::Ready;
                self.outstanding.insert(Entry { from, to, attempts, changed, state });
            }
        }
    }
}
