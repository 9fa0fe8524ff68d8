//! The messages that wait for a handler, those of all connections together.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use tokio::sync::Notify;

use crate::{
    message::{Delay, Message},
    sync::lock,
};

/// Filled by the connections, emptied by workers or by [`Messages`](crate::Messages). It needs no bound of its own:
/// nsqd sends no more than it was allowed to by RDY.
pub(crate) struct Queue {
    state: Mutex<QueueState>,
    ready: Arc<Notify>,
    /// How many take, so that each takes no more than its share.
    takers: usize,
}

struct QueueState {
    messages: VecDeque<Message>,
    mode: Mode,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Mode {
    Open,
    /// What comes goes back to nsqd at once.
    Requeue,
    /// As `Requeue`, and those who take are told that nothing will come.
    Closed,
}

impl Queue {
    pub(crate) fn new(takers: usize) -> Self {
        Self {
            state: Mutex::new(QueueState { messages: VecDeque::new(), mode: Mode::Open }),
            ready: Arc::new(Notify::new()),
            takers,
        }
    }

    /// Appends a batch, and leaves `batch` empty.
    pub(crate) fn push(&self, batch: &mut Vec<Message>) {
        {
            let mut state = lock(&self.state);
            if state.mode == Mode::Open {
                state.messages.extend(batch.drain(..));
            }
        }
        self.ready.notify_one();
        batch.drain(..).for_each(send_back);
    }

    /// Puts messages back to the front, where they came from.
    pub(crate) fn give_back(&self, batch: &mut VecDeque<Message>) {
        if batch.is_empty() {
            return;
        }
        {
            let mut state = lock(&self.state);
            if state.mode == Mode::Open {
                while let Some(message) = batch.pop_back() {
                    state.messages.push_front(message);
                }
            }
        }
        self.ready.notify_one();
        batch.drain(..).for_each(send_back);
    }

    /// Waits for messages and moves this taker's share of them, at most `limit`, into `batch`. False when the queue
    /// is closed and empty.
    pub(crate) async fn take(&self, limit: usize, batch: &mut VecDeque<Message>) -> bool {
        loop {
            let ready = self.ready.notified();
            match self.try_take(limit, batch) {
                Taking::Some => return true,
                Taking::Closed => return false,
                Taking::Empty => ready.await,
            }
        }
    }

    /// One message, if there is any.
    pub(crate) fn try_take_one(&self) -> Option<Message> {
        let (message, more) = {
            let mut state = lock(&self.state);
            (state.messages.pop_front(), !state.messages.is_empty())
        };
        if more {
            self.ready.notify_one();
        }
        message
    }

    /// Whether nothing will come any more.
    pub(crate) fn is_closed(&self) -> bool {
        let state = lock(&self.state);
        state.mode == Mode::Closed && state.messages.is_empty()
    }

    /// Told whenever messages have come or the queue has been closed.
    pub(crate) fn ready(&self) -> &Arc<Notify> {
        &self.ready
    }

    /// Sends back to nsqd what waits and what will come.
    pub(crate) fn requeue_all(&self) {
        let waiting = {
            let mut state = lock(&self.state);
            if state.mode == Mode::Open {
                state.mode = Mode::Requeue;
            }
            std::mem::take(&mut state.messages)
        };
        waiting.into_iter().for_each(send_back);
    }

    /// Tells those who take that nothing will come; what waits can still be taken.
    pub(crate) fn close(&self) {
        lock(&self.state).mode = Mode::Closed;
        self.ready.notify_waiters();
    }

    fn try_take(&self, limit: usize, batch: &mut VecDeque<Message>) -> Taking {
        let more = {
            let mut state = lock(&self.state);
            let waiting = state.messages.len();
            if waiting == 0 {
                return if state.mode == Mode::Closed { Taking::Closed } else { Taking::Empty };
            }
            let share = waiting.div_ceil(self.takers.max(1));
            batch.extend(state.messages.drain(..share.min(limit)));
            !state.messages.is_empty()
        };
        if more {
            self.ready.notify_one();
        }
        Taking::Some
    }
}

/// What a taker finds.
enum Taking {
    Some,
    Empty,
    Closed,
}

fn send_back(message: Message) {
    message.requeue_without_backoff(Delay::NONE);
}
