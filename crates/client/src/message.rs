//! Messages, which are answered once.

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

/// A message to be answered: finished, or requeued to come again.
///
/// Whoever owns the message answers for it, and can do so only once, because answering takes it. Inside a
/// [`Handler`](crate::Handler) the result of the handler is the answer, unless the handler answers itself or takes the
/// message over with [`Message::disable_auto_response`]. A message that is owned and dropped without an answer is
/// treated as the consumer's [`OnDrop`](crate::OnDrop) says: by default it is requeued.
///
/// Answering never waits: it puts a command into the connection's outbox. When the connection has been lost meanwhile
/// the answer is counted in [`Stats::answers_lost`](crate::Stats::answers_lost), and nsqd delivers the message again.
///
/// The body is a slice of what was read from the connection. Keeping it for long keeps the whole read, at most 64 kB or
/// the message's size, in memory; copy it if many are kept.
#[must_use = "a message that is dropped without an answer is requeued"]
pub struct Message {
    head: MessageHead,
    body: Bytes,
    subscriber: Arc<Subscriber>,
    response: Response,
    /// When it came and when it was touched last, by the connection's clock.
    received: ClockMs,
    touched: AtomicU32,
}

/// Who answers.
enum Response {
    /// Whoever owns the message.
    Owner,
    /// The worker, by the handler's result, unless the owner is faster.
    Worker(Arc<Duty>),
    /// Nobody: it has been answered.
    Given,
}

/// Who answers a message that a handler has, shared by the message and its worker.
pub(crate) struct Duty(AtomicU8);

const WORKER: u8 = 0;
const OWNER: u8 = 1;
const GIVEN: u8 = 2;

impl Duty {
    /// The worker's duty.
    pub(crate) fn of_worker() -> Self {
        Self(AtomicU8::new(WORKER))
    }

    /// Makes it the worker's duty again, for the next message.
    pub(crate) fn reset(&mut self) {
        *self.0.get_mut() = WORKER;
    }

    /// Whether the worker shall answer now; nobody else can afterwards.
    pub(crate) fn claim_for_worker(&self) -> bool {
        self.0.compare_exchange(WORKER, GIVEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn claim_for_owner(&self) -> bool {
        self.0.swap(GIVEN, Ordering::AcqRel) != GIVEN
    }

    fn pass_to_owner(&self) {
        // Nothing to do when it has been passed or answered already.
        let _ = self.0.compare_exchange(WORKER, OWNER, Ordering::AcqRel, Ordering::Acquire);
    }

    fn is_owners(&self) -> bool {
        self.0.load(Ordering::Acquire) == OWNER
    }
}

/// When a requeued message shall come again.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Delay {
    /// `default_requeue_delay` for each attempt, at most `max_requeue_delay`.
    Auto,
    /// After this long; parts of a millisecond count as a whole one. nsqd caps it at its `--max-req-timeout`.
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

/// What happens to a message that its owner drops without an answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDrop {
    /// It is requeued, and counts as failed.
    Requeue(Delay),
    /// It is requeued, and does not count as failed: the consumer does not back off.
    RequeueWithoutBackoff(Delay),
    /// It is finished.
    Finish,
    /// Nothing: nsqd delivers it again when its timeout is over.
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

    /// Lets the worker answer, by the handler's result.
    pub(crate) fn give_duty(&mut self, duty: Arc<Duty>) {
        self.response = Response::Worker(duty);
    }

    pub(crate) fn head(&self) -> MessageHead {
        self.head
    }

    pub(crate) fn subscriber(&self) -> &Arc<Subscriber> {
        &self.subscriber
    }

    /// The message's id, unique on its nsqd.
    pub fn id(&self) -> MessageId {
        self.head.id
    }

    /// What was published.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// How often the message has been delivered, this time included.
    pub fn attempts(&self) -> u16 {
        self.head.attempts
    }

    /// When nsqd accepted the message, in nanoseconds since the Unix epoch.
    pub fn timestamp_ns(&self) -> i64 {
        self.head.timestamp_ns
    }

    /// When nsqd accepted the message; the epoch for a time before it.
    pub fn timestamp(&self) -> SystemTime {
        let ns = u64::try_from(self.head.timestamp_ns).unwrap_or_default();
        SystemTime::UNIX_EPOCH + Duration::from_nanos(ns)
    }

    /// The address of the nsqd the message came from, as it was given or discovered.
    pub fn nsqd_address(&self) -> &str {
        self.subscriber.address()
    }

    /// Tells nsqd that the message has been handled.
    pub fn finish(mut self) {
        if self.claim() {
            self.subscriber.finish(self.head.id);
            self.subscriber.wake();
        }
    }

    /// Tells nsqd to deliver the message again, because handling it failed: the consumer backs off.
    pub fn requeue(self, delay: impl Into<Delay>) {
        self.requeue_as(Outcome::Failure, delay.into());
    }

    /// Tells nsqd to deliver the message again, for a reason that says nothing about other messages: the consumer does
    /// not back off.
    pub fn requeue_without_backoff(self, delay: impl Into<Delay>) {
        self.requeue_as(Outcome::Neutral, delay.into());
    }

    fn requeue_as(mut self, outcome: Outcome, delay: Delay) {
        if self.claim() {
            self.subscriber.requeue(self.head, delay, outcome);
            self.subscriber.wake();
        }
    }

    /// Asks nsqd for more time: its timeout starts anew. Does nothing when the message has been answered.
    pub fn touch(&self) {
        if !self.is_answered() {
            self.touched.store(self.subscriber.clock(Instant::now()).0, Ordering::Relaxed);
            self.subscriber.touch(self.head.id);
        }
    }

    /// When nsqd will stop waiting for the answer and deliver the message again, as far as can be known here: `msg_timeout`
    /// after it came or was touched, but no later than nsqd's `--max-msg-timeout` after it came.
    pub fn deadline(&self) -> Instant {
        let timeouts = self.subscriber.timeouts();
        let touched = ClockMs(self.touched.load(Ordering::Relaxed));
        let answer = self.subscriber.time_of(touched) + timeouts.answer;
        answer.min(self.subscriber.time_of(self.received) + timeouts.answer_max)
    }

    /// How long until [`Message::deadline`]; zero when it has passed.
    pub fn time_left(&self) -> Duration {
        self.deadline().saturating_duration_since(Instant::now())
    }

    /// The output of `work`, during which the message is touched whenever half of the time until its deadline has
    /// passed, for as long as touching helps.
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

    /// Takes the message over from the handler's worker: the handler's result is no answer any more, the owner's
    /// answer is, from whichever task. Outside of a handler this is so anyway.
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

    /// Whether the owner shall answer now; nobody else can afterwards.
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
