//! A consumer's flow control, shared by its connections, its workers and the task that watches its clock.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU8, Ordering},
};

use tokio::{
    select,
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{
    event::{Emitter, Event},
    flow::{Flow, Subscribed},
    subscriber::Subscriber,
};
use crate::{
    backoff::{Change, Outcome, Phase},
    config::Config,
    sync::lock,
};

/// A [`Flow`] under its lock, and the part of it that can be read without.
pub(crate) struct Pace {
    timed: Mutex<TimedFlow>,
    /// The [`Phase`]: answers that change nothing do without the lock.
    phase: AtomicU8,
    backs_off: bool,
    /// Wakes the clock's task because something is due before its alarm.
    due_earlier: Notify,
    pub(crate) events: Emitter,
}

struct TimedFlow {
    flow: Flow<Arc<Subscriber>>,
    /// When the clock's task wakes up; `None` for never.
    alarm: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(config: &Config, events: Emitter) -> Self {
        Self {
            timed: Mutex::new(TimedFlow { flow: Flow::new(config), alarm: None }),
            phase: AtomicU8::new(Phase::Off as u8),
            backs_off: !config.max_backoff_duration.is_zero(),
            due_earlier: Notify::new(),
            events,
        }
    }

    /// Gives a new connection its share.
    pub(crate) fn add(&self, subscriber: &Arc<Subscriber>) {
        self.change(|flow, now| {
            if flow.max_in_flight() > subscriber.rdy_count_max() {
                tracing::warn!(
                    nsqd = subscriber.address(),
                    max_rdy_count = subscriber.rdy_count_max(),
                    max_in_flight = flow.max_in_flight(),
                    "max_in_flight exceeds what nsqd allows one connection"
                );
            }
            flow.add(Arc::clone(subscriber), now);
        });
    }

    /// Gives the share of a connection to the others.
    pub(crate) fn remove(&self, subscriber: &Arc<Subscriber>) {
        self.change(|flow, now| flow.remove(subscriber, now));
    }

    /// Removes and returns all connections.
    pub(crate) fn drain(&self) -> Vec<Arc<Subscriber>> {
        self.change(|flow, _| flow.drain())
    }

    pub(crate) fn change_max_in_flight(&self, max_in_flight: u32) {
        self.change(|flow, now| flow.change_max_in_flight(max_in_flight, now));
    }

    pub(crate) fn subscribers(&self) -> Vec<Arc<Subscriber>> {
        lock(&self.timed).flow.connections().cloned().collect()
    }

    /// See [`Flow::is_starved`].
    pub(crate) fn is_starved(&self) -> bool {
        lock(&self.timed).flow.is_starved()
    }

    /// Handles the outcome of a message that is about to be answered; RDY commands that follow from it are sent first.
    #[inline]
    pub(crate) fn on_outcome(&self, outcome: Outcome) {
        // Unless backing off waits for one, a success changes nothing: the usual case, kept short.
        if outcome == Outcome::Failure || self.phase.load(Ordering::Acquire) == Phase::Trying as u8
        {
            self.on_telling_outcome(outcome);
        }
    }

    #[cold]
    fn on_telling_outcome(&self, outcome: Outcome) {
        if self.backs_off && self.phase.load(Ordering::Acquire) != Phase::Pausing as u8 {
            self.change(|flow, now| self.report(flow.handle_outcome(outcome, now)));
        }
    }

    fn report(&self, change: Change) {
        match change {
            Change::Nothing => {}
            Change::Pause { level, length } => {
                tracing::warn!(level, pause = ?length, "backing off");
                self.events.emit(|| Event::BackedOff { level, pause: length });
            }
            Change::Resume => {
                tracing::info!("no longer backing off");
                self.events.emit(|| Event::Resumed);
            }
        }
    }

    /// Changes the flow and sends the commands that follow.
    fn change<T>(&self, change: impl FnOnce(&mut Flow<Arc<Subscriber>>, Instant) -> T) -> T {
        let mut timed = lock(&self.timed);
        let result = change(&mut timed.flow, Instant::now());
        self.send(&mut timed.flow);
        if let Some(next) = timed.flow.next_time()
            && timed.alarm.is_none_or(|alarm| next < alarm)
        {
            self.due_earlier.notify_one();
        }
        result
    }

    /// Sends what the flow has to say. Under its lock, so that commands keep their order.
    fn send(&self, flow: &mut Flow<Arc<Subscriber>>) {
        self.phase.store(flow.phase() as u8, Ordering::Release);
        while let Some((subscriber, rdy)) = flow.poll_rdy() {
            subscriber.ready(rdy);
            tracing::debug!(nsqd = subscriber.address(), rdy, "RDY");
        }
    }

    /// Watches the flow's clock, for ever. Costs nothing while nothing is due.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let alarm = {
                let mut timed = lock(&self.timed);
                timed.flow.handle_time(Instant::now());
                self.send(&mut timed.flow);
                timed.alarm = timed.flow.next_time();
                timed.alarm
            };
            let earlier = self.due_earlier.notified();
            match alarm {
                None => earlier.await,
                Some(alarm) => select! {
                    () = earlier => {}
                    () = sleep_until(alarm) => {}
                },
            }
        }
    }
}
