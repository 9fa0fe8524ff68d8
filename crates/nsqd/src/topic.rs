//! A topic: its log, its fan-out, its channels.

pub(crate) mod channel;
pub(crate) mod client;
mod cold;
mod disk;
pub(crate) mod journal;
pub(crate) mod services;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use nsq_log::{Append, AppendError, BatchBuilder, JournalRecord, TopicLog};
use nsq_protocol::{ChannelName, MESSAGE_FRAME_HEAD_BYTES, TopicName};
use tokio::sync::watch;

use self::{channel::Channel, services::Services};
use crate::lock::lock;

/// A topic and everything that hangs on it.
///
/// Locks are taken in one order: the topic's state, then a channel, then the log's tail.
pub(crate) struct Topic {
    pub(crate) name: TopicName,
    pub(crate) log: Arc<TopicLog>,
    services: Arc<Services>,
    exiting: AtomicBool,
    message_count: AtomicU64,
    message_bytes: AtomicU64,
    /// Whether the keeper has been told that there is something to write to the journal.
    dirty: AtomicBool,
    /// Messages since the syncer was last asked for a flush, which it has been while this is not 0.
    unsynced: AtomicU64,
    /// How far the log is on the disk, or why it cannot be flushed.
    synced: watch::Sender<Synced>,
    /// The disk did not take something: the mender tries again, and journals are left to it.
    ailing: AtomicBool,
    state: Mutex<State>,
    /// Told when the topic has caught up with the log while somebody waits for that.
    caught_up: Condvar,
}

type Synced = Result<u64, Arc<str>>;

struct State {
    fan: nsq_broker::Topic,
    /// What an operator said.
    paused: bool,
    /// What nsqlookupd is still being asked holds messages back as well.
    held: bool,
    channels: BTreeMap<ChannelName, Arc<Channel>>,
    /// How many wait for [`Topic::caught_up`].
    waiting: usize,
    /// Channels that no journal knows, because it could not be written when they were created.
    unwritten: Vec<ChannelName>,
    /// The fan-out as the journal knows it. Durable channels tell it themselves.
    fanout_told: u64,
}

