//! Publishing to several nsqds: they take turns, and one that fails is left alone for a while.

use std::{
    ops::ControlFlow,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nsq_protocol::Code;
use tokio::time::Instant;

use super::Producer;
use crate::{
    config::{Config, ConfigError},
    error::PublishError,
    retry::RetryDelays,
    sync::lock,
};

/// Longer times that are asked for count as this one.
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A producer for several nsqds, any of which may take a message; cheap to clone, usable from any task.
///
/// The nsqds take turns. When one cannot be reached, or certainly did not get what was published, the next one is
/// tried, so that a publish only fails when all nsqds do. One that failed is left alone for a pause that doubles with
/// every further failure, then a single publish tries it again; nobody has to wait for the pause to end, because when
/// no other nsqd is left, those in a pause are tried as well.
///
/// - A publish whose outcome is unknown may have been carried out: it fails, unless [`ProducerPool::duplicates`] allows
///   it to be repeated.
/// - A publish that nsqd refused as wrong would be refused by the others, and fails at once. One that nsqd understood
///   and could not carry out goes to the next; for several messages, of which nsqd may have taken some, only when
///   duplicates are allowed.
/// - Messages that are published one after another go to different nsqds, and have no order.
///
/// As with [`Producer`], every publish can be cancelled.
#[derive(Clone, Debug)]
pub struct ProducerPool {
    members: Arc<[Member]>,
    /// Whose turn it is.
    next: Arc<AtomicUsize>,
    pauses: RetryDelays,
    duplicates: bool,
}

/// What became of a publish that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The address of the nsqd that has the messages, as it was given.
    pub nsqd: Arc<str>,
}

impl ProducerPool {
    /// A pool of the nsqds at `addresses`, each a `host:port`. Does no I/O.
    ///
    /// # Errors
    /// As [`Config::validate`], and [`ConfigError::TooSmall`] when there is no address.
    pub fn new(
        addresses: impl IntoIterator<Item = impl AsRef<str>>,
        config: Config,
    ) -> Result<Self, ConfigError> {
        let members = addresses
            .into_iter()
            .map(|address| Member::new(address.as_ref(), config.clone()))
            .collect::<Result<Arc<[Member]>, _>>()?;
        if members.is_empty() {
            return Err(ConfigError::TooSmall {
                option: "addresses",
                value: "0".to_owned(),
                min: "1".to_owned(),
            });
        }
        let pauses =
            RetryDelays { first: Duration::from_millis(100), max: Duration::from_secs(10) };
        Ok(Self { members, next: Arc::default(), pauses, duplicates: false })
    }

    /// Whether to publish again when the answer was lost, although the messages may be with an nsqd already: they are
    /// delivered at least once then, and perhaps twice. Not allowed by default. For this handle and its later clones.
    #[must_use]
    pub fn duplicates(self, allowed: bool) -> Self {
        Self { duplicates: allowed, ..self }
    }

    /// How long an nsqd is left alone after a first failure, and at most; 100 ms and 10 s by default, and never longer
    /// than a day. For this handle and its later clones.
    #[must_use]
    pub fn pauses(self, first: Duration, longest: Duration) -> Self {
        let longest = longest.min(TIME_MAX);
        Self { pauses: RetryDelays { first: first.min(longest), max: longest }, ..self }
    }

    /// Publishes one message, and waits until an nsqd has it.
    ///
    /// # Errors
    /// [`PublishError`]: the last one when all nsqds failed, but one of an unknown outcome before any other.
    ///
    /// # Panics
    /// As all methods that connect: outside of a tokio runtime with time and I/O enabled.
    pub async fn publish(&self, topic: &str, body: &[u8]) -> Result<Published, PublishError> {
        self.send(topic, Load::One(body)).await
    }

    /// Publishes several messages to one nsqd, all or none, and waits until it has them.
    ///
    /// # Errors
    /// As [`ProducerPool::publish`], for all messages together.
    pub async fn multi_publish<B: AsRef<[u8]>>(
        &self,
        topic: &str,
        bodies: &[B],
    ) -> Result<Published, PublishError> {
        let bodies: Vec<&[u8]> = bodies.iter().map(AsRef::as_ref).collect();
        self.send(topic, Load::Several(&bodies)).await
    }

