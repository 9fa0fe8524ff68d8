//! The engine of a consumer: its connections and workers, and how they stop.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nsq_protocol::{ChannelName, TopicName};
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    Stats, StopMode, StopReport,
    discovery::Discovery,
    event::Emitter,
    link::{Link, Wish},
    pace::Pace,
    subscriber::{AnswerRules, Counts, Subscriber},
    worker::Work,
};
use crate::{
    config::Config,
    error::{ConnectError, ConnectionError, DiscoveryError, NotConnected},
    sync::lock,
};

/// Spawns the workers of one handler.
pub(crate) type StartWorkers = Box<dyn FnOnce(&mut JoinSet<()>, &Arc<Work>) + Send>;

/// A consumer, as its tasks see it.
pub(crate) struct Engine {
    pub(crate) topic: TopicName,
    pub(crate) channel: ChannelName,
    pub(crate) config: Config,
    pub(crate) rules: AnswerRules,
    pub(crate) work: Arc<Work>,
    pub(crate) answers_lost: Arc<AtomicU64>,
    pub(crate) events: Emitter,
    pub(crate) discovery: Discovery,
    /// Connections enter and leave only while the state is locked, so that each one is here, leaving, or ended.
    pub(crate) pace: Arc<Pace>,
    state: Mutex<ConsumerState>,
    /// The result of the stop, once it is over.
    stopped: watch::Sender<Option<StopReport>>,
}

struct ConsumerState {
    /// There are handlers, or messages are pulled.
    has_takers: bool,
    waiting_workers: Vec<StartWorkers>,
    /// The nsqds to keep connected.
    addresses: HashMap<String, Address>,
    /// The nsqds that the application disconnected from; discovery must not reconnect to them.
    excluded: HashSet<String>,
    /// Connections that are closing and no longer receive messages.
    leaving: Vec<Arc<Subscriber>>,
    /// The counters of connections that have ended.
    ended: Counts,
    links: JoinSet<()>,
    workers: JoinSet<()>,
    /// Other tasks, aborted when the consumer stops.
    background: JoinSet<()>,
    /// The task that watches the flow's clock has been spawned.
    is_paced: bool,
    runtime: Option<Handle>,
    stopping: bool,
}

/// An nsqd to keep connected.
struct Address {
    wish: Wish,
    /// Tells the link to give up when dropped.
    _link: oneshot::Sender<Infallible>,
    /// When the connection was lost, or first wanted; `None` while there is one.
    away_since: Option<Instant>,
}

/// Resolves with the result of the first attempt to connect.
pub(crate) type FirstAttempt = oneshot::Receiver<Result<(), ConnectError>>;

impl Engine {
    pub(crate) fn new(
        names: (TopicName, ChannelName),
        config: Config,
        rules: AnswerRules,
        work: Arc<Work>,
        discovery: Discovery,
        waiting_workers: Vec<StartWorkers>,
        is_pulled: bool,
    ) -> Self {
        let state = ConsumerState {
            has_takers: is_pulled || !waiting_workers.is_empty(),
            waiting_workers,
            addresses: HashMap::new(),
            excluded: HashSet::new(),
            leaving: Vec::new(),
            ended: Counts::default(),
            links: JoinSet::new(),
            workers: JoinSet::new(),
            background: JoinSet::new(),
            is_paced: false,
            runtime: None,
            stopping: false,
        };
        let (topic, channel) = names;
        let events = work.events.clone();
        let pace = Arc::new(Pace::new(&config, events.clone()));
        Self {
            topic,
            channel,
            config,
            rules,
            work,
            answers_lost: Arc::default(),
            events,
            discovery,
            pace,
            state: Mutex::new(state),
            stopped: watch::Sender::new(None),
        }
    }