/// Why messages were not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// The topic is being deleted, or nsqd stops.
    #[error("exiting")]
    Exiting,
    /// The log did not take them.
    #[error(transparent)]
    Log(#[from] AppendError),
    /// They are in the log, but their delay could not be written down.
    #[error("writing the journal: {0}")]
    Journal(#[from] nsq_log::Error),
}

/// The figures of a topic that `/stats` shows.
#[derive(Clone, Debug)]
pub(crate) struct TopicCounts {
    pub(crate) depth: u64,
    pub(crate) backend_depth: u64,
    pub(crate) message_count: u64,
    pub(crate) message_bytes: u64,
    pub(crate) paused: bool,
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
        let topic = Arc::new(Self {
            name,
            log,
            services: services.clone(),
            exiting: AtomicBool::new(false),
            message_count: AtomicU64::new(0),
            message_bytes: AtomicU64::new(0),
            dirty: AtomicBool::new(false),
            unsynced: AtomicU64::new(0),
            synced: watch::Sender::new(Ok(0)),
            ailing: AtomicBool::new(false),
            state: Mutex::new(State {
                fanout_told: fan.fanout(),
                paused: fan.is_paused(),
                held: false,
                fan,
                channels: BTreeMap::new(),
                waiting: 0,
                unwritten: Vec::new(),
            }),
            caught_up: Condvar::new(),
        });
        if let Some(recovered) = recovered {
            topic.restore_channels(&recovered);
        }
        topic
    }

    fn restore_channels(self: &Arc<Self>, recovered: &nsq_log::TopicState) {
        let mut state = lock(&self.state);
        for (name, channel) in &recovered.channels {
            let config = self.channel_config(name);
            let schedule = nsq_broker::Channel::recover(config, journal::recover_channel(channel));
            let channel = Arc::new(self.channel(name.clone(), schedule));
            state.channels.insert(name.clone(), channel);
        }
        // What was published after the journal was last written.
        if let Some(fan_out) = state.fan.fan_out() {
            let now = self.services.clock.now();
            for channel in state.channels.values() {
                channel.publish(&fan_out, now);
            }
        }
        for channel in state.channels.values() {
            channel.rearm();
        }
    }

    fn channel(self: &Arc<Self>, name: ChannelName, schedule: nsq_broker::Channel) -> Channel {
        Channel::new(name, schedule, self, self.services.clone())
    }

    fn channel_config(&self, name: &ChannelName) -> nsq_broker::ChannelConfig {
        let options = &self.services.options;
        let bounded = name.is_ephemeral() || self.name.is_ephemeral();
        nsq_broker::ChannelConfig {
            depth_max: bounded.then_some(options.mem_queue_size),
            max_msg_timeout: options.max_msg_timeout,
            seed: self.services.clock.now().0,
        }
    }

    pub(crate) fn is_exiting(&self) -> bool {
        self.exiting.load(Ordering::Acquire)
    }

    /// Appends the batch and fans it out; the batch is empty afterwards, or untouched after an error. Answers the
    /// end of the log behind the batch.
    pub(crate) fn publish(
        self: &Arc<Self>,
        batch: &mut BatchBuilder,
        defer: Option<Duration>,
    ) -> Result<u64, PublishError> {
        if self.is_exiting() {
            return Err(PublishError::Exiting);
        }
        if self.name.is_ephemeral() && self.is_full() {
            return Ok(self.drop_newest(batch));
        }
        let now = self.services.clock.now();
        let append = Append { timestamp_ns: now.0.cast_signed(), defer };
        let body_bytes = body_bytes(batch);
        let range = self.log.append(batch, append).map_err(|error| self.append_failed(error))?;
        self.count(range.end - range.start, body_bytes);
        self.ask_for_sync(range.end - range.start);
        let mut state = lock(&self.state);
        let end = range.end;
        if let Some(fan_out) = state.fan.publish(range, defer) {
            // It may bring what others have published since: their delays begin no earlier than they came.
            let now = if fan_out.deferred.is_empty() { now } else { self.services.clock.now() };
            for channel in state.channels.values() {
                channel.publish(&fan_out, now);
            }
        }
        if state.waiting > 0 {
            self.caught_up.notify_all();
        }
        if defer.is_some() {
            let mut state = self.caught_up_with(end, state);
            self.write_changes(&mut state)?;
        } else if self.name.is_ephemeral() {
            self.log.release(low(&state));
        }
        Ok(end)
    }

    /// Waits until everything below `end` has been fanned out, so that the journal can learn of it: whoever
    /// appended before is on another thread, and between its append and this lock.
    fn caught_up_with<'a>(
        &self,
        end: u64,
        mut state: MutexGuard<'a, State>,
    ) -> MutexGuard<'a, State> {
        if state.fan.end() < end {
            state.waiting += 1;
            let behind = |state: &mut State| state.fan.end() < end;
            let waited = self.caught_up.wait_while(state, behind);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state
    }

    /// Whether what is published now would wait at an ephemeral topic that holds as much as it may.
    fn is_full(&self) -> bool {
        let state = lock(&self.state);
        let waits = state.fan.is_paused() || state.channels.is_empty();
        waits && state.fan.depth() >= self.services.options.mem_queue_size
    }

    /// What an ephemeral topic has no room for is accepted, counted and gone, as in NSQ.
    fn drop_newest(&self, batch: &mut BatchBuilder) -> u64 {
        self.count(batch.count() as u64, body_bytes(batch));
        batch.clear();
        self.log.end()
    }

    fn count(&self, messages: u64, body_bytes: u64) {
        self.message_count.fetch_add(messages, Ordering::Relaxed);
        self.message_bytes.fetch_add(body_bytes, Ordering::Relaxed);
    }

    /// What a publisher is told. A topic that goes away is no fault of the disk.
    fn append_failed(&self, error: AppendError) -> PublishError {
        match error {
            AppendError::Deleted(_) | AppendError::Closed => return PublishError::Exiting,
            AppendError::Temporary(_) | AppendError::Stopped { .. } => {
                self.ail("messages not written", &error);
            }
            _ => {}
        }
        error.into()
    }

    fn ask_for_sync(self: &Arc<Self>, count: u64) {
        let options = &self.services.options;
        if self.name.is_ephemeral() {
            return;
        }
        let before = self.unsynced.fetch_add(count, Ordering::AcqRel);
        let enough = |unsynced| options.sync_every > 0 && unsynced >= options.sync_every;
        if options.waits_for_sync() || (enough(before + count) && !enough(before)) {
            self.services.syncer.now(self.clone());
        } else if before == 0 {
            self.services.syncer.later(self.clone());
        }
    }

    /// The channel, which is created when there is none of that name; whether it was is the second answer.
    ///
    /// # Errors
    /// When the topic is being deleted, or the journal cannot be written.
    pub(crate) fn channel_or_create(
        self: &Arc<Self>,
        name: &ChannelName,
    ) -> Result<(Arc<Channel>, bool), PublishError> {
        let mut state = lock(&self.state);
        if self.is_exiting() {
            return Err(PublishError::Exiting);
        }
        if let Some(channel) = state.channels.get(name).cloned() {
            if state.unwritten.contains(name) {
                self.write_snapshot(&mut state)?;
            }
            return Ok((channel, false));
        }
        let added = state.fan.add_channel();
        let schedule = nsq_broker::Channel::new(self.channel_config(name), added.start);
        let channel = Arc::new(self.channel(name.clone(), schedule));
        if let Some(fan_out) = &added.fan_out {
            channel.publish(fan_out, self.services.clock.now());
        }
        state.channels.insert(name.clone(), channel.clone());
        self.services.logger.info(format_args!("TOPIC({}): new channel({name})", self.name));
        if !name.is_ephemeral() {
            state.unwritten.push(name.clone());
            self.write_snapshot(&mut state)?;
        }
        Ok((channel, true))
    }

    pub(crate) fn existing_channel(&self, name: &str) -> Option<Arc<Channel>> {
        lock(&self.state).channels.get(name).cloned()
    }

    /// Every channel, by name.
    pub(crate) fn channels(&self) -> Vec<Arc<Channel>> {
        lock(&self.state).channels.values().cloned().collect()
    }

    /// Deletes a channel with all that waits in it. Answers whether it was there.
    pub(crate) fn delete_channel(&self, channel: &Channel) -> Result<bool, nsq_log::Error> {
        let mut state = lock(&self.state);
        // Another one of that name may have taken its place.
        let current = state.channels.get(&channel.name);
        if current.is_none_or(|current| !std::ptr::eq(&**current, channel)) {
            return Ok(false);
        }
        state.channels.remove(&channel.name);
        self.services.logger.info(format_args!("CHANNEL({}): deleting", channel.name));
        channel.exit();
        state.fan.remove_channel();
        if !channel.name.is_ephemeral() {
            let record = [JournalRecord::ChannelDeleted { channel: &channel.name }];
            self.note(self.log.journal(&record, self.services.clock.now().0))?;
            self.write_snapshot(&mut state)?;
        }
        Ok(true)
    }

    /// Ends the topic for good or for a restart: nothing is accepted any more, every client of it is closed.
    /// Answers whether it had not been ended before.
    pub(crate) fn exit(&self) -> bool {
        let first = !self.exiting.swap(true, Ordering::AcqRel);
        for channel in self.channels() {
            channel.exit();
        }
        first
    }

    /// Ends the topic for good if it has no channels; answers whether it did.
    pub(crate) fn exit_if_unused(&self) -> bool {
        let state = lock(&self.state);
        state.channels.is_empty() && !self.exiting.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn pause(&self) -> Result<(), nsq_log::Error> {
        let mut state = lock(&self.state);
        state.paused = true;
        state.fan.pause();
        self.write_snapshot(&mut state)
    }

    /// Holds messages back until [`Topic::let_go`], without being paused for anyone to see.
    pub(crate) fn hold(&self) {
        let mut state = lock(&self.state);
        state.held = true;
        state.fan.pause();
    }

    /// Ends [`Topic::hold`].
    pub(crate) fn let_go(&self) {
        let mut state = lock(&self.state);
        state.held = false;
        self.go_on(&mut state);
    }

    /// Gives the channels what was held back, if nothing holds it any more.
    fn go_on(&self, state: &mut State) {
        if state.paused || state.held {
            return;
        }
        if let Some(fan_out) = state.fan.unpause() {
            let now = self.services.clock.now();
            for channel in state.channels.values() {
                channel.publish(&fan_out, now);
            }
        }
    }

    pub(crate) fn unpause(&self) -> Result<(), nsq_log::Error> {
        let mut state = lock(&self.state);
        state.paused = false;
        self.go_on(&mut state);
        self.write_snapshot(&mut state)
    }

    /// Drops what waits at the topic; channels keep theirs.
    pub(crate) fn empty(&self) -> Result<(), nsq_log::Error> {
        let mut state = lock(&self.state);
        state.fan.empty();
        let fanout = state.fan.fanout();
        for channel in state.channels.values() {
            channel.act(|schedule, _| schedule.skip(fanout));
        }
        self.write_snapshot(&mut state)
    }

    pub(crate) fn is_paused(&self) -> bool {
        lock(&self.state).paused
    }

    pub(crate) fn counts(&self) -> TopicCounts {
        let state = lock(&self.state);
        let tail_start = self.log.tail_start();
        TopicCounts {
            depth: state.fan.depth(),
            backend_depth: tail_start.min(state.fan.end()).saturating_sub(state.fan.fanout()),
            message_count: self.message_count.load(Ordering::Relaxed),
            message_bytes: self.message_bytes.load(Ordering::Relaxed),
            paused: state.paused,
        }
    }

    /// Has the keeper write this topic's journal soon.
    pub(crate) fn mark_dirty(self: &Arc<Self>) {
        if !self.dirty.swap(true, Ordering::AcqRel) {
            self.services.keeper.visit(self.clone());
        }
    }
}

fn body_bytes(batch: &BatchBuilder) -> u64 {
    (batch.bytes() - batch.count() * MESSAGE_FRAME_HEAD_BYTES) as u64
}

/// Every message below is finished with in every channel, and not waiting at the topic.
fn low(state: &State) -> u64 {
    let fanout = state.fan.fanout();
    state
        .channels
        .values()
        .map(|channel| channel.see(nsq_broker::Channel::low))
        .fold(fanout, u64::min)
}