    /// Publishes one message that is not delivered before `delay` has passed, and waits until an nsqd has it.
    ///
    /// # Errors
    /// As [`ProducerPool::publish`]; nsqd refuses delays over its `--max-req-timeout`, an hour by default.
    pub async fn deferred_publish(
        &self,
        topic: &str,
        delay: Duration,
        body: &[u8],
    ) -> Result<Published, PublishError> {
        self.send(topic, Load::Deferred(delay, body)).await
    }

    /// Closes the pool for all its clones: refuses further publishes, and waits up to `limit` for every nsqd's answers,
    /// as [`Producer::close`] does.
    pub async fn close(&self, limit: Duration) {
        let until = Instant::now() + limit.min(TIME_MAX);
        for member in &*self.members {
            member.producer.refuse();
        }
        for member in &*self.members {
            member.producer.close(until.saturating_duration_since(Instant::now())).await;
        }
    }

    /// Offers `load` to one nsqd after the other until one has it, or it must not be offered any more.
    async fn send(&self, topic: &str, load: Load<'_>) -> Result<Published, PublishError> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let (before, from_first) = self.members.split_at(first % self.members.len());
        let mut failure = None;
        let mut left_alone = Vec::new();
        for member in from_first.iter().chain(before) {
            let turn = lock(&member.health).turn(Instant::now(), self.pauses);
            if turn == Turn::LeaveAlone {
                left_alone.push(member);
            } else if let ControlFlow::Break(outcome) =
                self.offer(member, turn, topic, load, &mut failure).await
            {
                return outcome;
            }
        }
        for member in left_alone {
            let offered = self.offer(member, Turn::LeaveAlone, topic, load, &mut failure).await;
            if let ControlFlow::Break(outcome) = offered {
                return outcome;
            }
        }
        // There is at least one member, and it failed.
        Err(failure.unwrap_or(PublishError::Closed))
    }

    /// Offers `load` to one nsqd; goes on with `failure` when the next one may be tried.
    async fn offer(
        &self,
        member: &Member,
        turn: Turn,
        topic: &str,
        load: Load<'_>,
        failure: &mut Option<PublishError>,
    ) -> ControlFlow<Result<Published, PublishError>> {
        let error = match load.publish(&member.producer, topic).await {
            Ok(()) => {
                lock(&member.health).succeeded();
                return ControlFlow::Break(Ok(Published { nsqd: Arc::clone(&member.address) }));
            }
            Err(error) => error,
        };
        let verdict = verdict(&error);
        if verdict != Verdict::Final {
            tracing::debug!(nsqd = &*member.address, topic, %error, "publish failed");
            lock(&member.health).failed(turn, Instant::now(), self.pauses);
        }
        // That an nsqd may have the messages stays true, whatever the next one says.
        let error = match failure.take() {
            Some(unknown @ PublishError::OutcomeUnknown(_)) => unknown,
            _ => error,
        };
        match verdict {
            Verdict::NotTaken => {}
            Verdict::PerhapsTaken if self.duplicates => {}
            Verdict::PerhapsTaken | Verdict::Final => return ControlFlow::Break(Err(error)),
        }
        *failure = Some(error);
        ControlFlow::Continue(())
    }
}

/// What is to be published.
#[derive(Copy, Clone)]
enum Load<'a> {
    One(&'a [u8]),
    Several(&'a [&'a [u8]]),
    Deferred(Duration, &'a [u8]),
}

impl Load<'_> {
    async fn publish(self, producer: &Producer, topic: &str) -> Result<(), PublishError> {
        match self {
            Self::One(body) => producer.publish(topic, body).await,
            Self::Several(bodies) => producer.multi_publish(topic, bodies).await,
            Self::Deferred(delay, body) => producer.deferred_publish(topic, delay, body).await,
        }
    }
}

/// What a failed publish means for the next nsqd.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Verdict {
    /// It would fail there as well.
    Final,
    /// It may take what this one did not.
    NotTaken,
    /// It would perhaps take it a second time.
    PerhapsTaken,
}

fn verdict(error: &PublishError) -> Verdict {
    match error {
        PublishError::NotConnected(_) | PublishError::NotSent(_) => Verdict::NotTaken,
        PublishError::OutcomeUnknown(_) => Verdict::PerhapsTaken,
        _ => match error.code() {
            Some(Code::PubFailed | Code::DeferredPubFailed) => Verdict::NotTaken,
            Some(Code::MultiPubFailed) => Verdict::PerhapsTaken,
            _ => Verdict::Final,
        },
    }
}