    /// Starts to keep the nsqd at `address` connected.
    pub(crate) fn link(
        self: &Arc<Self>,
        address: &str,
        wish: Wish,
    ) -> Result<FirstAttempt, ConnectError> {
        let mut state = lock(&self.state);
        if state.stopping {
            return Err(ConnectError::Stopped);
        }
        if !state.has_takers {
            return Err(ConnectError::NoHandlers);
        }
        if state.addresses.contains_key(address) {
            return Err(ConnectError::AlreadyConnected(address.to_owned()));
        }
        state.excluded.remove(address);
        let ConsumerState { waiting_workers, workers, links, .. } = &mut *state;
        waiting_workers.drain(..).for_each(|start| start(workers, &self.work));
        let (wanted, given_up) = oneshot::channel();
        let (report, first_attempt) = oneshot::channel();
        let link = Link::new(Arc::clone(self), address, given_up);
        // Reaps links that have ended.
        while links.try_join_next().is_some() {}
        links.spawn(link.run(report, wish));
        let entry = Address { wish, _link: wanted, away_since: Some(Instant::now()) };
        state.addresses.insert(address.to_owned(), entry);
        if !std::mem::replace(&mut state.is_paced, true) {
            state.background.spawn(Arc::clone(&self.pace).run());
        }
        state.runtime.get_or_insert_with(Handle::current);
        Ok(first_attempt)
    }

    /// Starts to keep a discovered nsqd connected, unless it already is or the application has disconnected from it.
    pub(crate) fn link_discovered(self: &Arc<Self>, address: &str) -> Option<FirstAttempt> {
        if lock(&self.state).excluded.contains(address) {
            return None;
        }
        self.link(address, Wish::Discovered).ok()
    }

    /// Returns the number of nsqds to keep connected.
    pub(crate) fn nsqd_count(&self) -> usize {
        lock(&self.state).addresses.len()
    }

    /// Returns whether the nsqd at `address` is one to keep connected.
    pub(crate) fn keeps(&self, address: &str) -> bool {
        lock(&self.state).addresses.contains_key(address)
    }

    /// Forgets discovered nsqds that cannot be reached and that no nsqlookupd knows any longer.
    pub(crate) fn forget_vanished(&self, found: &HashSet<String>) {
        let grace = self.config.lookupd_poll_interval;
        lock(&self.state).addresses.retain(|address, entry| {
            let kept = entry.wish != Wish::Discovered
                || found.contains(address)
                || entry.away_since.is_none_or(|since| since.elapsed() < grace);
            if !kept {
                let (topic, channel) = (&self.topic, &self.channel);
                tracing::info!(nsqd = address, %topic, %channel, "forgotten: unreachable, and unknown to nsqlookupd");
            }
            kept
        });
    }

    /// Checks that nsqlookupds may be added.
    pub(crate) fn accepts_lookupds(&self) -> Result<(), DiscoveryError> {
        let state = lock(&self.state);
        if state.stopping {
            return Err(DiscoveryError::Stopped);
        }
        if !state.has_takers {
            return Err(DiscoveryError::NoHandlers);
        }
        Ok(())
    }

    /// Spawns `task`, which is aborted when the consumer stops.
    pub(crate) fn spawn_background(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), DiscoveryError> {
        let mut state = lock(&self.state);
        if state.stopping {
            return Err(DiscoveryError::Stopped);
        }
        state.background.spawn(task);
        state.runtime.get_or_insert_with(Handle::current);
        Ok(())
    }

    /// Forgets an nsqd whose link has given up.
    pub(crate) fn forget(&self, address: &str) {
        lock(&self.state).addresses.remove(address);
    }

    /// Gives a new connection its share. Returns false if the connection is no longer wanted.
    pub(crate) fn on_subscribed(
        &self,
        subscriber: &Arc<Subscriber>,
        is_wanted: impl FnOnce() -> bool,
    ) -> bool {
        let mut state = lock(&self.state);
        let wanted = !state.stopping && is_wanted();
        if wanted {
            if let Some(entry) = state.addresses.get_mut(subscriber.address()) {
                entry.away_since = None;
            }
            self.pace.add(subscriber);
        }
        wanted
    }

    /// Gives the share of a connection that has ended to the others.
    pub(crate) fn on_ended(&self, subscriber: &Arc<Subscriber>, reason: &ConnectionError) {
        subscriber.outbox().end(reason.clone(), |_| ());
        let mut state = lock(&self.state);
        state.ended.add(subscriber.counts());
        let was_leaving = state.leaving.iter().position(|leaving| Arc::ptr_eq(leaving, subscriber));
        match was_leaving {
            // There may be another connection to the same address by now.
            Some(position) => drop(state.leaving.swap_remove(position)),
            None => {
                if let Some(entry) = state.addresses.get_mut(subscriber.address()) {
                    entry.away_since = Some(Instant::now());
                }
            }
        }
        if !state.stopping {
            self.pace.remove(subscriber);
        }
    }

