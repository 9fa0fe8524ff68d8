//! The task that keeps one nsqd connected: connects, serves the connection, and connects again when it is lost.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use nsq_protocol::Code;
use tokio::{
    select,
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{
    engine::Engine,
    event::Event,
    subscriber::{Receiver, Subscriber},
};
use crate::{
    connection::{
        driver::{Driver, Timeouts},
        handshake::{Subscription, establish, frame_bytes_max},
        transport::Transport,
    },
    error::ConnectError,
    retry::Retries,
};

/// After a connection that has lasted this long, retries start with the shortest delay again.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// Why a connection is wanted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The application asked for it and waits for the first attempt; if that fails, there is no other.
    Now,
    /// The application asked for it, now or later.
    Sometime,
    /// An nsqlookupd knows the nsqd.
    Discovered,
}

/// The task's state.
pub(crate) struct Link {
    engine: Arc<Engine>,
    address: String,
    /// Resolves when the connection is no longer wanted.
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

    /// Keeps the connection until it is no longer wanted. The result of the first attempt goes to `report`.
    pub(crate) async fn run(
        mut self,
        report: oneshot::Sender<Result<(), ConnectError>>,
        wish: Wish,
    ) {
        let mut report = Some(report);
        let mut retries = Retries::up_to(self.engine.config.lookupd_poll_interval);
        loop {
            match self.connect(wish).await {
                None => {
                    tell(report, Err(ConnectError::Stopped));
                    return;
                }
                Some(Ok(connected)) => {
                    tell(report.take(), Ok(()));
                    self.serve(connected, &mut retries).await;
                }
                Some(Err(error)) => {
                    tracing::warn!(nsqd = self.address, %error, "connect failed");
                    let nsqd = self.address.clone();
                    let told = error.clone();
                    self.engine.events.emit(|| Event::ConnectFailed { nsqd, error: told });
                    if report.is_some() && wish == Wish::Now {
                        self.engine.forget(&self.address);
                        tell(report, Err(error));
                        return;
                    }
                    if is_lasting(&error) {
                        retries.skip_to_longest();
                    }
                    tell(report.take(), Err(error));
                }
            }
            self.engine.discovery.recheck();
            if self.unless_given_up(sleep(retries.next_delay())).await.is_none() {
                return;
            }
        }
    }

    async fn connect(&mut self, wish: Wish) -> Option<Result<Connected, ConnectError>> {
        let engine = Arc::clone(&self.engine);
        let address = self.address.clone();
        tracing::debug!(nsqd = address, "connecting");
        let subscription =
            Subscription { topic: engine.topic.as_str(), channel: engine.channel.as_str() };
        let connecting = async {
            // The semaphore is never closed.
            let _permit = match wish {
                Wish::Discovered => engine.discovery.dials.acquire().await.ok(),
                Wish::Now | Wish::Sometime => None,
            };
            establish(&address, &engine.config, Some(subscription)).await
        };
        let established = match self.unless_given_up(connecting).await? {
            Ok(established) => established,
            Err(error) => return Some(Err(error)),
        };
        let subscriber = Arc::new(Subscriber::new(
            &address,
            &established.response,
            &engine.config,
            engine.rules,
            Arc::clone(&engine.pace),
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

    async fn serve(&mut self, connected: Connected, retries: &mut Retries) {
        let Connected { subscriber, driver } = connected;
        let (topic, channel) = (&self.engine.topic, &self.engine.channel);
        tracing::info!(nsqd = self.address, %topic, %channel, "connected");
        self.engine.events.emit(|| Event::Connected { nsqd: self.address.clone() });
        let since = Instant::now();
        let reason = driver.run().await;
        tracing::info!(nsqd = self.address, %topic, %channel, %reason, "disconnected");
        self.engine.on_ended(&subscriber, &reason);
        let nsqd = self.address.clone();
        self.engine.events.emit(|| Event::Disconnected { nsqd, reason });
        if since.elapsed() >= HEALTHY_AFTER {
            retries.restart();
        }
    }

    /// Returns the output of `future`, or `None` if the connection is no longer wanted.
    async fn unless_given_up<F: Future>(&mut self, future: F) -> Option<F::Output> {
        select! {
            biased;
            _ = &mut self.given_up => None,
            output = future => Some(output),
        }
    }
}

/// Returns whether an early retry would fail in the same way, because nsqd refuses this client or subscription.
fn is_lasting(error: &ConnectError) -> bool {
    match error {
        ConnectError::Subscribe(error) => matches!(
            error.code(),
            Some(
                Code::BadTopic
                    | Code::BadChannel
                    | Code::Invalid
                    | Code::AuthFirst
                    | Code::AuthFailed
                    | Code::Unauthorized
            )
        ),
        error => !error.is_retryable(),
    }
}

fn tell(
    report: Option<oneshot::Sender<Result<(), ConnectError>>>,
    result: Result<(), ConnectError>,
) {
    if let Some(report) = report {
        // The caller may have stopped waiting.
        let _ = report.send(result);
    }
}
