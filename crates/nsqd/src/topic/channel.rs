//! A channel: the broker's schedule of it, the clients subscribed to it, and what was read ahead for them.

mod latency;
mod read;
mod tally;
mod unfinished;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use foldhash::fast::RandomState;
use nsq_broker::{ClientConfig, ClientId, Distance, FanOut, Refusal, Time};
use nsq_log::{ChannelDelta, ChannelState, Read, Slice, TopicLog};
use nsq_protocol::ChannelName;

use self::tally::Tally;
use super::{
    client::Client, cold::ColdReads, disk::ask_to_keep, journal, oldest::Oldest, services::Services,
};
use crate::{
    birth::Birth,
    chores::{deadlines::Expire, queue::Errand},
    latency::LatencyWindow,
    lock::lock,
};

/// A channel of a topic.
pub(crate) struct Channel {
    pub(crate) name: ChannelName,
    pub(crate) birth: Birth,
    log: Arc<TopicLog>,
    services: Arc<Services>,
    /// Writes the topic's journal.
    keep: Arc<Errand>,
    exiting: AtomicBool,
    pub(crate) oldest: Oldest,
    inner: Mutex<Inner>,
}

struct Inner {
    schedule: nsq_broker::Channel,
    clients: HashMap<ClientId, Arc<Client>, RandomState>,
    cold: ColdReads,
    /// Clients that wait for a cold read.
    stalled: Vec<ClientId>,
    /// The topic has been asked to write the journal.
    dirty: bool,
    /// The time at which the node's timer expires the channel: never later than its next deadline.
    armed: Option<Time>,
    /// The time from publishing to FIN; `None` when it is not asked for.
    latency: Option<Box<LatencyWindow>>,
    /// Scratch, kept to spare allocations: pieces of the log to send.
    slices: Vec<Slice>,
    tally: Tally,
}

/// The figures of a channel that `/stats` and `/metrics` show.
#[derive(Copy, Clone, Debug)]
pub(crate) struct ChannelCounts {
    pub(crate) depth: u64,
    pub(crate) backend_depth: u64,
    pub(crate) in_flight: u64,
    pub(crate) deferred: u64,
    pub(crate) messages: u64,
    /// Deliveries to clients in the same zone, in the same region, and anywhere else.
    pub(crate) zone_local: u64,
    pub(crate) region_local: u64,
    pub(crate) global: u64,
    pub(crate) deliveries: u64,
    pub(crate) finishes: u64,
    pub(crate) requeues: u64,
    pub(crate) timeouts: u64,
    pub(crate) clients: usize,
    pub(crate) paused: bool,
    /// The first message that is ready or in flight.
    pub(crate) oldest: Option<u64>,
}

/// How a delivery to a client ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Delivery {
    /// There is nothing more for the client now. It is woken once there is.
    Parked,
    /// There may be more, and nothing will wake the client for it.
    Unfinished,
}

/// Why a client could not join a channel.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum JoinError {
    /// The channel is being deleted.
    Exiting,
    /// As many clients as allowed are there already.
    Full,
}

impl Channel {
    /// A channel over a log, with the errand that writes the topic's journal.
    pub(crate) fn new(
        name: ChannelName,
        schedule: nsq_broker::Channel,
        log: Arc<TopicLog>,
        keep: Arc<Errand>,
        services: Arc<Services>,
    ) -> Self {
        let latency = services.latency_window().map(Box::new);
        let inner = Inner {
            schedule,
            clients: HashMap::default(),
            cold: ColdReads::default(),
            stalled: Vec::new(),
            dirty: false,
            armed: None,
            latency,
            slices: Vec::new(),
            tally: Tally::default(),
        };
        Self {
            name,
            birth: Birth::next(),
            log,
            keep,
            services,
            exiting: AtomicBool::new(false),
            oldest: Oldest::default(),
            inner: Mutex::new(inner),
        }
    }

    /// Changes the schedule, then does what follows from the change.
    fn change<R>(self: &Arc<Self>, change: impl FnOnce(&mut nsq_broker::Channel) -> R) -> R {
        let mut inner = lock(&self.inner);
        let result = change(&mut inner.schedule);
        self.settle(&mut inner);
        result
    }

