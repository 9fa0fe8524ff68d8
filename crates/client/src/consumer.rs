//! Consumers: handlers for the messages of one channel on any number of nsqds.

mod builder;
mod discovery;
mod engine;
pub(crate) mod event;
mod flow;
mod link;
mod messages;
mod pace;
mod queue;
pub(crate) mod subscriber;
mod worker;

use std::{fmt, future::Future, sync::Arc, time::Duration};

pub use self::{
    builder::ConsumerBuilder,
    event::{Event, Events},
    messages::Messages,
};
use self::{discovery::discover, engine::Engine, link::Wish};
use crate::{
    error::{ConnectError, DisconnectLookupdError, DiscoveryError, NotConnected},
    lookup::Lookupd,
};

/// The time limit of [`Consumer::stop`] for messages in flight to be answered.
pub const DRAIN_LIMIT_DEFAULT: Duration = Duration::from_secs(30);

/// Receives the messages of a channel and passes them to handlers.
///
/// This is a handle: cheap to clone and usable from any task. The consumer itself runs in background tasks on the tokio
/// runtime of the first connect. Dropping the last handle without calling [`Consumer::stop`] stops the consumer in the
/// background, as [`StopMode::RequeueBuffered`] does.
///
/// ```no_run
/// use nsq_client::{Consumer, Message};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let consumer = Consumer::builder("orders", "billing")
///     .handler(async |message: Message| {
///         println!("{:?}", message.body());
///         Ok::<_, std::convert::Infallible>(())
///     })
///     .build()?;
/// consumer.connect_to_nsqd("10.0.0.1:4150").await?;
/// let report = consumer.stopped().await;
/// println!("finished {} messages while stopping", report.messages_finished);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Consumer(Arc<LastHandle>);

/// Stops the consumer when its last handle is dropped.
struct LastHandle(Arc<Engine>);

impl Drop for LastHandle {
    fn drop(&mut self) {
        self.0.stop(StopMode::RequeueBuffered, DRAIN_LIMIT_DEFAULT);
    }
}

/// The treatment of messages that are buffered, but not yet with a handler, when a consumer stops.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Buffered messages are handled.
    Drain,
    /// Buffered messages are requeued without delay, for other consumers.
    RequeueBuffered,
}

/// The result of stopping a consumer.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StopReport {
    /// Messages finished since the stop began.
    pub messages_finished: u64,
    /// Messages requeued since the stop began.
    pub messages_requeued: u64,
    /// Messages that were not answered in time; nsqd redelivers them after their timeout.
    pub messages_abandoned: u64,
}

/// Counters of a consumer since it was built.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages received, including those given up.
    pub messages_received: u64,
    /// Messages finished.
    pub messages_finished: u64,
    /// Messages requeued.
    pub messages_requeued: u64,
    /// Messages finished because they had too many attempts.
    pub messages_given_up: u64,
    /// Messages received and not yet answered, over all current connections.
    pub messages_in_flight: u64,
    /// Handlers that panicked.
    pub handler_panics: u64,
    /// Answers given after their connection had been lost.
    pub answers_lost: u64,
    /// Answers that nsqd refused, usually because the message had timed out.
    pub answers_refused: u64,
    /// Current connections.
    pub connections: usize,
}

impl Consumer {
    /// Returns a builder for a consumer of `channel` in `topic`.
    pub fn builder(topic: &str, channel: &str) -> ConsumerBuilder {
        ConsumerBuilder::new(topic, channel)
    }

    fn new(engine: Arc<Engine>) -> Self {
        Self(Arc::new(LastHandle(engine)))
    }

    fn engine(&self) -> &Arc<Engine> {
        &self.0.0
    }

    /// Connects to the nsqd at `address`, a `host:port`, and subscribes.
    ///
    /// Returns when nsqd has accepted the subscription. If the connection is lost later, it is re-established: after
    /// 100 ms at first, then after growing delays of at most `lookupd_poll_interval`, without end. The host name is
    /// resolved again for each attempt. Dropping the future does not undo the connect.
    ///
    /// # Errors
    /// Returns [`ConnectError`] if the first attempt fails; the address is then forgotten. Use
    /// [`Consumer::keep_connecting_to_nsqd`] for an nsqd that may not be up yet.
    ///
    /// # Panics
    /// Panics outside a tokio runtime with time and I/O enabled.
    pub async fn connect_to_nsqd(&self, address: &str) -> Result<(), ConnectError> {
        let first_attempt = self.engine().link(address, Wish::Now)?;
        first_attempt.await.unwrap_or(Err(ConnectError::Stopped))
    }

    /// Connects to several nsqds at once, each as with [`Consumer::connect_to_nsqd`].
    ///
    /// # Errors
    /// Returns the first failure in the order of the addresses. Successful connections are kept.
    ///
    /// # Panics
    /// Panics outside a tokio runtime with time and I/O enabled.
    pub async fn connect_to_nsqds<A: AsRef<str>>(
        &self,
        addresses: impl IntoIterator<Item = A>,
    ) -> Result<(), ConnectError> {
        let first_attempts: Vec<_> = addresses
            .into_iter()
            .map(|address| self.engine().link(address.as_ref(), Wish::Now))
            .collect();
        let mut result = Ok(());
        for first_attempt in first_attempts {
            let connected = match first_attempt {
                Ok(connected) => connected.await.unwrap_or(Err(ConnectError::Stopped)),
                Err(error) => Err(error),
            };
            result = result.and(connected);
        }
        result
    }

