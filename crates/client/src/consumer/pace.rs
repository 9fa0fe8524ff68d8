//! The consumer's flow control, shared by its connections, its workers and the task that watches its clock.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU8, Ordering},
};

use tokio::{
    select,
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{event::Emitter, flow::Flow, subscriber::Subscriber};
use crate::{
    backoff::{Outcome, Phase},
    config::Config,
    sync::lock,
};

/// A [`Flow`] under its lock, with what can be known without it.
pub(crate) struct Pace {
    state: Mutex<State>,
    /// The [`Phase`], so that answers do not need the lock as long as they change nothing.
    phase: AtomicU8,
    backs_off: bool,
    /// Something is due earlier than the task believes.
    earlier: Notify,
    pub(crate) events: Emitter,
}

struct State {
    flow: Flow,
    /// When the task will look next; `None` for never.
    alarm: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(config: &Config, events: Emitter) -> Self {
        Self {
            state: Mutex::new(State { flow: Flow::new(config, events.clone()), alarm: None }),
            phase: AtomicU8::new(Phase::Off as u8),
            backs_off: !config.max_backoff_duration.is_zero(),
            earlier: Notify::new(),
            events,
        }
    }

    /// Looks at the flow.
    pub(crate) fn with_flow<T>(&self, look: impl FnOnce(&Flow) -> T) -> T {
        look(&lock(&self.state).flow)
    }

    /// Changes the flow.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Flow, Instant) -> T) -> T {
        let mut state = lock(&self.state);
        let result = change(&mut state.flow, Instant::now());
        self.phase.store(state.flow.phase() as u8, Ordering::Release);
        if let Some(next) = state.flow.next_time()
            && state.alarm.is_none_or(|alarm| next < alarm)
        {
            self.earlier.notify_one();
        }
        result
    }

    /// A message is about to be answered: what follows for the flow is said before the answer.
    #[inline]
    pub(crate) fn on_outcome(&self, outcome: Outcome) {
        // Success changes nothing unless it was waited for: the usual case, and all that is to be done then.
        if outcome == Outcome::Failure || self.phase.load(Ordering::Acquire) == Phase::Trying as u8
        {
            self.on_telling_outcome(outcome);
        }
    }

    #[cold]
    fn on_telling_outcome(&self, outcome: Outcome) {
        if self.backs_off && self.phase.load(Ordering::Acquire) != Phase::Pausing as u8 {
            self.change(|flow, now| flow.handle_outcome(outcome, now));
        }
    }

    /// Lets time pass, for ever. Costs nothing as long as nothing is due.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let alarm = {
                let mut state = lock(&self.state);
                state.flow.handle_time(Instant::now());
                self.phase.store(state.flow.phase() as u8, Ordering::Release);
                state.alarm = state.flow.next_time();
                state.alarm
            };
            let earlier = self.earlier.notified();
            match alarm {
                None => earlier.await,
                Some(alarm) => select! {
                    () = earlier => {}
                    () = sleep_until(alarm) => {}
                },
            }
        }
    }

    /// Takes a connection out.
    pub(crate) fn remove(&self, subscriber: &Arc<Subscriber>) {
        self.change(|flow, now| flow.remove(subscriber, now));
    }
}
