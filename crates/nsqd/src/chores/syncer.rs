//! The thread that flushes logs to the disk: for whoever waits for it, and for the rest every so often.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use crate::{lock::lock, topic::Topic};

/// Topics whose log has to be flushed. Everyone who waits for a topic shares one flush.
#[derive(Default)]
pub(crate) struct Syncer {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    now: Vec<Arc<Topic>>,
    later: Vec<Arc<Topic>>,
    stopping: bool,
}

impl Syncer {
    /// Flushes the topic as soon as the disk is free.
    pub(crate) fn now(&self, topic: Arc<Topic>) {
        lock(&self.state).now.push(topic);
        self.changed.notify_one();
    }

    /// Flushes the topic when the interval is over.
    pub(crate) fn later(&self, topic: Arc<Topic>) {
        let mut state = lock(&self.state);
        state.later.push(topic);
        if state.later.len() == 1 {
            self.changed.notify_one();
        }
    }

    /// Makes [`Syncer::run`] return once everything is flushed.
    pub(crate) fn stop(&self) {
        lock(&self.state).stopping = true;
        self.changed.notify_one();
    }

    /// Flushes until stopped; `interval` is the longest a topic of [`Syncer::later`] waits.
    pub(crate) fn run(&self, interval: Duration) {
        loop {
            for topic in self.next(interval) {
                topic.sync();
            }
            let state = lock(&self.state);
            if state.stopping && state.now.is_empty() && state.later.is_empty() {
                return;
            }
        }
    }

    /// Waits for topics that are due.
    fn next(&self, interval: Duration) -> Vec<Arc<Topic>> {
        let mut state = lock(&self.state);
        while state.now.is_empty() && state.later.is_empty() && !state.stopping {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.now.is_empty() && !state.stopping {
            let quiet = |state: &mut State| state.now.is_empty() && !state.stopping;
            let waited = self.changed.wait_timeout_while(state, interval, quiet);
            let (waited, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = waited;
            if timeout.timed_out() {
                let mut due = std::mem::take(&mut state.now);
                due.append(&mut state.later);
                return due;
            }
        }
        let mut due = std::mem::take(&mut state.now);
        if state.stopping {
            due.append(&mut state.later);
        }
        due
    }
}
