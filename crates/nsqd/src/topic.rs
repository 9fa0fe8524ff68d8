//! A topic: its log, its fan-out, its channels.

pub(crate) mod bulk;
pub(crate) mod channel;
mod channels;
pub(crate) mod client;
mod cold;
mod create;
mod disk;
mod ephemeral;
mod journal;
pub(crate) mod oldest;
pub(crate) mod services;
mod upkeep;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use nsq_log::{Append, AppendError, BatchBuilder, TopicLog};
use nsq_protocol::{ChannelName, MESSAGE_FRAME_HEAD_BYTES, TopicName};

use self::{
    bulk::BulkSlots, channel::Channel, disk::TopicDisk, ephemeral::Trim, oldest::Oldest,
    services::Services,
};
use crate::{birth::Birth, lock::lock};

/// A topic and everything that belongs to it.
///
/// Locks are taken in one order: `told` of [`disk`], the routes, then a channel, then the log's tail. None of them is
/// held while a file is flushed, created, renamed or removed.
pub(crate) struct Topic {
    pub(crate) name: TopicName,
    pub(crate) birth: Birth,
    pub(crate) log: Arc<TopicLog>,
    /// Taken while a large batch is being published.
    pub(crate) bulk: BulkSlots,
    services: Arc<Services>,
    disk: TopicDisk,
    trim: Trim,
    exiting: AtomicBool,
    message_count: AtomicU64,
    message_bytes: AtomicU64,
    pub(crate) oldest: Oldest,
    routes: Mutex<Routes>,
    /// Notified when the topic has caught up with the log while a publisher waits for that.
    caught_up: Condvar,
}

/// The channels of a topic, and the messages that wait for them.
struct Routes {
    fan: nsq_broker::Topic,
    /// An operator has paused the topic.
    paused: bool,
    /// Messages are held back until the channels of a new topic are known.
    held: bool,
    channels: BTreeMap<ChannelName, Arc<Channel>>,
    /// The number of publishers that wait for [`Topic::caught_up`].
    waiting: usize,
}