    /// Connects to the nsqd at `address` in the background and keeps trying until it is up.
    ///
    /// # Errors
    /// Returns [`ConnectError::Stopped`], [`ConnectError::NoHandlers`] or [`ConnectError::AlreadyConnected`].
    ///
    /// # Panics
    /// Panics outside a tokio runtime with time and I/O enabled.
    pub fn keep_connecting_to_nsqd(&self, address: &str) -> Result<(), ConnectError> {
        self.engine().link(address, Wish::Sometime).map(drop)
    }

    /// Asks the nsqlookupd at `address` which nsqds have the topic and connects to them.
    ///
    /// The query is repeated every `lookupd_poll_interval`, and soon after a connection is lost. The consumer connects
    /// to every nsqd that any of its nsqlookupds knows. An nsqd that none of them knows any longer stays connected
    /// while it is reachable, and is forgotten after it has been unreachable for `lookupd_poll_interval`.
    ///
    /// The address is a `host:port` or an HTTP URL with a port. The path and parameters of a URL are kept; the default
    /// path is `/lookup`. Adding an nsqlookupd a second time has no effect.
    ///
    /// Returns after the first query and the first attempts to connect to the nsqds it found; discovery continues in
    /// the background. Dropping the future does not undo the call.
    ///
    /// # Errors
    /// Returns [`DiscoveryError`]. An nsqlookupd or nsqd that cannot be reached is not an error: it is tried again.
    ///
    /// # Panics
    /// Panics outside a tokio runtime with time and I/O enabled.
    pub async fn connect_to_nsqlookupd(&self, address: &str) -> Result<(), DiscoveryError> {
        self.connect_to_nsqlookupds([address]).await
    }

    /// Adds several nsqlookupds at once, each as with [`Consumer::connect_to_nsqlookupd`].
    ///
    /// # Errors
    /// Returns [`DiscoveryError`] without asking any of them.
    ///
    /// # Panics
    /// Panics outside a tokio runtime with time and I/O enabled.
    pub async fn connect_to_nsqlookupds<A: AsRef<str>>(
        &self,
        addresses: impl IntoIterator<Item = A>,
    ) -> Result<(), DiscoveryError> {
        let topic = self.engine().topic.as_str();
        let lookupds: Result<Vec<_>, _> =
            addresses.into_iter().map(|address| Lookupd::parse(address.as_ref(), topic)).collect();
        discover(self.engine(), lookupds?).await
    }

    /// Stops asking the nsqlookupd at `address`. nsqds found through it stay connected.
    ///
    /// # Errors
    /// Returns [`DisconnectLookupdError`] if the consumer does not use this nsqlookupd, or uses no other.
    pub fn disconnect_from_nsqlookupd(&self, address: &str) -> Result<(), DisconnectLookupdError> {
        let lookupd = Lookupd::parse(address, self.engine().topic.as_str())
            .map_err(|_| DisconnectLookupdError::NotConnected(address.to_owned()))?;
        self.engine().discovery.remove(&lookupd)
    }

    /// Disconnects from the nsqd at `address`: asks it to send no more messages, lets those in flight be answered, and
    /// closes the connection, all in the background.
    ///
    /// Discovery does not reconnect to this nsqd; [`Consumer::connect_to_nsqd`] does.
    ///
    /// # Errors
    /// Returns [`NotConnected`] if the consumer was never told to connect to the address, or has disconnected since.
    pub fn disconnect_from_nsqd(&self, address: &str) -> Result<(), NotConnected> {
        self.engine().unlink(address)
    }

    /// Sets the number of messages that may be in flight; 0 pauses the consumer.
    pub fn change_max_in_flight(&self, max_in_flight: u32) {
        self.engine().change_max_in_flight(max_in_flight);
    }

    /// Returns whether a connection has nearly as many messages in flight as it may have. A handler that gathers
    /// messages should then answer them rather than wait for more.
    pub fn is_starved(&self) -> bool {
        self.engine().is_starved()
    }

    /// Returns the events from now on: connections, failures, backing off.
    pub fn events(&self) -> Events {
        self.engine().events.subscribe()
    }

    /// Returns the consumer's counters.
    pub fn stats(&self) -> Stats {
        self.engine().stats()
    }

    /// Stops the consumer: asks every nsqd to send no more messages, waits up to 30 s for received messages to be
    /// handled and answered, and closes the connections.
    ///
    /// Stopping begins with the call, whether or not the future is awaited. A handler may call this method, but must
    /// not await the future, because the future waits for that handler. A stopped consumer cannot be started again.
    pub fn stop(&self) -> impl Future<Output = StopReport> + Send + 'static {
        self.stop_with(StopMode::Drain, DRAIN_LIMIT_DEFAULT)
    }

    /// Stops the consumer as [`Consumer::stop`] does, with the given treatment of buffered messages and time limit.
    ///
    /// Handlers that exceed the limit are left running; nsqd redelivers their messages. If the consumer is already
    /// stopping, this only waits.
    pub fn stop_with(
        &self,
        mode: StopMode,
        limit: Duration,
    ) -> impl Future<Output = StopReport> + Send + 'static {
        self.engine().stop(mode, limit);
        self.stopped()
    }

    /// Waits until the consumer has stopped, whoever stopped it.
    pub fn stopped(&self) -> impl Future<Output = StopReport> + Send + 'static {
        let mut stopped = self.engine().stopped();
        async move {
            let report = stopped.wait_for(Option::is_some).await;
            report.ok().and_then(|report| *report).unwrap_or_default()
        }
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("topic", &self.engine().topic)
            .field("channel", &self.engine().channel)
            .finish_non_exhaustive()
    }
}
