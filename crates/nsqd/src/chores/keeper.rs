//! The thread that writes journals: soon after something was finished, and not once per message.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use crate::{lock::lock, topic::Topic};

/// How long acknowledgements gather before they are written. What was finished within this time before a crash
/// may be delivered again.
pub(crate) const GATHER: Duration = Duration::from_millis(50);

/// Topics whose journal has to be written.
#[derive(Default)]
pub(crate) struct Keeper {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    topics: Vec<Arc<Topic>>,
    stopping: bool,
}

impl Keeper {
    /// Has the topic's journal written within [`GATHER`].
    pub(crate) fn visit(&self, topic: Arc<Topic>) {
        let mut state = lock(&self.state);
        state.topics.push(topic);
        if state.topics.len() == 1 {
            self.changed.notify_one();
        }
    }

    /// Makes [`Keeper::run`] return once everything is written.
    pub(crate) fn stop(&self) {
        lock(&self.state).stopping = true;
        self.changed.notify_one();
    }

    /// Writes journals until stopped.
    pub(crate) fn run(&self) {
        loop {
            let mut state = lock(&self.state);
            while state.topics.is_empty() && !state.stopping {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if !state.stopping {
                let waited =
                    self.changed.wait_timeout_while(state, GATHER, |state| !state.stopping);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            let (topics, stopping) = (std::mem::take(&mut state.topics), state.stopping);
            drop(state);
            for topic in topics {
                topic.keep();
            }
            if stopping {
                return;
            }
        }
    }
}
