//! What the parts of a consumer share: its connections, its workers, and how it stops.

use std::{
    collections::HashMap,
    convert::Infallible,
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
    flow::Flow,
    link::Link,
    subscriber::{AnswerRules, Counts, Subscriber},
    worker::Work,
};
use crate::{
    config::Config,
    error::{ConnectError, ConnectionError, NotConnected},
    sync::lock,
};

/// Starts the workers of one handler.
pub(crate) type StartWorkers = Box<dyn FnOnce(&mut JoinSet<()>, &Arc<Work>) + Send>;

/// A consumer without its handles.
pub(crate) struct Engine {
    pub(crate) topic: TopicName,
    pub(crate) channel: ChannelName,
    pub(crate) config: Config,
    pub(crate) rules: AnswerRules,
    pub(crate) work: Arc<Work>,
    pub(crate) answers_lost: Arc<AtomicU64>,
    state: Mutex<State>,
    /// What a stop came to, once it is over.
    stopped: watch::Sender<Option<StopReport>>,
}

struct State {
    /// Whether someone takes messages out of the queue.
    has_takers: bool,
    waiting_workers: Vec<StartWorkers>,
    /// The addresses to be connected to; dropping a sender tells the link to give up.
    addresses: HashMap<String, oneshot::Sender<Infallible>>,
    flow: Flow,
    /// Connections that are closing, which get no share any more.
    leaving: Vec<Arc<Subscriber>>,
    /// The counters of connections that have ended.
    ended: Counts,
    links: JoinSet<()>,
    workers: JoinSet<()>,
    runtime: Option<Handle>,
    stopping: bool,
}

/// The future that tells how the first attempt to connect went.
pub(crate) type FirstAttempt = oneshot::Receiver<Result<(), ConnectError>>;

impl Engine {
    pub(crate) fn new(
        names: (TopicName, ChannelName),
        config: Config,
        rules: AnswerRules,
        work: Arc<Work>,
        waiting_workers: Vec<StartWorkers>,
        is_pulled: bool,
    ) -> Self {
        let state = State {
            has_takers: is_pulled || !waiting_workers.is_empty(),
            waiting_workers,
            addresses: HashMap::new(),
            flow: Flow::new(config.max_in_flight),
            leaving: Vec::new(),
            ended: Counts::default(),
            links: JoinSet::new(),
            workers: JoinSet::new(),
            runtime: None,
            stopping: false,
        };
        let (topic, channel) = names;
        Self {
            topic,
            channel,
            config,
            rules,
            work,
            answers_lost: Arc::default(),
            state: Mutex::new(state),
            stopped: watch::Sender::new(None),
        }
    }

    /// Starts to keep a connection to `address`. When `keep_trying` is false, the failure of the first attempt ends
    /// it.
    pub(crate) fn link(
        self: &Arc<Self>,
        address: &str,
        keep_trying: bool,
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
        let State { waiting_workers, workers, links, .. } = &mut *state;
        waiting_workers.drain(..).for_each(|start| start(workers, &self.work));
        let (wanted, given_up) = oneshot::channel();
        let (report, first_attempt) = oneshot::channel();
        let link = Link::new(Arc::clone(self), address, given_up);
        // Links that have ended leave their results behind.
        while links.try_join_next().is_some() {}
        links.spawn(link.run(report, keep_trying));
        state.addresses.insert(address.to_owned(), wanted);
        state.runtime.get_or_insert_with(Handle::current);
        Ok(first_attempt)
    }

    /// A link gives up its address.
    pub(crate) fn forget(&self, address: &str) {
        lock(&self.state).addresses.remove(address);
    }

    /// A connection has been subscribed, and gets its share if it is still wanted.
    pub(crate) fn on_subscribed(
        &self,
        subscriber: &Arc<Subscriber>,
        is_wanted: impl FnOnce() -> bool,
    ) -> bool {
        let mut state = lock(&self.state);
        let wanted = !state.stopping && is_wanted();
        if wanted {
            state.flow.add(Arc::clone(subscriber));
        }
        wanted
    }

