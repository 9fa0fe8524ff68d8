//! Publishing to several nsqds, which take turns. One that fails is skipped for a while.

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

/// The longest pause or time limit; a longer one is shortened to this.
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Publishes messages to whichever of several nsqds is available. Cheap to clone and usable from any task.
///
/// The nsqds take turns. If one cannot be reached, or certainly did not accept the messages, the next one is tried, so
/// that a publish fails only if all nsqds do. An nsqd that failed is skipped for a pause that doubles with every
/// further failure; then a single publish tries it again. When no other nsqd is left, those in a pause are tried as
/// well, so that no publish waits for a pause to end.
///
/// - If the outcome of a publish is unknown, it fails, because nsqd may have the messages. [`ProducerPool::duplicates`]
///   lets it be repeated on the next nsqd.
/// - If nsqd refuses a publish as invalid, it fails at once, because the other nsqds would refuse it too. If nsqd could
///   not carry it out, the next nsqd is tried; in case of several messages, some of which nsqd may have accepted, only
///   if duplicates are allowed.
/// - Consecutive messages go to different nsqds and have no order.
///
/// As with [`Producer`], every publish can be cancelled.
///
/// ```no_run
/// use nsq_client::{Config, ProducerPool};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = ProducerPool::new(["10.0.0.1:4150", "10.0.0.2:4150"], Config::default())?;
/// let published = pool.publish("orders", b"one").await?;
/// println!("nsqd {} has the message", published.nsqd);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ProducerPool {
    members: Arc<[Member]>,
    /// Counts publishes; selects the nsqd to begin with.
    next: Arc<AtomicUsize>,
    pauses: RetryDelays,
    duplicates: bool,
}

/// The result of a successful publish.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The address of the nsqd that accepted the messages, as it was given.
    pub nsqd: Arc<str>,
}

impl ProducerPool {
    /// Creates a pool of the nsqds at `addresses`, each a `host:port`. Does no I/O.
    ///
    /// # Errors
    /// Returns [`ConfigError`] if [`Config::validate`] fails, and [`ConfigError::TooSmall`] if there is no address.
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

    /// Sets whether a publish whose answer was lost is repeated on the next nsqd, which may deliver its messages twice.
    /// Off by default. Applies to this handle and its later clones.
    #[must_use]
    pub fn duplicates(self, allowed: bool) -> Self {
        Self { duplicates: allowed, ..self }
    }

    /// Sets how long an nsqd is skipped after a first failure, and at most; 100 ms and 10 s by default, and never
    /// longer than a day. Applies to this handle and its later clones.
    #[must_use]
    pub fn pauses(self, first: Duration, longest: Duration) -> Self {
        let longest = longest.min(TIME_MAX);
        Self { pauses: RetryDelays { first: first.min(longest), max: longest }, ..self }
    }

    /// Publishes one message and waits until an nsqd has accepted it.
    ///
    /// # Errors
    /// Returns the last [`PublishError`] if all nsqds failed; one with an unknown outcome takes precedence.
    ///
    /// # Panics
    /// Panics outside a tokio runtime with time and I/O enabled, as do all methods that connect.
    pub async fn publish(&self, topic: &str, body: &[u8]) -> Result<Published, PublishError> {
        self.send(topic, Load::One(body)).await
    }

    /// Publishes several messages to one nsqd in one command and waits until it has accepted them.
    ///
    /// # Errors
    /// Returns [`PublishError`] for all messages together; see [`ProducerPool::publish`].
    pub async fn multi_publish<B: AsRef<[u8]>>(
        &self,
        topic: &str,
        bodies: &[B],
    ) -> Result<Published, PublishError> {
        let bodies: Vec<&[u8]> = bodies.iter().map(AsRef::as_ref).collect();
        self.send(topic, Load::Several(&bodies)).await
    }

    /// Publishes one message to be delivered after `delay`, and waits until an nsqd has accepted it.
    ///
    /// # Errors
    /// Returns [`PublishError`]; see [`ProducerPool::publish`]. nsqd refuses delays above its `--max-req-timeout`, an
    /// hour by default.
    pub async fn deferred_publish(
        &self,
        topic: &str,
        delay: Duration,
        body: &[u8],
    ) -> Result<Published, PublishError> {
        self.send(topic, Load::Deferred(delay, body)).await
    }

