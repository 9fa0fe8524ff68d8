//! The queue of received messages that wait for a handler.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use tokio::sync::Notify;

use crate::{
    message::{Delay, Message},
    sync::lock,
};

/// The queue between all connections of a consumer and its workers or [`Messages`](crate::Messages). It needs no bound
/// of its own, because RDY limits what nsqd sends.
pub(crate) struct Queue {
    state: Mutex<QueueState>,
    ready: Arc<Notify>,
    /// The number of workers, each of which takes no more than its share.
    takers: usize,
}

struct QueueState {
    messages: VecDeque<Message>,
    mode: Mode,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Mode {
    Open,
    /// Messages that arrive are requeued at once.
    Requeue,
    /// As `Requeue`, and takers are told that nothing more will come.
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

    /// Appends the messages of `batch`, leaving it empty.
    pub(crate) fn push(&self, batch: &mut Vec<Message>) {
        {
            let mut state = lock(&self.state);
            if state.mode == Mode::Open {
                state.messages.extend(batch.drain(..));
            }
        }
        self.ready.notify_one();
        batch.drain(..).for_each(requeue);
    }

    /// Returns messages to the front of the queue.
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
        batch.drain(..).for_each(requeue);
    }

    /// Waits for messages and moves this taker's share of them, at most `limit`, into `batch`. Returns false when the
    /// queue is closed and empty.
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

    /// Takes one message, if there is one.
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

    /// Returns whether the queue is closed and empty.
    pub(crate) fn is_closed(&self) -> bool {
        let state = lock(&self.state);
        state.mode == Mode::Closed && state.messages.is_empty()
    }

    /// Notified when messages have arrived or the queue has been closed.
    pub(crate) fn ready(&self) -> &Arc<Notify> {
        &self.ready
    }

    /// Requeues all messages, those in the queue and those still to come.
    pub(crate) fn requeue_all(&self) {
        let waiting = {
            let mut state = lock(&self.state);
            if state.mode == Mode::Open {
                state.mode = Mode::Requeue;
            }
            std::mem::take(&mut state.messages)
        };
        waiting.into_iter().for_each(requeue);
    }

    /// Tells takers that nothing more will come. Messages in the queue can still be taken.
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

/// The result of an attempt to take messages.
enum Taking {
    Some,
    Empty,
    Closed,
}

fn requeue(message: Message) {
    message.requeue_without_backoff(Delay::NONE);
}
