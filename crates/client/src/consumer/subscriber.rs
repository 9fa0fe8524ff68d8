//! A consumer's side of one connection: its answers, and the receiver of its messages.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use nsq_protocol::{CLOSE_WAIT, Command, MessageId};
use tokio::time::Instant;

use super::{event::Event, flow::Subscribed, pace::Pace, queue::Queue};
use crate::{
    backoff::Outcome,
    config::Config,
    connection::{
        driver::{MessageHead, Role},
        outbox::Outbox,
    },
    error::{ConnectionError, ServerError},
    identify::IdentifyResponse,
    message::{Delay, Message, OnDrop},
    millis::ms_rounded_up,
};

/// A subscribed connection, shared by its messages and the consumer.
pub(crate) struct Subscriber {
    address: Box<str>,
    /// The start of the connection's clock.
    since: Instant,
    rdy_count_max: u32,
    timeouts: MessageTimeouts,
    rules: AnswerRules,
    pace: Arc<Pace>,
    outbox: Arc<Outbox<Answers>>,
    received: AtomicU64,
    /// The highest RDY sent.
    granted: AtomicU64,
    refused: AtomicU64,
    /// Shared by all connections of the consumer, because such answers come when their connection is gone.
    answers_lost: Arc<AtomicU64>,
}

/// Milliseconds since a connection was made, wrapping every 49 days. Four bytes, because every message has two of
/// these.
#[derive(Copy, Clone, Debug)]
pub(crate) struct ClockMs(pub(crate) u32);

/// How long nsqd waits for a message to be answered.
#[derive(Copy, Clone, Debug)]
pub(crate) struct MessageTimeouts {
    /// The time since the message was delivered or touched.
    pub(crate) answer: Duration,
    /// The time since the message was delivered, however often it is touched.
    pub(crate) answer_max: Duration,
}

/// nsqd's defaults, for an nsqd that does not send its settings.
const ANSWER_DEFAULT: Duration = Duration::from_secs(60);
/// The messages that are held beyond twice the highest RDY. An honest nsqd exceeds RDY only by delivering again what a slow
/// handler let time out.
const HELD_SPARE: u64 = 16;
const ANSWER_MAX_DEFAULT: Duration = Duration::from_secs(15 * 60);

impl MessageTimeouts {
    fn new(response: &IdentifyResponse, config: &Config) -> Self {
        let or = |ms: u64, default| if ms == 0 { default } else { Duration::from_millis(ms) };
        let asked = if config.msg_timeout.is_zero() { ANSWER_DEFAULT } else { config.msg_timeout };
        Self {
            answer: or(response.msg_timeout, asked),
            answer_max: or(response.max_msg_timeout, ANSWER_MAX_DEFAULT),
        }
    }
}

/// The numbers of answers given on a connection.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Answers {
    pub(crate) finished: u64,
    pub(crate) requeued: u64,
    /// Dropped, to be redelivered after their timeout.
    pub(crate) left: u64,
}

impl Answers {
    fn total(self) -> u64 {
        self.finished + self.requeued + self.left
    }
}

/// The delays and policies for answers that the application does not choose.
#[derive(Copy, Clone, Debug)]
pub(crate) struct AnswerRules {
    pub(crate) requeue_delay: Duration,
    pub(crate) requeue_delay_max: Duration,
    pub(crate) on_drop: OnDrop,
}

/// The counters of one connection at one moment.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) received: u64,
    pub(crate) answers: Answers,
    pub(crate) refused: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.received += other.received;
        self.refused += other.refused;
        self.answers.finished += other.answers.finished;
        self.answers.requeued += other.answers.requeued;
        self.answers.left += other.answers.left;
    }

    /// The number of messages received and not answered.
    pub(crate) fn in_flight(&self) -> u64 {
        self.received.saturating_sub(self.answers.total())
    }
}

impl AnswerRules {
    pub(crate) fn new(config: &Config, on_drop: OnDrop) -> Self {
        Self {
            requeue_delay: config.default_requeue_delay,
            requeue_delay_max: config.max_requeue_delay,
            on_drop,
        }
    }

