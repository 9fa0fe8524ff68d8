//! A channel: the broker's schedule of it, the clients that hang on it, and what was read ahead for them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use foldhash::fast::RandomState;
use nsq_broker::{ClientConfig, ClientId, FanOut, Offer, Refusal, Time};
use nsq_log::{ChannelDelta, ChannelState, Read, Slice, TopicLog};
use nsq_protocol::ChannelName;

use crate::{
    lock::lock, topic::Topic, topic::client::Client, topic::cold::ColdReads, topic::journal,
    topic::services::Services,
};

/// How long to wait before reading again what could not be read.
const COLD_RETRY: Duration = Duration::from_secs(1);

/// A channel of a topic.
pub(crate) struct Channel {
    pub(crate) name: ChannelName,
    topic: Weak<Topic>,
    log: Arc<TopicLog>,
    services: Arc<Services>,
    exiting: AtomicBool,
    inner: Mutex<Inner>,
}

struct Inner {
    schedule: nsq_broker::Channel,
    clients: HashMap<ClientId, Arc<Client>, RandomState>,
    cold: ColdReads,
    /// Clients that wait for a cold read.
    stalled: Vec<ClientId>,
    /// Whether the topic knows that there is something for its journal.
    dirty: bool,
    /// When the node will look at this channel's deadlines, the earliest last. A later time stays when an earlier
    /// one comes up, so that it need not be entered again and again.
    armed: Vec<Time>,
    /// Scratch, kept to spare allocations: pieces of the log to send.
    slices: Vec<Slice>,
}

