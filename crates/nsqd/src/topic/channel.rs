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
    birth::Birth, lock::lock, topic::Topic, topic::client::Client, topic::cold::ColdReads,
    topic::journal, topic::services::Services,
};

/// How long to wait before reading again what could not be read.
const COLD_RETRY: Duration = Duration::from_secs(1);

/// A channel of a topic.
pub(crate) struct Channel {
    pub(crate) name: ChannelName,
    pub(crate) birth: Birth,
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
    /// Scratch, kept to spare allocations: clients to wake, pieces of the log to send.
    wake: Vec<ClientId>,
    slices: Vec<Slice>,
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
            wake: Vec::new(),
            slices: Vec::new(),
        };
        let (log, topic) = (topic.log.clone(), Arc::downgrade(topic));
        Self {
            name,
            birth: Birth::next(),
            topic,
            log,
            services,
            exiting: AtomicBool::new(false),
            inner: Mutex::new(inner),
        }
    }

    /// Does something to the schedule; afterwards the clients it named are woken and its next deadline is armed.
    pub(crate) fn act<R>(
        self: &Arc<Self>,
        act: impl FnOnce(&mut nsq_broker::Channel, &mut Vec<ClientId>) -> R,
    ) -> R {
        let mut inner = lock(&self.inner);
        let mut wake = std::mem::take(&mut inner.wake);
        let result = act(&mut inner.schedule, &mut wake);
        inner.wake = wake;
        self.settle(&mut inner);
        result
    }

    /// Looks at the schedule.
    pub(crate) fn see<R>(&self, see: impl FnOnce(&nsq_broker::Channel) -> R) -> R {
        see(&lock(&self.inner).schedule)
    }

    fn settle(self: &Arc<Self>, inner: &mut Inner) {
        if !inner.dirty && inner.schedule.has_changes() {
            inner.dirty = true;
            if let Some(topic) = self.topic.upgrade() {
                topic.mark_dirty();
            }
        }
        while let Some(id) = inner.wake.pop() {
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
        self.act(|_, _| ());
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
        let mut wake = std::mem::take(&mut inner.wake);
        inner.schedule.expire(now, &mut wake);
        inner.wake = wake;
        self.settle(&mut inner);
    }

    pub(crate) fn publish(self: &Arc<Self>, fan_out: &FanOut, now: Time) {
        self.act(|schedule, wake| schedule.publish(fan_out, now, wake));
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

    /// Removes a client. Answers whether the channel has to be deleted: it was ephemeral and this was its last
    /// client. Then nobody can join it any more.
    pub(crate) fn leave(self: &Arc<Self>, id: ClientId, requeue: bool) -> bool {
        let mut inner = lock(&self.inner);
        let mut wake = std::mem::take(&mut inner.wake);
        inner.schedule.remove_client(id, requeue, &mut wake);
        inner.wake = wake;
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
        self.act(|schedule, wake| {
            for run in runs {
                schedule.finish(id, run, refused, wake);
            }
        });
    }

    /// Hands the client what it is entitled to, up to `bytes_max`: `send` gets pieces of the log with
    /// the attempts of their messages. When there is nothing, the
    /// client is woken once there is.
    pub(crate) fn deliver(
        self: &Arc<Self>,
        id: ClientId,
        now: Time,
        bytes_max: usize,
        mut send: impl FnMut(Slice, u16),
    ) {
        let mut guard = lock(&self.inner);
        let inner = &mut *guard;
        let mut room = bytes_max;
        while room > 0 {
            let Some(offer) = inner.schedule.offer(id) else {
                if !inner.schedule.park(id) {
                    inner.wake.push(id);
                }
                break;
            };
            match self.read(inner, &offer, room) {
                Read::Taken(0) => break,
                Read::Taken(count) => {
                    inner.schedule.take(id, &offer, count, now, &mut inner.wake);
                    for slice in inner.slices.drain(..) {
                        room = room.saturating_sub(slice.bytes.len());
                        send(slice, offer.attempts);
                    }
                }
                Read::Cold => {
                    inner.stalled.push(id);
                    inner.schedule.release(id, &mut inner.wake);
                    break;
                }
                Read::Gone(count) => self.drop_lost(inner, id, &offer, count, now),
            }
        }
        self.settle(inner);
    }

    /// Leaves what is reserved for a client to others: it cannot take more for now, and will ask when it can.
    pub(crate) fn hold_back(self: &Arc<Self>, id: ClientId) {
        self.act(|schedule, wake| schedule.release(id, wake));
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
        inner.schedule.take(id, offer, count, now, &mut inner.wake);
        inner.schedule.finish(id, first..first + count, &mut Vec::new(), &mut inner.wake);
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

    /// The clients on this channel, each with what the schedule counts of it.
    pub(crate) fn clients(&self) -> Vec<(Arc<Client>, nsq_broker::ClientStats)> {
        let inner = lock(&self.inner);
        let stats =
            |client: &Arc<Client>| Some((client.clone(), *inner.schedule.client(client.id)?));
        inner.clients.values().filter_map(stats).collect()
    }
}
