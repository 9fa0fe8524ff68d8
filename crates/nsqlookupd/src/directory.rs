//! State shared by sessions and HTTP handlers.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use nsq_broker::{
    Time,
    registry::{ProducerId, Progress, Registration, Registry},
};
use nsq_daemon::log::{Limited, Logger};
use tokio::{sync::Semaphore, task::yield_now};

use crate::{
    clock::Clock,
    limit::{ANSWERS_UNREAD_MAX, LONG_ANSWERS_MAX, Limit},
    metrics::Metrics,
    options::Options,
};

/// The entries that a change or a query may take from the registry at once. The lock is held for a fraction of a
/// millisecond that way.
pub(crate) const STEP: usize = 1000;

/// The registry and the means to serve it.
pub(crate) struct Directory {
    pub(crate) logger: Logger,
    /// For lines that clients cause: so many a second from all of them together.
    pub(crate) clients_log: Limited,
    pub(crate) metrics: Metrics,
    pub(crate) options: Options,
    pub(crate) turns: Turns,
    /// Sent to nsqd together with the broadcast address.
    pub(crate) tcp_port: u16,
    pub(crate) http_port: u16,
    clock: Clock,
    state: Mutex<State>,
    next_producer: AtomicU64,
}

/// The turns of long answers.
pub(crate) struct Turns {
    pub(crate) long: Arc<Semaphore>,
    pub(crate) debug: Arc<Semaphore>,
    /// Kilobytes of answers that clients have not read yet.
    pub(crate) unread: Arc<Semaphore>,
}

struct State {
    registry: Registry,
    /// The names forgotten for want of producers that were counted and logged.
    forgotten: u64,
}

impl Directory {
    /// An empty directory, served at these ports.
    pub(crate) fn new(options: Options, logger: Logger, tcp_port: u16, http_port: u16) -> Self {
        let registry = Registry::new(options.registry());
        Self {
            clients_log: Limited::to_all(&logger, "clients"),
            logger,
            metrics: Metrics::default(),
            turns: Turns::new(options.answer_bytes_max),
            options,
            tcp_port,
            http_port,
            clock: Clock::start(),
            state: Mutex::new(State { registry, forgotten: 0 }),
            next_producer: AtomicU64::new(0),
        }
    }

    /// Returns an unused producer id.
    pub(crate) fn next_producer_id(&self) -> ProducerId {
        ProducerId(self.next_producer.fetch_add(1, Ordering::Relaxed))
    }

    /// Reads or changes the registry under its lock. Format and log afterwards: all other clients wait.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Registry, Time) -> T) -> T {
        // A panic of another holder leaves the registry good enough to serve, and nsqd registers everything again.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that time never goes back between two holders.
        let now = self.clock.now();
        let outcome = work(&mut state.registry, now);
        let count = state.registry.forgotten_count();
        let forgotten = count - std::mem::replace(&mut state.forgotten, count);
        drop(state);
        if forgotten > 0 {
            self.report_forgotten(forgotten);
        }
        outcome
    }

    fn report_forgotten(&self, count: u64) {
        self.metrics.reached.count(Limit::Orphans, count);
        let max = self.options.orphans_max;
        let line = format_args!(
            "DB: forgot {count} topics and channels without producers, --max-orphans is {max}"
        );
        self.clients_log.warn("forgotten names", line);
    }

    /// As [`Directory::in_steps`], on a thread that may block.
    pub(crate) fn in_steps_blocking(
        &self,
        mut step: impl FnMut(&mut Registry, Time) -> Progress,
        mut removed: impl FnMut(Registration),
    ) {
        while !self.step(&mut step, &mut removed) {
            thread::yield_now();
        }
    }

    /// Makes a change to its end, in steps between which others get their turn.
    pub(crate) async fn in_steps(
        &self,
        mut step: impl FnMut(&mut Registry, Time) -> Progress,
        mut removed: impl FnMut(Registration),
    ) {
        while !self.step(&mut step, &mut removed) {
            yield_now().await;
        }
    }

    /// Makes one step of a change, and returns whether it was the last.
    fn step(
        &self,
        step: impl FnOnce(&mut Registry, Time) -> Progress,
        removed: impl FnMut(Registration),
    ) -> bool {
        let progress = self.with(step);
        progress.removed.into_iter().for_each(removed);
        progress.is_done
    }
}

impl Turns {
    fn new(answer_bytes_max: usize) -> Self {
        // In kilobytes, as `http::long` counts them.
        let unread = (ANSWERS_UNREAD_MAX * answer_bytes_max) >> 10;
        Self {
            long: Arc::new(Semaphore::new(LONG_ANSWERS_MAX)),
            debug: Arc::new(Semaphore::new(1)),
            unread: Arc::new(Semaphore::new(unread.min(Semaphore::MAX_PERMITS))),
        }
    }
}