    fn delay_ms(&self, delay: Delay, attempts: u16) -> u64 {
        ms_rounded_up(match delay {
            Delay::Auto => {
                self.requeue_delay.saturating_mul(attempts.into()).min(self.requeue_delay_max)
            }
            Delay::After(delay) => delay,
        })
    }
}

impl Subscriber {
    pub(crate) fn new(
        address: &str,
        response: &IdentifyResponse,
        config: &Config,
        rules: AnswerRules,
        pace: Arc<Pace>,
        answers_lost: Arc<AtomicU64>,
    ) -> Self {
        Self {
            address: address.into(),
            since: Instant::now(),
            rdy_count_max: response.max_rdy_count,
            timeouts: MessageTimeouts::new(response, config),
            rules,
            pace,
            outbox: Arc::new(Outbox::new(Answers::default())),
            received: AtomicU64::new(0),
            granted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            answers_lost,
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn timeouts(&self) -> MessageTimeouts {
        self.timeouts
    }

    /// Converts `time` to the connection's clock.
    pub(crate) fn clock(&self, time: Instant) -> ClockMs {
        let [.., a, b, c, d] = self.clock_ms(time).to_be_bytes();
        ClockMs(u32::from_be_bytes([a, b, c, d]))
    }

    /// Returns when the connection's clock last showed `clock`.
    pub(crate) fn time_of(&self, clock: ClockMs) -> Instant {
        let now = Instant::now();
        let age = self.clock(now).0.wrapping_sub(clock.0);
        let ms = self.clock_ms(now).saturating_sub(age.into());
        self.since + Duration::from_millis(ms)
    }

    fn clock_ms(&self, time: Instant) -> u64 {
        u64::try_from(time.saturating_duration_since(self.since).as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn outbox(&self) -> &Arc<Outbox<Answers>> {
        &self.outbox
    }

    pub(crate) fn counts(&self) -> Counts {
        // Answers are read first, because a message is received before it is answered.
        let answers = self.outbox.with_extra(|answers| *answers);
        Counts {
            received: self.received.load(Ordering::Relaxed),
            answers,
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// Appends FIN to the outbox, without waking the driver.
    pub(crate) fn finish(&self, id: MessageId) {
        self.pace.on_outcome(Outcome::Success);
        let answered = self.outbox.append(|out, answers| {
            answers.finished += 1;
            Command::Fin(id).encode(out);
        });
        self.count_if_lost(answered, id);
    }

    /// Appends REQ to the outbox, without waking the driver. `outcome` tells whether handling failed.
    pub(crate) fn requeue(&self, head: MessageHead, delay: Delay, outcome: Outcome) {
        self.pace.on_outcome(outcome);
        let delay_ms = self.rules.delay_ms(delay, head.attempts);
        let answered = self.outbox.append(|out, answers| {
            answers.requeued += 1;
            Command::Req { id: head.id, delay_ms }.encode(out);
        });
        self.count_if_lost(answered, head.id);
    }

    pub(crate) fn touch(&self, id: MessageId) {
        if self.outbox.append(|out, _| Command::Touch(id).encode(out)).is_ok() {
            self.wake();
        }
    }

    /// Handles a message that was dropped without an answer.
    pub(crate) fn on_drop(&self, head: MessageHead) {
        match self.rules.on_drop {
            OnDrop::Requeue(delay) => self.requeue(head, delay, Outcome::Failure),
            OnDrop::RequeueWithoutBackoff(delay) => self.requeue(head, delay, Outcome::Neutral),
            OnDrop::Finish => self.finish(head.id),
            OnDrop::LetTimeout => {
                // A connection that is closing must not wait for this message.
                self.outbox.with_extra(|answers| answers.left += 1);
            }
        }
        self.wake();
    }

    /// Sends RDY: nsqd may have up to `count` messages in flight on this connection.
    pub(crate) fn ready(&self, count: u32) {
        self.granted.fetch_max(count.into(), Ordering::Relaxed);
        // A connection that has ended needs no limit.
        let _ = self.outbox.append(|out, _| Command::Rdy(count.into()).encode(out));
        self.wake();
    }

    pub(crate) fn wake(&self) {
        self.outbox.wake();
    }

    /// Asks nsqd to send no more messages; the connection ends when those in flight are answered.
    pub(crate) fn close_when_answered(&self) {
        self.outbox.close_when_done(|out| Command::Cls.encode(out));
    }

    fn count_if_lost(&self, answered: Result<(), ConnectionError>, id: MessageId) {
        if answered.is_err() {
            self.answers_lost.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(nsqd = self.address(), %id, "answer lost with its connection");
        }
    }
}

impl Subscribed for Arc<Subscriber> {
    fn rdy_count_max(&self) -> u32 {
        self.rdy_count_max
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    fn in_flight(&self) -> u64 {
        self.counts().in_flight()
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(self, other)
    }
}

/// Receives a connection's frames and appends its messages to the consumer's queue, one batch for each read.
pub(crate) struct Receiver {
    subscriber: Arc<Subscriber>,
    queue: Arc<Queue>,
    batch: Vec<Message>,
    /// The time of the current read, once it has been needed.
    read_at: Option<ClockMs>,
    received: u64,
    /// The number of messages answered, as of the last time that it mattered.
    answered: u64,
    close_wait: bool,
}

impl Receiver {
    pub(crate) fn new(subscriber: Arc<Subscriber>, queue: Arc<Queue>) -> Self {
        Self {
            subscriber,
            queue,
            batch: Vec::new(),
            read_at: None,
            received: 0,
            answered: 0,
            close_wait: false,
        }
    }

    fn is_full(&self) -> bool {
        let held_max = 2 * self.subscriber.granted.load(Ordering::Relaxed) + HELD_SPARE;
        self.received.saturating_sub(self.answered) >= held_max
    }

    /// Reads the clock, once for each read.
    #[cold]
    fn read_clock(&mut self) -> ClockMs {
        let now = self.subscriber.clock(Instant::now());
        self.read_at = Some(now);
        now
    }
}

impl Role for Receiver {
    type Extra = Answers;

    fn on_message(&mut self, head: MessageHead, body: Bytes) -> Result<(), ConnectionError> {
        let read_at = match self.read_at {
            Some(read_at) => read_at,
            None => self.read_clock(),
        };
        self.batch.push(Message::new(head, body, read_at, Arc::clone(&self.subscriber)));
        Ok(())
    }

    fn on_response(&mut self, data: &[u8]) -> Result<(), ConnectionError> {
        self.close_wait |= data == CLOSE_WAIT;
        Ok(())
    }

    fn on_error(&mut self, error: ServerError) -> Result<(), ConnectionError> {
        if error.is_fatal() {
            return Err(ConnectionError::Server(error));
        }
        self.subscriber.refused.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(nsqd = self.subscriber.address(), %error, "answer refused");
        let nsqd = self.subscriber.address().to_owned();
        self.subscriber.pace.events.emit(|| Event::AnswerRefused { nsqd, error });
        Ok(())
    }

    fn may_read(&mut self) -> bool {
        if self.is_full() {
            self.answered = self.subscriber.outbox.with_extra(|answers| answers.total());
        }
        !self.is_full()
    }

    fn on_read_end(&mut self) -> Result<(), ConnectionError> {
        if !self.batch.is_empty() {
            self.received += self.batch.len() as u64;
            self.subscriber.received.store(self.received, Ordering::Relaxed);
            self.queue.push(&mut self.batch);
            self.read_at = None;
        }
        Ok(())
    }

    fn on_take(&mut self, _: &mut Answers) {}

    fn on_written(&mut self) {}

    fn is_done(&self, answers: &Answers) -> bool {
        self.close_wait && self.received <= answers.total()
    }

    fn is_waiting(&self, _: &Answers) -> bool {
        // Consumers always have heartbeats: nsqd refuses SUB without.
        true
    }
}