    /// Closes the pool and all its clones: refuses further publishes and waits up to `limit` for the outcome of those
    /// in flight; see [`Producer::close`].
    pub async fn close(&self, limit: Duration) {
        let until = Instant::now() + limit.min(TIME_MAX);
        for member in &*self.members {
            member.producer.refuse();
        }
        for member in &*self.members {
            member.producer.close(until.saturating_duration_since(Instant::now())).await;
        }
    }

    /// Offers `load` to one nsqd after another until one accepts it or it must not be offered again.
    async fn send(&self, topic: &str, load: Load<'_>) -> Result<Published, PublishError> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let (before, from_first) = self.members.split_at(first % self.members.len());
        let mut failure = None;
        let mut skipped = Vec::new();
        for member in from_first.iter().chain(before) {
            let turn = lock(&member.health).turn(Instant::now(), self.pauses);
            if turn == Turn::Skip {
                skipped.push(member);
            } else if let ControlFlow::Break(outcome) =
                self.offer(member, turn, topic, load, &mut failure).await
            {
                return outcome;
            }
        }
        for member in skipped {
            let offered = self.offer(member, Turn::Skip, topic, load, &mut failure).await;
            if let ControlFlow::Break(outcome) = offered {
                return outcome;
            }
        }
        // There is at least one member, and it failed.
        Err(failure.unwrap_or(PublishError::Closed))
    }

    /// Offers `load` to one nsqd. Continues, with `failure` set, if the next one may be tried.
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
        // Once the outcome is unknown it stays so, whatever the next nsqd answers.
        let error = match failure.take() {
            Some(unknown @ PublishError::OutcomeUnknown(_)) => unknown,
            _ => error,
        };
        match verdict {
            Verdict::NotAccepted => {}
            Verdict::PerhapsAccepted if self.duplicates => {}
            Verdict::PerhapsAccepted | Verdict::Final => return ControlFlow::Break(Err(error)),
        }
        *failure = Some(error);
        ControlFlow::Continue(())
    }
}

/// The messages of one publish.
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

/// The meaning of a failed publish for the next nsqd.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Verdict {
    /// The publish would fail there as well.
    Final,
    /// This nsqd did not accept the messages, the next one may.
    NotAccepted,
    /// This nsqd may have accepted the messages.
    PerhapsAccepted,
}

fn verdict(error: &PublishError) -> Verdict {
    match error {
        PublishError::NotConnected(_) | PublishError::NotSent(_) => Verdict::NotAccepted,
        PublishError::OutcomeUnknown(_) => Verdict::PerhapsAccepted,
        _ => match error.code() {
            Some(Code::PubFailed | Code::DeferredPubFailed) => Verdict::NotAccepted,
            Some(Code::MultiPubFailed) => Verdict::PerhapsAccepted,
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

/// The readiness of an nsqd for a publish.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Turn {
    /// The nsqd is available.
    Take,
    /// This publish finds out whether the nsqd is available again.
    Probe,
    /// Only if there is no other nsqd.
    Skip,
}

/// The recent failures of an nsqd.
#[derive(Debug, Default)]
struct Health {
    /// Failures since the last success. At most one is counted for each pause, because many publishes can fail at once.
    failures: u32,
    /// The end of the current pause.
    again_at: Option<Instant>,
}

impl Health {
    fn turn(&mut self, now: Instant, pauses: RetryDelays) -> Turn {
        match self.again_at {
            None => Turn::Take,
            Some(again_at) if now < again_at => Turn::Skip,
            Some(_) => {
                // Other publishes skip this nsqd meanwhile, but not for ever: the probe may be cancelled.
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
            assert_eq!(health.turn(now + pause - PAUSES.first / 100, PAUSES), Turn::Skip);
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
            health.failed(Turn::Skip, now, PAUSES);
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
        assert_eq!(health.turn(again, PAUSES), Turn::Skip);
        assert_eq!(health.turn(again + PAUSES.first, PAUSES), Turn::Probe);
    }

    #[test]
    fn the_longest_pauses_asked_for_do_not_overflow() {
        let pool = ProducerPool::new(["127.0.0.1:1"], Config::default()).unwrap();
        let pauses = pool.pauses(Duration::MAX, Duration::MAX).pauses;
        let mut health = Health { failures: u32::MAX, again_at: None };
        health.failed(Turn::Take, Instant::now(), pauses);
        assert_eq!(health.turn(Instant::now(), pauses), Turn::Skip);
    }
}