    /// Follows up a change of the schedule: counts it, marks the topic dirty, wakes clients, arms the next deadline.
    fn settle(self: &Arc<Self>, inner: &mut Inner) {
        inner.tally.add(inner.schedule.counters(), &self.services.meters);
        if !inner.dirty && inner.schedule.has_changes() {
            inner.dirty = true;
            ask_to_keep(&self.services, &self.keep);
        }
        for id in inner.schedule.drain_woken() {
            if let Some(client) = inner.clients.get(&id) {
                client.wake();
            }
        }
        let Some(next) = inner.schedule.next_deadline() else { return };
        if inner.armed.is_none_or(|armed| next < armed) && !self.is_exiting() {
            let target: Weak<Self> = Arc::downgrade(self);
            self.services.deadlines.arm(self.birth, inner.armed, next, target);
            inner.armed = Some(next);
        }
    }

    /// Arms the deadlines that the schedule was recovered with.
    pub(crate) fn rearm(self: &Arc<Self>) {
        self.change(|_| ());
    }

    /// The changes that are not in the journal yet; takes them as written.
    pub(crate) fn journal_delta(&self) -> Option<ChannelDelta> {
        let mut inner = lock(&self.inner);
        inner.dirty = false;
        inner.schedule.has_changes().then(|| journal::channel_delta(inner.schedule.changes()))
    }

    /// The whole state for the journal; takes all changes as written.
    pub(crate) fn journal_state(&self) -> ChannelState {
        let mut inner = lock(&self.inner);
        inner.dirty = false;
        inner.schedule.changes();
        journal::channel_state(inner.schedule.state())
    }

    /// Takes messages over from the topic.
    pub(crate) fn publish(self: &Arc<Self>, fan_out: &FanOut, now: Time) {
        self.change(|schedule| schedule.publish(fan_out, now));
    }

    /// Passes over messages below `to` that the topic dropped before it handed them out.
    pub(crate) fn skip(self: &Arc<Self>, to: u64) {
        self.change(|schedule| schedule.skip(to));
    }

    /// Stops deliveries.
    pub(crate) fn pause(self: &Arc<Self>) {
        self.change(nsq_broker::Channel::pause);
    }

    /// Ends a pause.
    pub(crate) fn unpause(self: &Arc<Self>) {
        self.change(nsq_broker::Channel::unpause);
    }

    pub(crate) fn is_paused(&self) -> bool {
        lock(&self.inner).schedule.is_paused()
    }

    /// Drops all messages of the channel; its clients stay.
    pub(crate) fn empty(self: &Arc<Self>) {
        self.change(nsq_broker::Channel::empty);
    }

    /// Every message below this one is finished.
    pub(crate) fn low(&self) -> u64 {
        lock(&self.inner).schedule.low()
    }

    /// Adds a client; `limit` bounds how many there may be, 0 for no bound.
    pub(crate) fn join(
        &self,
        client: &Arc<Client>,
        config: ClientConfig,
        limit: usize,
    ) -> Result<(), JoinError> {
        let mut inner = lock(&self.inner);
        if self.is_exiting() {
            return Err(JoinError::Exiting);
        }
        if limit > 0 && inner.clients.len() >= limit {
            return Err(JoinError::Full);
        }
        inner.schedule.add_client(client.id, config);
        inner.clients.insert(client.id, client.clone());
        Ok(())
    }

    /// Removes a client. Returns true if the channel has to be deleted because it is ephemeral and this was its last
    /// client; no client can join it then.
    pub(crate) fn leave(self: &Arc<Self>, id: ClientId, requeue: bool) -> bool {
        let mut inner = lock(&self.inner);
        inner.schedule.remove_client(id, requeue);
        inner.clients.remove(&id);
        if inner.clients.is_empty() {
            inner.cold.release();
        }
        let abandoned = self.name.is_ephemeral()
            && inner.clients.is_empty()
            && !self.exiting.swap(true, Ordering::AcqRel);
        self.settle(&mut inner);
        abandoned
    }

    /// Takes a message back from a client, to be delivered again after `delay`.
    ///
    /// # Errors
    /// The message is not in flight, or in flight to another client.
    pub(crate) fn requeue(
        self: &Arc<Self>,
        id: ClientId,
        seq: u64,
        delay: Duration,
        now: Time,
    ) -> Result<(), Refusal> {
        self.change(|schedule| schedule.requeue(id, seq, delay, now))
    }