    /// A connection has ended; the others get its share.
    pub(crate) fn on_ended(&self, subscriber: &Arc<Subscriber>, reason: &ConnectionError) {
        subscriber.outbox().end(reason.clone(), |_| ());
        let mut state = lock(&self.state);
        state.ended.add(subscriber.counts());
        state.leaving.retain(|leaving| !Arc::ptr_eq(leaving, subscriber));
        if !state.stopping {
            state.flow.remove(subscriber);
        }
    }

    pub(crate) fn unlink(&self, address: &str) -> Result<(), NotConnected> {
        let mut state = lock(&self.state);
        if state.addresses.remove(address).is_none() {
            return Err(NotConnected(address.to_owned()));
        }
        let found = state.flow.subscribers().find(|s| s.address() == address).cloned();
        if let Some(subscriber) = found {
            state.flow.remove(&subscriber);
            subscriber.close_when_answered();
            state.leaving.push(subscriber);
        }
        Ok(())
    }

    pub(crate) fn change_max_in_flight(&self, max_in_flight: u32) {
        let mut state = lock(&self.state);
        if !state.stopping {
            state.flow.change_max_in_flight(max_in_flight);
        }
    }

    pub(crate) fn is_starved(&self) -> bool {
        lock(&self.state).flow.is_starved()
    }

    pub(crate) fn stats(&self) -> Stats {
        let state = lock(&self.state);
        let mut counts = state.ended;
        let mut in_flight = 0;
        for subscriber in state.flow.subscribers().chain(&state.leaving) {
            let of_one = subscriber.counts();
            in_flight += of_one.in_flight();
            counts.add(of_one);
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
            connections: state.flow.len() + state.leaving.len(),
        }
    }

    /// Starts to stop, unless that has been done before.
    pub(crate) fn stop(self: &Arc<Self>, mode: StopMode, limit: Duration) {
        let before = self.stats();
        let (links, workers, runtime) = {
            let mut state = lock(&self.state);
            if std::mem::replace(&mut state.stopping, true) {
                return;
            }
            state.addresses.clear();
            let State { flow, leaving, .. } = &mut *state;
            leaving.extend(flow.drain());
            leaving.iter().for_each(|subscriber| subscriber.close_when_answered());
            let (links, workers) =
                (std::mem::take(&mut state.links), std::mem::take(&mut state.workers));
            (links, workers, state.runtime.take())
        };
        tracing::info!(topic = %self.topic, channel = %self.channel, ?mode, "stopping");
        if mode == StopMode::RequeueBuffered {
            self.work.queue.requeue_all();
        }
        match runtime {
            Some(runtime) => {
                let deadline = Instant::now() + limit;
                let drain = Arc::clone(self).drain(links, workers, before, deadline);
                // The task outlives the handles, and ends at the deadline.
                drop(runtime.spawn(drain));
            }
            None => self.finish_stop(StopReport::default()),
        }
    }

    /// What the stop came to, once it is over.
    pub(crate) fn stopped(&self) -> watch::Receiver<Option<StopReport>> {
        self.stopped.subscribe()
    }

    async fn drain(
        self: Arc<Self>,
        mut links: JoinSet<()>,
        mut workers: JoinSet<()>,
        before: Stats,
        deadline: Instant,
    ) {
        let mut report = StopReport::default();
        if timeout_at(deadline, join_all(&mut links)).await.is_err() {
            report.messages_abandoned = self.stats().messages_in_flight;
            for subscriber in &lock(&self.state).leaving {
                subscriber.outbox().close_now();
            }
            join_all(&mut links).await;
        }
        self.work.queue.close();
        if timeout_at(deadline, join_all(&mut workers)).await.is_err() {
            // Handlers that are still at it are left alone; their workers end after them.
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