/// Why messages were not accepted, or a topic or channel not created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// The topic is being deleted, or nsqd stops.
    #[error("exiting")]
    Exiting,
    /// The node has as many topics as it may.
    #[error("too many topics")]
    TooManyTopics,
    /// The topic has as many channels as it may.
    #[error("too many channels")]
    TooManyChannels,
    /// The log did not take them.
    #[error(transparent)]
    Log(#[from] AppendError),
    /// The topic or channel could not be written down.
    #[error("writing the journal: {0}")]
    Journal(#[from] nsq_log::Error),
}

/// The figures of a topic that `/stats` and `/metrics` show.
#[derive(Clone, Debug)]
pub(crate) struct TopicCounts {
    pub(crate) depth: u64,
    pub(crate) backend_depth: u64,
    pub(crate) message_count: u64,
    pub(crate) message_bytes: u64,
    pub(crate) paused: bool,
    /// The first message that waits at the topic.
    pub(crate) oldest: Option<u64>,
}

impl Topic {
    /// A topic over its log, as new or as recovered.
    pub(crate) fn new(
        name: TopicName,
        log: Arc<TopicLog>,
        recovered: Option<nsq_log::TopicState>,
        services: &Arc<Services>,
    ) -> Arc<Self> {
        let fan = match &recovered {
            None => nsq_broker::Topic::new(log.end()),
            Some(state) => nsq_broker::Topic::recover(journal::recover_topic(state, log.end())),
        };
        let topic = Arc::new_cyclic(|topic: &Weak<Self>| Self {
            name,
            birth: Birth::next(),
            disk: TopicDisk::new(
                log.clone(),
                services.clone(),
                upkeep::errands(topic),
                fan.fanout(),
            ),
            log,
            bulk: BulkSlots::of_topic(),
            services: services.clone(),
            trim: Trim::default(),
            exiting: AtomicBool::new(false),
            message_count: AtomicU64::new(0),
            message_bytes: AtomicU64::new(0),
            oldest: Oldest::default(),
            routes: Mutex::new(Routes {
                paused: fan.is_paused(),
                held: false,
                fan,
                channels: BTreeMap::new(),
                waiting: 0,
            }),
            caught_up: Condvar::new(),
        });
        if let Some(recovered) = recovered {
            topic.restore_channels(recovered);
            topic.disk.resume();
        }
        topic
    }

    pub(crate) fn is_exiting(&self) -> bool {
        self.exiting.load(Ordering::Acquire)
    }

    /// Appends the batch and fans it out; the batch is empty afterwards, or untouched after an error. Returns the
    /// end of the log behind the batch.
    ///
    /// The due times of deferred messages have reached the journal when this returns; if the journal cannot be
    /// written, a crash makes them wait their whole delay again, which is no reason to refuse them.
    pub(crate) fn publish(
        &self,
        batch: &mut BatchBuilder,
        defer: Option<Duration>,
    ) -> Result<u64, PublishError> {
        if self.is_exiting() {
            return Err(PublishError::Exiting);
        }
        if self.name.is_ephemeral() && self.is_full(batch) {
            return Ok(self.drop_newest(batch));
        }
        let began = self.services.clock.now();
        let append = Append { timestamp_ns: self.services.clock.wall_ns(), defer };
        let body_bytes = body_bytes(batch);
        let range = self.log.append(batch, append).map_err(|error| self.append_failed(error))?;
        self.count(range.end - range.start, body_bytes);
        self.disk.appended(range.end - range.start);
        let end = range.end;
        let mut routes = lock(&self.routes);
        if let Some(fan_out) = routes.fan.publish(range, defer) {
            // Their delays begin no earlier than they were published.
            routes.hand_out(&fan_out, self.services.clock.now());
        }
        if routes.waiting > 0 {
            self.caught_up.notify_all();
        }
        if defer.is_some() {
            drop(self.caught_up_with(end, routes));
            // Failures are retried in the background.
            let _ = self.write_changes();
        } else if self.name.is_ephemeral() {
            self.log.release(routes.low());
        }
        self.services.meters.publishes.observe(self.services.clock.now().since(began));
        Ok(end)
    }

    /// Waits until everything below `end` has been fanned out, so that the journal can learn of it: publishers that
    /// appended before are on other threads, between their append and this lock.
    fn caught_up_with<'a>(
        &self,
        end: u64,
        mut routes: MutexGuard<'a, Routes>,
    ) -> MutexGuard<'a, Routes> {
        if routes.fan.end() < end {
            routes.waiting += 1;
            let behind = |routes: &mut Routes| routes.fan.end() < end;
            let waited = self.caught_up.wait_while(routes, behind);
            routes = waited.unwrap_or_else(PoisonError::into_inner);
            routes.waiting -= 1;
        }
        routes
    }

    fn count(&self, messages: u64, body_bytes: u64) {
        self.message_count.fetch_add(messages, Ordering::Relaxed);
        self.message_bytes.fetch_add(body_bytes, Ordering::Relaxed);
        self.services.meters.published.add(messages);
        self.services.meters.published_bytes.add(body_bytes);
    }

    /// The error for a publisher. A topic that goes away is no fault of the disk.
    fn append_failed(&self, error: AppendError) -> PublishError {
        match error {
            AppendError::Deleted(_) | AppendError::Closed => return PublishError::Exiting,
            AppendError::Temporary(_) | AppendError::Stopped { .. } => {
                self.disk.mark_failed("messages not written", &error);
            }
            _ => {}
        }
        error.into()
    }

    /// Waits until everything below `end` is flushed. Nothing of an ephemeral topic ever is.
    ///
    /// # Errors
    /// When it could not be flushed: it may or may not be on the disk.
    pub(crate) async fn synced(&self, end: u64) -> Result<(), Arc<str>> {
        self.disk.synced(end).await
    }

    /// Ends the topic, because it was deleted or nsqd stops: nothing is accepted any more, and its clients are
    /// closed.
    pub(crate) fn exit(&self) {
        self.exiting.store(true, Ordering::Release);
        for channel in self.channels() {
            channel.exit();
        }
    }

    /// Ends the topic if it has no channels; returns true if it did.
    pub(crate) fn exit_if_unused(&self) -> bool {
        let routes = lock(&self.routes);
        routes.channels.is_empty() && !self.exiting.swap(true, Ordering::AcqRel)
    }

    /// Drops the failures and losses of a topic that was deleted from the health.
    pub(crate) fn forget(&self) {
        self.disk.forget();
    }

    /// Pauses the topic.
    ///
    /// # Errors
    /// When that cannot be written down yet; the topic is paused all the same.
    pub(crate) fn pause(&self) -> Result<(), nsq_log::Error> {
        {
            let mut routes = lock(&self.routes);
            routes.paused = true;
            routes.fan.pause();
        }
        self.write_topic()
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// As [`Topic::pause`].
    pub(crate) fn unpause(&self) -> Result<(), nsq_log::Error> {
        {
            let mut routes = lock(&self.routes);
            routes.paused = false;
            routes.go_on(self.services.clock.now());
        }
        self.write_topic()
    }

    pub(crate) fn is_paused(&self) -> bool {
        lock(&self.routes).paused
    }

    /// Holds messages back until [`Topic::resume`], invisibly.
    pub(crate) fn hold(&self) {
        let mut routes = lock(&self.routes);
        routes.held = true;
        routes.fan.pause();
    }

    /// Ends [`Topic::hold`].
    pub(crate) fn resume(&self) {
        let mut routes = lock(&self.routes);
        routes.held = false;
        routes.go_on(self.services.clock.now());
    }

    /// Drops the messages that wait at the topic; channels keep theirs.
    ///
    /// # Errors
    /// When that cannot be written down yet; the messages are gone all the same.
    pub(crate) fn empty(&self) -> Result<(), nsq_log::Error> {
        {
            let mut routes = lock(&self.routes);
            routes.fan.empty();
            let fanout = routes.fan.fanout();
            for channel in routes.channels.values() {
                channel.skip(fanout);
            }
        }
        self.write_changes()?;
        self.write_topic()
    }

    pub(crate) fn counts(&self) -> TopicCounts {
        let routes = lock(&self.routes);
        let tail_start = self.log.tail_start();
        TopicCounts {
            depth: routes.fan.depth(),
            backend_depth: tail_start.min(routes.fan.end()).saturating_sub(routes.fan.fanout()),
            message_count: self.message_count.load(Ordering::Relaxed),
            message_bytes: self.message_bytes.load(Ordering::Relaxed),
            paused: routes.paused,
            oldest: (routes.fan.depth() > 0).then(|| routes.fan.fanout()),
        }
    }
}

impl Routes {
    fn hand_out(&self, fan_out: &nsq_broker::FanOut, now: nsq_broker::Time) {
        for channel in self.channels.values() {
            channel.publish(fan_out, now);
        }
    }

    /// Gives the channels what was held back, if nothing holds it any more.
    fn go_on(&mut self, now: nsq_broker::Time) {
        if self.paused || self.held {
            return;
        }
        if let Some(fan_out) = self.fan.unpause() {
            self.hand_out(&fan_out, now);
        }
    }

    /// Every message below is finished in every channel, and not waiting at the topic.
    fn low(&self) -> u64 {
        let channels = self.channels.values().map(|channel| channel.low());
        channels.fold(self.fan.fanout(), u64::min)
    }

    /// As [`Routes::low`], for channels that outlive nsqd: ephemeral ones pin nothing on disk.
    fn durable_low(&self) -> u64 {
        let durable = self.channels.iter().filter(|(name, _)| !name.is_ephemeral());
        durable.map(|(_, channel)| channel.low()).fold(self.fan.fanout(), u64::min)
    }
}

fn body_bytes(batch: &BatchBuilder) -> u64 {
    (batch.bytes() - batch.count() * MESSAGE_FRAME_HEAD_BYTES) as u64
}
