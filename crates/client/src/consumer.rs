//! Consumers: subscribed to a channel over any number of nsqds, with handlers for its messages.

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

/// How long [`Consumer::stop`] waits for messages in flight to be answered.
pub const DRAIN_LIMIT_DEFAULT: Duration = Duration::from_secs(30);

/// A handle to a consumer; cheap to clone, usable from any task.
///
/// The consumer runs in tasks of its own, on the tokio runtime of the first connect. When the last handle is dropped
/// without [`Consumer::stop`], it stops in the background as with [`StopMode::RequeueBuffered`].
#[derive(Clone)]
pub struct Consumer(Arc<LastHandle>);

/// Stops the consumer when its last handle is gone.
struct LastHandle(Arc<Engine>);

impl Drop for LastHandle {
    fn drop(&mut self) {
        self.0.stop(StopMode::RequeueBuffered, DRAIN_LIMIT_DEFAULT);
    }
}

/// What happens, when a consumer stops, to messages that were received but that no handler has begun with.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// They are handled.
    Drain,
    /// They are requeued without delay, for other consumers.
    RequeueBuffered,
}

/// What a stop came to.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StopReport {
    /// Messages finished since the stop began.
    pub messages_finished: u64,
    /// Messages requeued since the stop began.
    pub messages_requeued: u64,
    /// Messages that were not answered in time; nsqd delivers them again when their timeout is over.
    pub messages_abandoned: u64,
}

/// Counters of a consumer since it was built.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages received, those given up included.
    pub messages_received: u64,
    /// Messages finished.
    pub messages_finished: u64,
    /// Messages requeued.
    pub messages_requeued: u64,
    /// Messages finished because of too many attempts.
    pub messages_given_up: u64,
    /// Messages received and not answered, over the connections there are now.
    pub messages_in_flight: u64,
    /// Handlers that panicked.
    pub handler_panics: u64,
    /// Answers that came after their connection had been lost.
    pub answers_lost: u64,
    /// Answers that nsqd refused, usually because the message had timed out.
    pub answers_refused: u64,
    /// Connections there are now.
    pub connections: usize,
}

impl Consumer {
    /// Starts to build a consumer of `channel` of `topic`.
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
    /// Comes back once nsqd has accepted the subscription. A connection that is lost later is made anew, for ever: the
    /// first attempt follows after 100 ms, later ones after growing pauses of at most `lookupd_poll_interval`. The name
    /// is resolved anew for each attempt. Dropping the future does not stop what it has begun.
    ///
    /// # Errors
    /// [`ConnectError`]; the address is forgotten then. Use [`Consumer::keep_connecting_to_nsqd`] for an nsqd that may
    /// come later.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time and I/O enabled.
    pub async fn connect_to_nsqd(&self, address: &str) -> Result<(), ConnectError> {
        let first_attempt = self.engine().link(address, Wish::Now)?;
        first_attempt.await.unwrap_or(Err(ConnectError::Stopped))
    }

    /// Connects to several nsqds at once, as [`Consumer::connect_to_nsqd`] does.
    ///
    /// # Errors
    /// The first failure in the order of the addresses. Connections to the others are kept all the same.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time and I/O enabled.
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

    /// Connects to the nsqd at `address` in the background, and keeps trying if it is not there yet.
    ///
    /// # Errors
    /// [`ConnectError::Stopped`], [`ConnectError::NoHandlers`] and [`ConnectError::AlreadyConnected`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with time and I/O enabled.
    pub fn keep_connecting_to_nsqd(&self, address: &str) -> Result<(), ConnectError> {
        self.engine().link(address, Wish::Sometime).map(drop)
    }

