//! Messages, and who answers them.

use std::{
    fmt,
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use nsq_protocol::MessageId;
use tokio::time::{Instant, timeout};

use crate::{
    backoff::Outcome,
    connection::driver::MessageHead,
    consumer::subscriber::{ClockMs, Subscriber},
};

/// A received message, which must be answered: finished, or requeued to be delivered again.
///
/// Inside a [`Handler`](crate::Handler) the handler's result is the answer, unless the handler answers itself or takes
/// over with [`Message::disable_auto_response`]. Elsewhere, for example after
/// [`Messages::recv`](crate::Messages::recv), the owner of the message answers. It can do so only once, because
/// answering consumes the message. A message that its owner drops without an answer is treated as the consumer's
/// [`OnDrop`](crate::OnDrop) says; by default it is requeued.
///
/// Answering never waits: it appends a command to the connection's outbox. If the connection has been lost, the answer
/// is counted in [`Stats::answers_lost`](crate::Stats::answers_lost) and nsqd delivers the message again.
///
/// The body is a slice of the buffer that was read from the connection. Keeping it keeps the whole buffer in memory, up
/// to 64 KiB or the size of the message; copy the body to keep many for long.
#[must_use = "a message that is dropped without an answer is requeued"]
pub struct Message {
    head: MessageHead,
    body: Bytes,
    subscriber: Arc<Subscriber>,
    response: Response,
    /// The times of receiving and of the last touch, by the connection's clock.
    received: ClockMs,
    touched: AtomicU32,
}

/// The party that answers.
enum Response {
    /// The owner of the message.
    Owner,
    /// The worker, by the handler's result, unless the owner is faster.
    Worker(Arc<Duty>),
    /// None: the message has been answered.
    Given,
}

/// The duty to answer a message that is with a handler, shared by the message and its worker.
pub(crate) struct Duty(AtomicU8);

const WORKER: u8 = 0;
const OWNER: u8 = 1;
const GIVEN: u8 = 2;

impl Duty {
    /// Creates a duty of the worker.
    pub(crate) fn new() -> Self {
        Self(AtomicU8::new(WORKER))
    }

    /// Returns the duty to the worker, for the next message.
    pub(crate) fn reset(&mut self) {
        *self.0.get_mut() = WORKER;
    }

    /// Returns whether the worker must answer now; afterwards no one else can.
    pub(crate) fn claim_for_worker(&self) -> bool {
        self.0.compare_exchange(WORKER, GIVEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn claim_for_owner(&self) -> bool {
        self.0.swap(GIVEN, Ordering::AcqRel) != GIVEN
    }

    fn pass_to_owner(&self) {
        // It may have been passed on or fulfilled already.
        let _ = self.0.compare_exchange(WORKER, OWNER, Ordering::AcqRel, Ordering::Acquire);
    }

    fn is_owners(&self) -> bool {
        self.0.load(Ordering::Acquire) == OWNER
    }
}

/// The delay before a requeued message is delivered again.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Delay {
    /// `default_requeue_delay` times the number of attempts, at most `max_requeue_delay`.
    Auto,
    /// The given time, rounded up to milliseconds. nsqd caps it at its `--max-req-timeout`.
    After(Duration),
}

impl From<Duration> for Delay {
    fn from(delay: Duration) -> Self {
        Self::After(delay)
    }
}

impl Delay {
    pub(crate) const NONE: Self = Self::After(Duration::ZERO);
}

/// The treatment of a message that its owner drops without an answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDrop {
    /// The message is requeued and counts as failed, so that the consumer backs off.
    Requeue(Delay),
    /// The message is requeued and the consumer does not back off.
    RequeueWithoutBackoff(Delay),
    /// The message is finished.
    Finish,
    /// The message is not answered; nsqd delivers it again after its timeout.
    LetTimeout,
}

impl Message {
    pub(crate) fn new(
        head: MessageHead,
        body: Bytes,
        received: ClockMs,
        subscriber: Arc<Subscriber>,
    ) -> Self {
        let touched = AtomicU32::new(received.0);
        Self { head, body, subscriber, response: Response::Owner, received, touched }
    }

    /// Makes the worker answer, by the handler's result.
    pub(crate) fn give_duty(&mut self, duty: Arc<Duty>) {
        self.response = Response::Worker(duty);
    }

    pub(crate) fn head(&self) -> MessageHead {
        self.head
    }

    pub(crate) fn subscriber(&self) -> &Arc<Subscriber> {
        &self.subscriber
    }

    /// Returns the message's id, which is unique on its nsqd.
    pub fn id(&self) -> MessageId {
        self.head.id
    }

    /// Returns the message's content, as it was published.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns how often the message has been delivered, including this delivery.
    pub fn attempts(&self) -> u16 {
        self.head.attempts
    }

    /// Returns when nsqd accepted the message, in nanoseconds since the Unix epoch.
    pub fn timestamp_ns(&self) -> i64 {
        self.head.timestamp_ns
    }

    /// Returns when nsqd accepted the message; the Unix epoch for a time before it.
    pub fn timestamp(&self) -> SystemTime {
        let ns = u64::try_from(self.head.timestamp_ns).unwrap_or_default();
        SystemTime::UNIX_EPOCH + Duration::from_nanos(ns)
    }

    /// Returns the address of the nsqd that sent the message, as it was given or discovered.
    pub fn nsqd_address(&self) -> &str {
        self.subscriber.address()
    }

    /// Finishes the message (FIN): it has been handled.
    pub fn finish(mut self) {
        if self.claim() {
            self.subscriber.finish(self.head.id);
            self.subscriber.wake();
        }
    }

    /// Requeues the message (REQ) because handling it failed; the consumer backs off.
    pub fn requeue(self, delay: impl Into<Delay>) {
        self.requeue_as(Outcome::Failure, delay.into());
    }

    /// Requeues the message (REQ) for a reason that does not affect other messages; the consumer does not back off.
    pub fn requeue_without_backoff(self, delay: impl Into<Delay>) {
        self.requeue_as(Outcome::Neutral, delay.into());
    }

    fn requeue_as(mut self, outcome: Outcome, delay: Delay) {
        if self.claim() {
            self.subscriber.requeue(self.head, delay, outcome);
            self.subscriber.wake();
        }
    }

    /// Asks nsqd for more time (TOUCH): the message's timeout starts over. Does nothing if the message has been
    /// answered.
    pub fn touch(&self) {
        if !self.is_answered() {
            self.touched.store(self.subscriber.clock(Instant::now()).0, Ordering::Relaxed);
            self.subscriber.touch(self.head.id);
        }
    }

    /// Returns when nsqd will stop waiting for the answer and deliver the message again: `msg_timeout` after it was
    /// received or last touched, and at the latest nsqd's `--max-msg-timeout` after it was received.
    ///
    /// The time is an estimate, because nsqd's clock starts when it sends the message.
    pub fn deadline(&self) -> Instant {
        let timeouts = self.subscriber.timeouts();
        let touched = ClockMs(self.touched.load(Ordering::Relaxed));
        let answer = self.subscriber.time_of(touched) + timeouts.answer;
        answer.min(self.subscriber.time_of(self.received) + timeouts.answer_max)
    }

    /// Returns the time left until [`Message::deadline`]; zero if it has passed.
    pub fn time_left(&self) -> Duration {
        self.deadline().saturating_duration_since(Instant::now())
    }

    /// Runs `work` and returns its output, touching the message each time half of the time until its deadline has
    /// passed.
    ///
    /// When nsqd's `--max-msg-timeout` allows no later deadline, the message is no longer touched.
    ///
    /// ```
    /// # async fn render(body: &[u8]) -> Result<(), std::io::Error> { Ok(()) }
    /// # async fn handle(message: nsq_client::Message) -> Result<(), std::io::Error> {
    /// message.touch_while(render(message.body())).await
    /// # }
    /// ```
    pub async fn touch_while<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        let deadline_max =
            self.subscriber.time_of(self.received) + self.subscriber.timeouts().answer_max;
        loop {
            let deadline = self.deadline();
            if deadline >= deadline_max {
                return work.await;
            }
            match timeout(self.time_left() / 2, work.as_mut()).await {
                Ok(output) => return output,
                Err(_) if self.is_answered() => return work.await,
                Err(_) => self.touch(),
            }
        }
    }

    /// Disables the answer by the handler's result: the owner of the message must answer it, from any task.
    ///
    /// Has no effect outside a handler.
    pub fn disable_auto_response(&self) {
        if let Response::Worker(duty) = &self.response {
            duty.pass_to_owner();
        }
    }

    fn is_answered(&self) -> bool {
        match &self.response {
            Response::Owner => false,
            Response::Worker(duty) => duty.0.load(Ordering::Acquire) == GIVEN,
            Response::Given => true,
        }
    }

    /// Returns whether the owner must answer now; afterwards no one else can.
    fn claim(&mut self) -> bool {
        match std::mem::replace(&mut self.response, Response::Given) {
            Response::Owner => true,
            Response::Worker(duty) => duty.claim_for_owner(),
            Response::Given => false,
        }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        let owned = match &self.response {
            Response::Owner => true,
            Response::Worker(duty) => duty.is_owners(),
            Response::Given => false,
        };
        if owned && self.claim() {
            self.subscriber.on_drop(self.head);
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.head.id)
            .field("attempts", &self.head.attempts)
            .field("timestamp_ns", &self.head.timestamp_ns)
            .field("body_bytes", &self.body.len())
            .field("nsqd", &self.nsqd_address())
            .finish()
    }
}