/// The figures of a channel that `/stats` shows.
#[derive(Copy, Clone, Debug)]
pub(crate) struct ChannelCounts {
    pub(crate) depth: u64,
    pub(crate) backend_depth: u64,
    pub(crate) in_flight: u64,
    pub(crate) deferred: u64,
    pub(crate) messages: u64,
    pub(crate) requeues: u64,
    pub(crate) timeouts: u64,
    pub(crate) clients: usize,
    pub(crate) paused: bool,
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
    pub(crate) fn new(
        name: ChannelName,
        schedule: nsq_broker::Channel,
        topic: &Arc<Topic>,
        services: Arc<Services>,
    ) -> Self {
        let inner = Inner {
            schedule,
            clients: HashMap::default(),
            cold: ColdReads::default(),
            stalled: Vec::new(),
            dirty: false,
            armed: Vec::new(),
            slices: Vec::new(),
        };
        let (log, topic) = (topic.log.clone(), Arc::downgrade(topic));
        Self {
            name,
            topic,
            log,
            services,
            exiting: AtomicBool::new(false),
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

    /// Follows up a change of the schedule: marks the topic dirty, wakes clients, arms the next deadline.
    fn settle(self: &Arc<Self>, inner: &mut Inner) {
        if !inner.dirty && inner.schedule.has_changes() {
            inner.dirty = true;
            if let Some(topic) = self.topic.upgrade() {
                topic.mark_dirty();
            }
        }
        for id in inner.schedule.drain_woken() {
            if let Some(client) = inner.clients.get(&id) {
                client.wake();
            }
        }
        let Some(next) = inner.schedule.next_deadline() else { return };
        if inner.armed.last().is_none_or(|earliest| next < *earliest) {
            inner.armed.push(next);
            self.services.deadlines.arm(next, Arc::downgrade(self));
        }
    }

    /// Arms the deadlines that the schedule was recovered with.
    pub(crate) fn rearm(self: &Arc<Self>) {
        self.change(|_| ());
    }

    /// What the journal has not heard of yet.
    pub(crate) fn journal_delta(&self) -> Option<ChannelDelta> {
        let mut inner = lock(&self.inner);
        inner.dirty = false;
        inner.schedule.has_changes().then(|| journal::channel_delta(inner.schedule.changes()))
    }

    /// The whole state for the journal, which has nothing left to hear of then.
    pub(crate) fn journal_state(&self) -> ChannelState {
        let mut inner = lock(&self.inner);
        inner.dirty = false;
        inner.schedule.changes();
        journal::channel_state(inner.schedule.state())
    }

    /// Lets time pass: messages in flight for too long come back, deferred ones become due.
    pub(crate) fn expire(self: &Arc<Self>, now: Time) {
        let mut inner = lock(&self.inner);
        while inner.armed.pop_if(|earliest| *earliest <= now).is_some() {}
        inner.schedule.expire(now);
        self.settle(&mut inner);
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

    /// Removes a client. Returns whether the channel has to be deleted because it is ephemeral and this was its
    /// last client; no client can join it then.
    pub(crate) fn leave(self: &Arc<Self>, id: ClientId, requeue: bool) -> bool {
        let mut inner = lock(&self.inner);
        inner.schedule.remove_client(id, requeue);
        inner.clients.remove(&id);
        let abandoned = self.name.is_ephemeral()
            && inner.clients.is_empty()
            && !self.exiting.swap(true, Ordering::AcqRel);
        self.settle(&mut inner);
        abandoned
    }

    /// Finishes runs of messages; what is refused is added to `refused`.
    pub(crate) fn finish(
        self: &Arc<Self>,
        id: ClientId,
        runs: impl Iterator<Item = std::ops::Range<u64>>,
        refused: &mut Vec<(u64, Refusal)>,
    ) {
        self.change(|schedule| {
            for run in runs {
                schedule.finish(id, run, refused);
            }
        });
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
                    inner.schedule.take(id, &offer, count, now);
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

    /// Leaves what is reserved for a client to others: it cannot take more for now, and will ask when it can.
    pub(crate) fn hold_back(self: &Arc<Self>, id: ClientId) {
        self.change(|schedule| schedule.release(id));
    }

    fn read(self: &Arc<Self>, inner: &mut Inner, offer: &Offer, bytes_max: usize) -> Read {
        let read = self.log.read(offer.range.clone(), bytes_max, &mut inner.slices);
        if !matches!(read, Read::Cold) {
            return read;
        }
        let read = inner.cold.read(offer, bytes_max, &mut inner.slices);
        if let Some((first, bytes)) = inner.cold.wanted(offer, self.log.tail_start()) {
            self.load(first, bytes, offer.was_put_aside());
        }
        read
    }

    /// Reads ahead on a thread that may block, then wakes those who wait for it.
    fn load(self: &Arc<Self>, first: u64, bytes: usize, put_aside: bool) {
        let (channel, log) = (self.clone(), self.log.clone());
        tokio::spawn(async move {
            let loaded = tokio::task::spawn_blocking(move || log.load(first, bytes)).await;
            let failed = match loaded {
                Ok(Ok(chunk)) => {
                    for notice in chunk.notices() {
                        channel.services.logger.error(format_args!("{notice}"));
                    }
                    lock(&channel.inner).cold.loaded(chunk, put_aside);
                    None
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            if let Some(error) = failed {
                let (topic, name) = (channel.log.name(), &channel.name);
                channel
                    .services
                    .logger
                    .error(format_args!("CHANNEL({topic}:{name}): reading back - {error}"));
                tokio::time::sleep(COLD_RETRY).await;
                lock(&channel.inner).cold.failed();
            }
            let mut inner = lock(&channel.inner);
            while let Some(id) = inner.stalled.pop() {
                if let Some(client) = inner.clients.get(&id) {
                    client.wake();
                }
            }
        });
    }

    /// Messages whose bytes are lost are finished with, or the channel would never get past them.
    fn drop_lost(&self, inner: &mut Inner, id: ClientId, offer: &Offer, count: u64, now: Time) {
        let first = offer.range.start;
        inner.schedule.take(id, offer, count, now);
        inner.schedule.finish(id, first..first + count, &mut Vec::new());
        let (topic, name) = (self.log.name(), &self.name);
        self.services.logger.error(format_args!(
            "CHANNEL({topic}:{name}): {count} messages from sequence {first} are lost: their bytes are gone"
        ));
    }

    pub(crate) fn is_exiting(&self) -> bool {
        self.exiting.load(Ordering::Acquire)
    }

    /// Ends the channel: nobody joins any more, and those who are there are closed.
    pub(crate) fn exit(&self) {
        let inner = lock(&self.inner);
        self.exiting.store(true, Ordering::Release);
        for client in inner.clients.values() {
            client.close();
        }
    }

    /// The figures of the channel; `backend_depth` is how many ready messages are below `tail_start`.
    pub(crate) fn counts(&self, tail_start: u64) -> ChannelCounts {
        let schedule = &lock(&self.inner).schedule;
        ChannelCounts {
            depth: schedule.depth(),
            backend_depth: schedule.ready_below(tail_start),
            in_flight: schedule.in_flight_count(),
            deferred: schedule.deferred_count(),
            messages: schedule.message_count(),
            requeues: schedule.requeue_count(),
            timeouts: schedule.timeout_count(),
            clients: schedule.client_count(),
            paused: schedule.is_paused(),
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