/// One nsqd.
#[derive(Debug)]
struct Member {
    producer: Producer,
    address: Arc<str>,
    health: Mutex<Health>,
}

impl Member {
    fn new(address: &str, config: Config) -> Result<Self, ConfigError> {
        let producer = Producer::new(address, config)?;
        Ok(Self { producer, address: address.into(), health: Mutex::default() })
    }
}

/// Whether an nsqd may be offered something.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Turn {
    /// Nothing speaks against it.
    Take,
    /// As the one to find out whether it works again.
    Probe,
    /// Only when there is no other.
    LeaveAlone,
}

/// How an nsqd has been doing.
#[derive(Debug, Default)]
struct Health {
    /// Since the last success, at most one a pause: many publishes can fail for one reason.
    failures: u32,
    /// The end of the pause.
    again_at: Option<Instant>,
}

impl Health {
    fn turn(&mut self, now: Instant, pauses: RetryDelays) -> Turn {
        match self.again_at {
            None => Turn::Take,
            Some(again_at) if now < again_at => Turn::LeaveAlone,
            Some(_) => {
                // The others wait for what this one finds out, but not forever: it may be cancelled.
                self.again_at = Some(now + pauses.after(self.failures));
                Turn::Probe
            }
        }
    }

    fn failed(&mut self, turn: Turn, now: Instant, pauses: RetryDelays) {
        if self.again_at.is_none() || turn == Turn::Probe {
            self.failures = self.failures.saturating_add(1);
            self.again_at = Some(now + pauses.after(self.failures));
        }
    }

    fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSES: RetryDelays =
        RetryDelays { first: Duration::from_millis(100), max: Duration::from_secs(1) };

    #[test]
    fn pauses_double_with_each_failed_probe_up_to_the_longest_and_end_with_a_success() {
        let mut now = Instant::now();
        let mut health = Health::default();
        assert_eq!(health.turn(now, PAUSES), Turn::Take);
        health.failed(Turn::Take, now, PAUSES);
        for pause_ms in [100, 200, 400, 800, 1000, 1000] {
            let pause = Duration::from_millis(pause_ms);
            assert_eq!(health.turn(now + pause - PAUSES.first / 100, PAUSES), Turn::LeaveAlone);
            now += pause;
            assert_eq!(health.turn(now, PAUSES), Turn::Probe);
            health.failed(Turn::Probe, now, PAUSES);
        }
        health.succeeded();
        assert_eq!(health.turn(now, PAUSES), Turn::Take);
        health.failed(Turn::Take, now, PAUSES);
        assert_eq!(health.turn(now + PAUSES.first, PAUSES), Turn::Probe);
    }

    #[test]
    fn many_failures_at_once_count_as_one() {
        let now = Instant::now();
        let mut health = Health::default();
        for _ in 0..100 {
            health.failed(Turn::Take, now, PAUSES);
            health.failed(Turn::LeaveAlone, now, PAUSES);
        }
        assert_eq!(health.turn(now + PAUSES.first, PAUSES), Turn::Probe);
    }

    #[test]
    fn only_one_probes_and_when_it_is_cancelled_another_does_a_pause_later() {
        let now = Instant::now();
        let mut health = Health::default();
        health.failed(Turn::Take, now, PAUSES);
        let again = now + PAUSES.first;
        assert_eq!(health.turn(again, PAUSES), Turn::Probe);
        assert_eq!(health.turn(again, PAUSES), Turn::LeaveAlone);
        assert_eq!(health.turn(again + PAUSES.first, PAUSES), Turn::Probe);
    }

    #[test]
    fn the_longest_pauses_asked_for_do_not_overflow() {
        let pool = ProducerPool::new(["127.0.0.1:1"], Config::default()).unwrap();
        let pauses = pool.pauses(Duration::MAX, Duration::MAX).pauses;
        let mut health = Health { failures: u32::MAX, again_at: None };
        health.failed(Turn::Take, Instant::now(), pauses);
        assert_eq!(health.turn(Instant::now(), pauses), Turn::LeaveAlone);
    }
}
