//! The thread that tries again what the disk did not take, so that nsqd recovers by itself.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use crate::lock::lock;

/// How long to wait before trying again: long enough to cost nothing while the disk is full.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether there is something to mend.
#[derive(Default)]
pub(crate) struct Mender {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    wanted: bool,
    stopping: bool,
}

impl Mender {
    /// Has what failed tried again in a moment.
    pub(crate) fn wake(&self) {
        lock(&self.state).wanted = true;
        self.changed.notify_one();
    }

    /// Makes [`Mender::run`] return.
    pub(crate) fn stop(&self) {
        lock(&self.state).stopping = true;
        self.changed.notify_one();
    }

    /// Calls `mend` a moment after every [`Mender::wake`], and again until it answers that nothing is left to do.
    pub(crate) fn run(&self, mend: impl Fn() -> bool) {
        loop {
            let idle = |state: &mut State| !state.wanted && !state.stopping;
            let state = self.changed.wait_while(lock(&self.state), idle);
            let state = state.unwrap_or_else(PoisonError::into_inner);
            let waited = self.changed.wait_timeout_while(state, PAUSE, |state| !state.stopping);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.stopping {
                return;
            }
            state.wanted = false;
            drop(state);
            if !mend() {
                self.wake();
            }
        }
    }
}