    /// Restarts the timeout of a message.
    ///
    /// # Errors
    /// The message is not in flight, or in flight to another client.
    pub(crate) fn touch(
        self: &Arc<Self>,
        id: ClientId,
        seq: u64,
        now: Time,
    ) -> Result<(), Refusal> {
        self.change(|schedule| schedule.touch(id, seq, now))
    }

    /// Sets how many messages may be in flight to a client.
    pub(crate) fn set_ready(self: &Arc<Self>, id: ClientId, count: u64) {
        self.change(|schedule| schedule.set_ready(id, count));
    }

    /// Delivers to a client what it is entitled to, up to `bytes_max`: `send` gets pieces of the log with the
    /// attempts of their messages.
    pub(crate) fn deliver(
        self: &Arc<Self>,
        id: ClientId,
        now: Time,
        bytes_max: usize,
        mut send: impl FnMut(Slice, u16),
    ) -> Delivery {
        let mut guard = lock(&self.inner);
        let inner = &mut *guard;
        let mut room = bytes_max;
        let mut delivery = Delivery::Unfinished;
        while room > 0 {
            let Some(offer) = inner.schedule.offer(id) else {
                if !inner.schedule.park(id)
                    && let Some(client) = inner.clients.get(&id)
                {
                    client.wake();
                }
                delivery = Delivery::Parked;
                break;
            };
            match self.read(inner, &offer, room) {
                Read::Taken(0) => break,
                Read::Taken(count) => {
                    inner.take(id, &offer, count, now);
                    self.observe_wait(&offer, &inner.slices);
                    for slice in inner.slices.drain(..) {
                        room = room.saturating_sub(slice.bytes.len());
                        send(slice, offer.attempts);
                    }
                }
                Read::Cold => {
                    inner.stalled.push(id);
                    inner.schedule.release(id);
                    delivery = Delivery::Parked;
                    break;
                }
                Read::Gone(count) => self.drop_lost(inner, id, &offer, count, now),
            }
        }
        self.settle(inner);
        delivery
    }

    /// Releases the messages reserved for a client that cannot take more for now; it asks again once it can.
    pub(crate) fn hold_back(self: &Arc<Self>, id: ClientId) {
        self.change(|schedule| schedule.release(id));
    }

    pub(crate) fn is_exiting(&self) -> bool {
        self.exiting.load(Ordering::Acquire)
    }

    /// Ends the channel: no client can join any more, and those subscribed are closed.
    pub(crate) fn exit(&self) {
        let mut inner = lock(&self.inner);
        self.exiting.store(true, Ordering::Release);
        if let Some(armed) = inner.armed.take() {
            self.services.deadlines.disarm(self.birth, armed);
        }
        for client in inner.clients.values() {
            client.close();
        }
    }

    /// The figures of the channel; `backend_depth` is how many ready messages are below `tail_start`.
    pub(crate) fn counts(&self, tail_start: u64) -> ChannelCounts {
        let inner = lock(&self.inner);
        let schedule = &inner.schedule;
        let counters = inner.tally.of(schedule.counters());
        ChannelCounts {
            depth: schedule.depth(),
            backend_depth: schedule.ready_below(tail_start),
            in_flight: schedule.in_flight_count(),
            deferred: schedule.deferred_count(),
            messages: schedule.message_count(),
            zone_local: schedule.delivery_count(Distance::Zone),
            region_local: schedule.delivery_count(Distance::Region),
            global: schedule.delivery_count(Distance::Global),
            deliveries: counters.deliveries,
            finishes: counters.finishes,
            requeues: counters.requeues,
            timeouts: counters.timeouts,
            clients: schedule.client_count(),
            paused: schedule.is_paused(),
            oldest: schedule.oldest(),
        }
    }

    /// The clients on this channel, each with what the schedule counts of it.
    pub(crate) fn clients(&self) -> Vec<(Arc<Client>, nsq_broker::ClientStats)> {
        let inner = lock(&self.inner);
        let stats =
            |client: &Arc<Client>| Some((client.clone(), *inner.schedule.client(client.id)?));
        inner.clients.values().filter_map(stats).collect()
    }
}

impl Expire for Channel {
    /// Takes back messages that were in flight for too long, and makes deferred ones ready.
    fn expire(self: Arc<Self>, now: Time) {
        let mut inner = lock(&self.inner);
        if inner.armed.is_some_and(|armed| armed <= now) {
            inner.armed = None;
        }
        inner.schedule.expire(now);
        self.settle(&mut inner);
    }
}
