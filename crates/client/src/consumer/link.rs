//! The task that keeps one nsqd connected: connects, serves the connection, and connects again when it is lost.

use std::{
    convert::Infallible,
    future::Future,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use tokio::{
    select,
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{
    engine::Engine,
    subscriber::{Receiver, Subscriber},
};
use crate::{
    connection::{
        driver::{Driver, Timeouts},
        handshake::{Subscription, establish, frame_bytes_max},
        transport::Transport,
    },
    error::ConnectError,
};

/// The pause before the first attempt to reconnect.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// A connection that has lasted this long was a good one: after it, pauses start small again.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

pub(crate) struct Link {
    engine: Arc<Engine>,
    address: String,
    /// Resolves when the address is not wanted any more.
    given_up: oneshot::Receiver<Infallible>,
}

/// A subscribed connection and its driver.
struct Connected {
    subscriber: Arc<Subscriber>,
    driver: Driver<Transport, Receiver>,
}

impl Link {
    pub(crate) fn new(
        engine: Arc<Engine>,
        address: &str,
        given_up: oneshot::Receiver<Infallible>,
    ) -> Self {
        Self { engine, address: address.to_owned(), given_up }
    }

    /// Keeps the connection until it is not wanted any more; tells `report` how the first attempt went.
    pub(crate) async fn run(
        mut self,
        report: oneshot::Sender<Result<(), ConnectError>>,
        keep_trying: bool,
    ) {
        let mut report = Some(report);
        let mut pauses = Pauses::new(self.engine.config.lookupd_poll_interval);
        loop {
            match self.connect().await {
                None => {
                    tell(report, Err(ConnectError::Stopped));
                    return;
                }
                Some(Ok(connected)) => {
                    tell(report.take(), Ok(()));
                    self.serve(connected, &mut pauses).await;
                }
                Some(Err(error)) if report.is_some() && !keep_trying => {
                    self.engine.forget(&self.address);
                    tell(report, Err(error));
                    return;
                }
                Some(Err(error)) => {
                    tracing::warn!(nsqd = self.address, %error, "connecting failed");
                    tell(report.take(), Err(error));
                }
            }
            let pause = pauses.next();
            if self.unless_given_up(sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    async fn connect(&mut self) -> Option<Result<Connected, ConnectError>> {
        let engine = Arc::clone(&self.engine);
        let address = self.address.clone();
        tracing::debug!(nsqd = address, "connecting");
        let subscription =
            Subscription { topic: engine.topic.as_str(), channel: engine.channel.as_str() };
        let connecting = establish(&address, &engine.config, Some(subscription));
        let established = match self.unless_given_up(connecting).await? {
            Ok(established) => established,
            Err(error) => return Some(Err(error)),
        };
        let subscriber = Arc::new(Subscriber::new(
            &address,
            established.response.max_rdy_count,
            engine.rules,
            Arc::clone(&engine.answers_lost),
        ));
        let is_wanted =
            || matches!(self.given_up.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        if !engine.on_subscribed(&subscriber, is_wanted) {
            return None;
        }
        let receiver = Receiver::new(Arc::clone(&subscriber), Arc::clone(&engine.work.queue));
        let driver = Driver::new(
            established.stream,
            established.unread,
            frame_bytes_max(&engine.config),
            receiver,
            Arc::clone(subscriber.outbox()),
            Timeouts {
                read: engine.config.read_timeout,
                write: engine.config.write_timeout,
                heartbeats: true,
            },
        );
        Some(Ok(Connected { subscriber, driver }))
    }

    async fn serve(&mut self, connected: Connected, pauses: &mut Pauses) {
        let Connected { subscriber, driver } = connected;
        let (topic, channel) = (&self.engine.topic, &self.engine.channel);
        tracing::info!(nsqd = self.address, %topic, %channel, "connected");
        let since = Instant::now();
        let reason = driver.run().await;
        tracing::info!(nsqd = self.address, %topic, %channel, %reason, "disconnected");
        self.engine.on_ended(&subscriber, &reason);
        if since.elapsed() >= HEALTHY_AFTER {
            pauses.restart();
        }
    }

    /// The output of `future`, or `None` when the address is given up before.
    async fn unless_given_up<F: Future>(&mut self, future: F) -> Option<F::Output> {
        select! {
            biased;
            _ = &mut self.given_up => None,
            output = future => Some(output),
        }
    }
}

fn tell(
    report: Option<oneshot::Sender<Result<(), ConnectError>>>,
    result: Result<(), ConnectError>,
) {
    if let Some(report) = report {
        // Whoever asked may have stopped waiting.
        let _ = report.send(result);
    }
}

/// The pauses between attempts: each twice the one before, up to a maximum, shortened by up to a quarter at random
/// so that many clients do not come back together.
struct Pauses {
    next: Duration,
    max: Duration,
    random: RandomState,
}

impl Pauses {
    fn new(max: Duration) -> Self {
        Self { next: PAUSE_MIN.min(max), max, random: RandomState::new() }
    }

    fn restart(&mut self) {
        self.next = PAUSE_MIN.min(self.max);
    }

    fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.max);
        let quarter = u32::try_from(self.random.hash_one(pause) % 256).unwrap_or_default();
        pause - pause * quarter / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_maximum_and_vary_by_a_quarter() {
        let mut pauses = Pauses::new(Duration::from_millis(300));
        for expected_ms in [100, 200, 300, 300] {
            let pause = pauses.next();
            let expected = Duration::from_millis(expected_ms);
            assert!(pause <= expected && pause >= expected * 3 / 4, "{pause:?}");
        }
        pauses.restart();
        assert!(pauses.next() <= Duration::from_millis(100));
    }
}