    /// Disconnects from the nsqd at `address`.
    pub(crate) fn unlink(&self, address: &str) -> Result<(), NotConnected> {
        let mut state = lock(&self.state);
        if state.addresses.remove(address).is_none() {
            return Err(NotConnected(address.to_owned()));
        }
        state.excluded.insert(address.to_owned());
        let connected = self.pace.subscribers().into_iter().find(|s| s.address() == address);
        if let Some(subscriber) = connected {
            self.pace.remove(&subscriber);
            subscriber.close_when_answered();
            state.leaving.push(subscriber);
        }
        Ok(())
    }

    pub(crate) fn change_max_in_flight(&self, max_in_flight: u32) {
        self.pace.change_max_in_flight(max_in_flight);
    }

    pub(crate) fn is_starved(&self) -> bool {
        self.pace.is_starved()
    }

    pub(crate) fn stats(&self) -> Stats {
        let state = lock(&self.state);
        let mut counts = state.ended;
        let mut in_flight = 0;
        let connected = self.pace.subscribers();
        for subscriber in connected.iter().chain(&state.leaving) {
            let connection = subscriber.counts();
            in_flight += connection.in_flight();
            counts.add(connection);
        }
        Stats {
            messages_received: counts.received,
            messages_finished: counts.answers.finished,
            messages_requeued: counts.answers.requeued,
            messages_given_up: self.work.given_up.load(Ordering::Relaxed),
            messages_in_flight: in_flight,
            handler_panics: self.work.panics.load(Ordering::Relaxed),
            answers_lost: self.answers_lost.load(Ordering::Relaxed),
            answers_refused: counts.refused,
            connections: connected.len() + state.leaving.len(),
        }
    }

    /// Starts to stop, unless the consumer is already stopping.
    pub(crate) fn stop(self: &Arc<Self>, mode: StopMode, limit: Duration) {
        let before = self.stats();
        let (links, workers, background, runtime) = {
            let mut state = lock(&self.state);
            if std::mem::replace(&mut state.stopping, true) {
                return;
            }
            state.addresses.clear();
            let connected = self.pace.drain();
            state.leaving.extend(connected);
            state.leaving.iter().for_each(|subscriber| subscriber.close_when_answered());
            let (links, workers) =
                (std::mem::take(&mut state.links), std::mem::take(&mut state.workers));
            (links, workers, std::mem::take(&mut state.background), state.runtime.take())
        };

        tracing::info!(topic = %self.topic, channel = %self.channel, ?mode, "stopping");
        if mode == StopMode::RequeueBuffered {
            self.work.queue.requeue_all();
        }
        match runtime {
            Some(runtime) => {
                let deadline = Instant::now() + limit;
                let drain = Arc::clone(self).drain(links, workers, background, before, deadline);
                // Detached: the task outlives the handles and ends at the deadline.
                drop(runtime.spawn(drain));
            }
            None => self.finish_stop(StopReport::default()),
        }
    }

    /// Returns the result of the stop, once it is over.
    pub(crate) fn stopped(&self) -> watch::Receiver<Option<StopReport>> {
        self.stopped.subscribe()
    }

    async fn drain(
        self: Arc<Self>,
        mut links: JoinSet<()>,
        mut workers: JoinSet<()>,
        mut background: JoinSet<()>,
        before: Stats,
        deadline: Instant,
    ) {
        let mut report = StopReport::default();
        background.shutdown().await;
        if timeout_at(deadline, join_all(&mut links)).await.is_err() {
            report.messages_abandoned = self.stats().messages_in_flight;
            for subscriber in &lock(&self.state).leaving {
                subscriber.outbox().close_now();
            }
            join_all(&mut links).await;
        }
        self.work.queue.close();
        if timeout_at(deadline, join_all(&mut workers)).await.is_err() {
            // Handlers that still run are left running; their workers end after them.
            workers.detach_all();
        }
        let after = self.stats();
        report.messages_finished = after.messages_finished - before.messages_finished;
        report.messages_requeued = after.messages_requeued - before.messages_requeued;
        self.finish_stop(report);
    }

    fn finish_stop(&self, report: StopReport) {
        self.work.queue.close();
        tracing::info!(topic = %self.topic, channel = %self.channel, ?report, "stopped");
        self.stopped.send_replace(Some(report));
    }
}

async fn join_all(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}
