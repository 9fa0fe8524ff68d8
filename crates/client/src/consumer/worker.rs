//! Workers: each passes messages to its handler, one at a time, and answers them by the result.
//!
//! # Invariants
//! 1. A message waits behind another message's handler only as long as that handler has not had to wait: as soon as it
//!    does, messages that the worker took ahead go back to the queue.
//! 2. A worker takes messages ahead only while its handler is fast, so that a handler that keeps its thread busy does
//!    not delay them either.
//! 3. A worker yields after each batch, so that the connection's driver runs even on a single thread.

use std::{
    collections::VecDeque,
    fmt::Display,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use nsq_protocol::MessageId;
use tokio::{task::yield_now, time::Instant};

use super::{
    event::{Emitter, Event},
    queue::Queue,
    subscriber::Subscriber,
};
use crate::{
    backoff::Outcome,
    handler::Handler,
    message::{Delay, Duty, Message},
};

/// The most messages that a worker takes at once.
const BATCH_MESSAGES_MAX: usize = 256;
/// A worker whose last batch took longer than this takes one message at a time.
const BATCH_TIME_MAX: Duration = Duration::from_micros(100);

/// The hook for messages that are given up.
pub(crate) type GiveUp =
    Arc<dyn Fn(Message) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// The state shared by the workers of a consumer.
pub(crate) struct Work {
    pub(crate) queue: Arc<Queue>,
    /// Messages with more attempts are given up; 0 for no limit.
    pub(crate) attempts_max: u16,
    pub(crate) on_give_up: Option<GiveUp>,
    pub(crate) given_up: AtomicU64,
    pub(crate) panics: AtomicU64,
    pub(crate) events: Emitter,
}

/// Handles messages until the queue is closed.
pub(crate) async fn run_worker<H: Handler>(work: Arc<Work>, handler: Arc<H>) {
    let mut worker = Worker {
        work,
        batch: VecDeque::new(),
        duty: Arc::new(Duty::new()),
        subscriber: None,
        answered: false,
    };
    let mut limit = 1;
    while worker.take(limit).await {
        let started = Instant::now();
        while let Some(message) = worker.batch.pop_front() {
            worker.handle(&*handler, message).await;
        }
        worker.wake_answered();
        let slow = started.elapsed() > BATCH_TIME_MAX;
        limit = if slow { 1 } else { (limit * 2).min(BATCH_MESSAGES_MAX) };
        yield_now().await;
    }
}

struct Worker {
    work: Arc<Work>,
    /// Messages taken from the queue and not handled yet.
    batch: VecDeque<Message>,
    /// Reused for each message, unless a handler keeps its message.
    duty: Arc<Duty>,
    /// The connection of the last message.
    subscriber: Option<Arc<Subscriber>>,
    /// There are answers on that connection whose driver has not been woken yet.
    answered: bool,
}

impl Worker {
    async fn take(&mut self, limit: usize) -> bool {
        self.work.queue.take(limit, &mut self.batch).await
    }

    async fn handle<H: Handler>(&mut self, handler: &H, mut message: Message) {
        let head = message.head();
        self.switch_to(message.subscriber());
        match Arc::get_mut(&mut self.duty) {
            Some(duty) => duty.reset(),
            None => self.duty = Arc::new(Duty::new()),
        }
        message.give_duty(Arc::clone(&self.duty));
        let attempts_max = self.work.attempts_max;
        let handled = if attempts_max > 0 && head.attempts > attempts_max {
            self.give_up(message).await
        } else {
            self.guard(async { handler.handle(message).await.map_err(Failure::from_error) }).await
        };
        let Some(subscriber) = &self.subscriber else { return };
        if let Err(failure) = &handled {
            self.work.report(failure, subscriber, head.id);
        }
        if !self.duty.claim_for_worker() {
            return;
        }
        match handled {
            Ok(()) => subscriber.finish(head.id),
            Err(_) => subscriber.requeue(head, Delay::Auto, Outcome::Failure),
        }
        self.answered = true;
    }

    async fn give_up(&mut self, message: Message) -> Result<(), Failure> {
        let head = message.head();
        let nsqd = message.nsqd_address();
        tracing::warn!(nsqd, id = %head.id, attempts = head.attempts, "giving up on message");
        self.work.given_up.fetch_add(1, Ordering::Relaxed);
        self.work.events.emit(|| Event::GaveUp {
            nsqd: nsqd.to_owned(),
            id: head.id,
            attempts: head.attempts,
        });
        let Some(hook) = self.work.on_give_up.clone() else { return Ok(()) };
        self.guard(async move {
            hook(message).await;
            Ok(())
        })
        .await
    }

    /// Returns the output of `future`, or [`Failure::Panic`]. The first time it has to wait, the other messages of the
    /// batch go back to the queue.
    async fn guard(
        &mut self,
        future: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        let mut future = pin!(future);
        let mut waited = false;
        poll_fn(|cx| {
            let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
            let Ok(polled) = polled else { return Poll::Ready(Err(Failure::Panic)) };
            if polled.is_pending() && !waited {
                waited = true;
                self.wake_answered();
                self.work.queue.give_back(&mut self.batch);
            }
            polled
        })
        .await
    }

    /// Switches to the connection of the next message; answers on another connection are sent first.
    fn switch_to(&mut self, subscriber: &Arc<Subscriber>) {
        if self.subscriber.as_ref().is_some_and(|last| Arc::ptr_eq(last, subscriber)) {
            return;
        }
        self.wake_answered();
        self.subscriber = Some(Arc::clone(subscriber));
    }

    /// Wakes the driver, once for all answers of the batch.
    fn wake_answered(&mut self) {
        if std::mem::take(&mut self.answered)
            && let Some(subscriber) = &self.subscriber
        {
            subscriber.wake();
        }
    }
}

impl Work {
    fn report(&self, failure: &Failure, subscriber: &Subscriber, id: MessageId) {
        let nsqd = subscriber.address();
        match failure {
            Failure::Error(error) => tracing::error!(nsqd, %id, error, "handler failed"),
            Failure::Panic => {
                self.panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!(nsqd, %id, "handler panicked");
            }
        }
    }
}

/// The reason why handling a message failed.
enum Failure {
    Error(String),
    Panic,
}

impl Failure {
    fn from_error(error: impl Display) -> Self {
        Self::Error(error.to_string())
    }
}