    /// Asks the nsqlookupd at `address` for the nsqds that have the topic and connects to them; asks it again every
    /// `lookupd_poll_interval`, and soon after a connection was lost.
    ///
    /// The address is a `host:port` or an HTTP URL with a port; path (`/lookup` if there is none) and parameters of a
    /// URL are kept. One that is known is left alone. Comes back after the first query and the first attempts to
    /// connect to what it found; from there on everything goes on in the background. Dropping the future does not stop
    /// what it has begun.
    ///
    /// nsqds that any of several nsqlookupds knows are connected to. One that no nsqlookupd knows any more stays
    /// connected while it can be reached, and is forgotten when it has been away for `lookupd_poll_interval`.
    ///
    /// # Errors
    /// [`DiscoveryError`]. That the nsqlookupd or its nsqds cannot be reached is none: they are tried again.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time and I/O enabled.
    pub async fn connect_to_nsqlookupd(&self, address: &str) -> Result<(), DiscoveryError> {
        self.connect_to_nsqlookupds([address]).await
    }

    /// Asks several nsqlookupds, as [`Consumer::connect_to_nsqlookupd`] does, all at once.
    ///
    /// # Errors
    /// [`DiscoveryError`]; none of them is asked then.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time and I/O enabled.
    pub async fn connect_to_nsqlookupds<A: AsRef<str>>(
        &self,
        addresses: impl IntoIterator<Item = A>,
    ) -> Result<(), DiscoveryError> {
        let topic = self.engine().topic.as_str();
        let lookupds: Result<Vec<_>, _> =
            addresses.into_iter().map(|address| Lookupd::parse(address.as_ref(), topic)).collect();
        discover(self.engine(), lookupds?).await
    }

    /// Asks the nsqlookupd at `address` no more. nsqds that it knew stay connected.
    ///
    /// # Errors
    /// When the consumer does not ask it, and when there is no other one.
    pub fn disconnect_from_nsqlookupd(&self, address: &str) -> Result<(), DisconnectLookupdError> {
        let lookupd = Lookupd::parse(address, self.engine().topic.as_str())
            .map_err(|_| DisconnectLookupdError::NotConnected(address.to_owned()))?;
        self.engine().discovery.remove(&lookupd)
    }

    /// Gives up the nsqd at `address`: asks it for no more messages, lets those in flight be answered, and closes the
    /// connection, all in the background. Discovery does not bring it back; [`Consumer::connect_to_nsqd`] does.
    ///
    /// # Errors
    /// When the consumer was never connected to the address, or has given it up.
    pub fn disconnect_from_nsqd(&self, address: &str) -> Result<(), NotConnected> {
        self.engine().unlink(address)
    }

    /// Changes how many messages may be in flight; 0 pauses the consumer.
    pub fn change_max_in_flight(&self, max_in_flight: u32) {
        self.engine().change_max_in_flight(max_in_flight);
    }

    /// Whether some nsqd has sent nearly all it may, so that a handler that gathers messages should not wait for
    /// more before it answers.
    pub fn is_starved(&self) -> bool {
        self.engine().is_starved()
    }

    /// What happens to the consumer from here on: connections, failures, backing off.
    pub fn events(&self) -> Events {
        self.engine().events.subscribe()
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.engine().stats()
    }

    /// Stops: asks every nsqd for no more messages, lets those received be handled and answered for up to 30 s, and
    /// closes the connections. A stopped consumer stays so.
    ///
    /// The stop begins with the call, whether or not the future is awaited. A handler may call this, but must not await
    /// the future, which waits for that handler.
    pub fn stop(&self) -> impl Future<Output = StopReport> + Send + 'static {
        self.stop_with(StopMode::Drain, DRAIN_LIMIT_DEFAULT)
    }

    /// As [`Consumer::stop`], in the way and within the time given. Handlers that take longer are left to themselves:
    /// nsqd delivers their messages again. When the consumer is stopping already this only waits.
    pub fn stop_with(
        &self,
        mode: StopMode,
        limit: Duration,
    ) -> impl Future<Output = StopReport> + Send + 'static {
        self.engine().stop(mode, limit);
        self.stopped()
    }

    /// Waits until the consumer has been stopped, by whomever.
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
