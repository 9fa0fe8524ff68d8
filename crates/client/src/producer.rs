//! Producers: to one nsqd over one connection, to several nsqds by a pool, and in batches.

mod batch;
mod connection;
mod pool;
mod replies;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use nsq_protocol::{Command, TopicName, encode_multi_pub};
use tokio::sync::{Semaphore, oneshot};

pub use self::{
    batch::{BatchTarget, Batching, BatchingProducer},
    pool::{ProducerPool, Published},
};
use self::{connection::Connection, replies::Outstanding};
use crate::{
    config::{Config, ConfigError},
    connection::handshake::establish,
    error::{ConnectError, ConnectionError, PublishError},
    millis::ms_rounded_up,
    sync::lock,
};

/// Publishes messages to one nsqd.
///
/// This is a handle: cheap to clone and usable from any task. The first publish connects, and a publish after the
/// connection was lost connects again. Publishes from many tasks share the connection: they are written in the order of
/// the calls, many in one write, and none waits for the answer to another. `max_outstanding` and
/// `max_outstanding_bytes` limit the publishes in flight; further ones wait until there is room.
///
/// Every publish can be cancelled, for example by a timeout. A command that has already been written is still carried
/// out, and the connection stays usable.
///
/// ```no_run
/// use std::time::Duration;
///
/// use nsq_client::{Config, Producer};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let producer = Producer::new("10.0.0.1:4150", Config::default())?;
/// producer.publish("orders", b"now").await?;
/// producer.deferred_publish("orders", Duration::from_secs(60), b"in a minute").await?;
///
/// // Many publishes in flight from one task, in order.
/// let mut receipts = Vec::new();
/// for number in 0..1000 {
///     receipts.push(producer.enqueue("numbers", format!("{number}").as_bytes()).await?);
/// }
/// for receipt in receipts {
///     receipt.await?;
/// }
/// producer.close(Duration::from_secs(5)).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Producer(Arc<ProducerState>);

struct ProducerState {
    address: String,
    config: Config,
    /// Room for commands in flight; closed when the producer is.
    slots: Arc<Semaphore>,
    current: Mutex<Option<Arc<Connection>>>,
    /// Locked by the publish that connects; holds the failure of the last attempt.
    connecting: tokio::sync::Mutex<Option<Arc<ConnectError>>>,
    /// The number of attempts to connect, so that publishes that waited for one share its failure.
    attempts: AtomicU64,
}

/// A publish in flight: a future that resolves with its outcome. Dropping the receipt does not cancel the publish.
#[must_use = "the outcome is only known by awaiting the receipt"]
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Result<(), PublishError>>);

impl Future for Receipt {
    type Output = Result<(), PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.0).poll(cx));
        // The connection's task always tells the outcome unless the runtime is shut down.
        Poll::Ready(outcome.unwrap_or(Err(PublishError::OutcomeUnknown(ConnectionError::Closed))))
    }
}

impl Producer {
    /// Creates a producer for the nsqd at `address`, a `host:port`. Does no I/O.
    ///
    /// # Errors
    /// Returns [`ConfigError`] if [`Config::validate`] fails.
    pub fn new(address: &str, config: Config) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self(Arc::new(ProducerState {
            address: address.to_owned(),
            slots: Arc::new(Semaphore::new(config.max_outstanding as usize)),
            config,
            current: Mutex::new(None),
            connecting: tokio::sync::Mutex::new(None),
            attempts: AtomicU64::new(0),
        })))
    }

    /// Returns the address of the nsqd.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// Publishes one message and waits until nsqd has accepted it.
    ///
    /// # Errors
    /// Returns [`PublishError`], which tells whether nsqd may have the message.
    ///
    /// # Panics
    /// Panics outside a tokio runtime with time and I/O enabled, as do all methods that connect.
    pub async fn publish(&self, topic: &str, body: &[u8]) -> Result<(), PublishError> {
        self.enqueue(topic, body).await?.await
    }

    /// Publishes several messages in one command and waits until nsqd has accepted them.
    ///
    /// # Errors
    /// Returns [`PublishError`] for all messages together.
    pub async fn multi_publish<B: AsRef<[u8]>>(
        &self,
        topic: &str,
        bodies: &[B],
    ) -> Result<(), PublishError> {
        self.enqueue_multi(topic, bodies).await?.await
    }

    /// Publishes one message to be delivered after `delay`, rounded up to milliseconds, and waits until nsqd has
    /// accepted it.
    ///
    /// # Errors
    /// Returns [`PublishError`]. nsqd refuses delays above its `--max-req-timeout`, an hour by default.
    pub async fn deferred_publish(
        &self,
        topic: &str,
        delay: Duration,
        body: &[u8],
    ) -> Result<(), PublishError> {
        self.enqueue_deferred(topic, delay, body).await?.await
    }

    /// Enqueues one message for publishing, as soon as there is a connection and room, and returns the receipt for its
    /// outcome. This lets one task have many publishes in flight, in order.
    ///
    /// # Errors
    /// Returns [`PublishError`] if nothing was enqueued.
    pub async fn enqueue(&self, topic: &str, body: &[u8]) -> Result<Receipt, PublishError> {
        let topic = TopicName::new(topic)?;
        check_bodies([body])?;
        let command = Command::Pub { topic: topic.as_str(), body };
        self.submit(body.len(), |out| command.encode(out)).await
    }

    /// Enqueues several messages in one command; see [`Producer::enqueue`].
    ///
    /// # Errors
    /// Returns [`PublishError`] if nothing was enqueued.
    pub async fn enqueue_multi<B: AsRef<[u8]>>(
        &self,
        topic: &str,
        bodies: &[B],
    ) -> Result<Receipt, PublishError> {
        let topic = TopicName::new(topic)?;
        let bodies: Vec<&[u8]> = bodies.iter().map(AsRef::as_ref).collect();
        if bodies.is_empty() {
            return Err(PublishError::NoMessages);
        }
        let bytes = check_bodies(bodies.iter().copied())?;
        self.submit(bytes, |out| encode_multi_pub(topic.as_str(), &bodies, out)).await
    }

    /// Enqueues one message to be delivered after `delay`; see [`Producer::enqueue`].
    ///
    /// # Errors
    /// Returns [`PublishError`] if nothing was enqueued.
    pub async fn enqueue_deferred(
        &self,
        topic: &str,
        delay: Duration,
        body: &[u8],
    ) -> Result<Receipt, PublishError> {
        let topic = TopicName::new(topic)?;
        check_bodies([body])?;
        let delay_ms = ms_rounded_up(delay);
        let command = Command::DeferredPub { topic: topic.as_str(), delay_ms, body };
        self.submit(body.len(), |out| command.encode(out)).await
    }

    /// Connects if necessary and writes a command that has no effect.
    ///
    /// Success means that an nsqd at the address has accepted this client and that the connection accepts writes. nsqd
    /// does not answer the command.
    ///
    /// # Errors
    /// Returns [`PublishError::NotConnected`], [`PublishError::Closed`] or [`PublishError::NotSent`].
    pub async fn ping(&self) -> Result<(), PublishError> {
        let (flushed, when_flushed) = oneshot::channel();
        let mut flushed = Some(flushed);
        self.append(|out, outstanding| {
            if let Some(flushed) = flushed.take() {
                Command::Nop.encode(out);
                outstanding.on_flush(flushed);
            }
        })
        .await?;
        when_flushed.await.map_err(|_| PublishError::NotSent(ConnectionError::Closed))
    }

    /// Closes the producer: refuses further publishes, waits up to `limit` for the outcome of those in flight, and
    /// closes the connection. Publishes without an outcome by then fail with [`PublishError::OutcomeUnknown`].
    pub async fn close(&self, limit: Duration) {
        self.refuse();
        // Bound first, so that the lock is not held while waiting.
        let connection = lock(&self.0.current).clone();
        if let Some(connection) = connection {
            connection.close(limit).await;
        }
    }

    /// Refuses further publishes.
    fn refuse(&self) {
        self.0.slots.close();
    }

    /// Waits for room, then for a connection, and appends a command of about `bytes` to its outbox.
    async fn submit(
        &self,
        bytes: usize,
        encode: impl Fn(&mut Vec<u8>),
    ) -> Result<Receipt, PublishError> {
        let slots = self.slots_for(bytes);
        let room = self.0.slots.acquire_many(slots).await.map_err(|_| PublishError::Closed)?;
        let (publisher, outcome) = oneshot::channel();
        let mut publisher = Some(publisher);
        self.append(|out, outstanding| {
            if let Some(publisher) = publisher.take() {
                encode(out);
                outstanding.push(publisher, slots);
            }
        })
        .await?;
        // The answer gives it back.
        room.forget();
        Ok(Receipt(outcome))
    }

    /// Returns the number of slots that a command takes: at least one, and its share of `max_outstanding_bytes`.
    fn slots_for(&self, bytes: usize) -> u32 {
        let Config { max_outstanding, max_outstanding_bytes, .. } = self.0.config;
        let share =
            (bytes as u128 * u128::from(max_outstanding)).div_ceil(max_outstanding_bytes as u128);
        u32::try_from(share).unwrap_or(u32::MAX).clamp(1, max_outstanding)
    }

    /// Appends commands to the outbox of a live connection and wakes its driver.
    async fn append(
        &self,
        mut encode: impl FnMut(&mut Vec<u8>, &mut Outstanding),
    ) -> Result<(), PublishError> {
        // A connection may be lost just before it is used, but hardly several times in a row.
        let mut lost = ConnectionError::Closed;
        for _ in 0..3 {
            let connection = self.connection().await?;
            match connection.append(&mut encode) {
                Ok(()) => return Ok(()),
                Err(_) if self.0.slots.is_closed() => return Err(PublishError::Closed),
                Err(reason) => {
                    self.0.discard(&connection);
                    lost = reason;
                }
            }
        }
        Err(PublishError::NotSent(lost))
    }

    /// Returns the connection, connecting if there is none. Callers that wait for the same attempt share its outcome.
    async fn connection(&self) -> Result<Arc<Connection>, PublishError> {
        if let Some(connection) = &*lock(&self.0.current) {
            return Ok(Arc::clone(connection));
        }
        let seen = self.0.attempts.load(Ordering::Acquire);
        let mut failure = self.0.connecting.lock().await;
        if self.0.slots.is_closed() {
            return Err(PublishError::Closed);
        }
        if let Some(connection) = &*lock(&self.0.current) {
            return Ok(Arc::clone(connection));
        }
        if let Some(failure) = &*failure
            && self.0.attempts.load(Ordering::Acquire) != seen
        {
            return Err(PublishError::NotConnected(Arc::clone(failure)));
        }
        let connected = self.0.connect().await;
        self.0.attempts.fetch_add(1, Ordering::Release);
        *failure = None;
        match connected {
            Ok(connected) => connected.ok_or(PublishError::Closed),
            Err(error) => {
                let error = failure.insert(Arc::new(error));
                Err(PublishError::NotConnected(Arc::clone(error)))
            }
        }
    }
}

impl ProducerState {
    /// Makes a new connection; returns `None` if the producer has been closed meanwhile.
    async fn connect(self: &Arc<Self>) -> Result<Option<Arc<Connection>>, ConnectError> {
        tracing::debug!(nsqd = self.address, "connecting");
        let established = establish(&self.address, &self.config, None).await?;
        let mut current = lock(&self.current);
        // Checked under the lock: a caller of `close` looks for the connection after closing the slots.
        if self.slots.is_closed() {
            return Ok(None);
        }
        tracing::info!(nsqd = self.address, "connected");
        let connection =
            Arc::new(Connection::spawn(established, &self.address, &self.config, &self.slots));
        *current = Some(Arc::clone(&connection));
        Ok(Some(connection))
    }

    /// Forgets a connection that has ended, unless it has been replaced.
    fn discard(&self, connection: &Arc<Connection>) {
        let mut current = lock(&self.current);
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            *current = None;
        }
    }
}

impl Drop for ProducerState {
    fn drop(&mut self) {
        if let Some(connection) = lock(&self.current).take() {
            connection.close_when_answered();
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("nsqd", &self.0.address).finish_non_exhaustive()
    }
}

/// Checks that `bodies` can be published in one command, and returns their size with framing.
fn check_bodies<'a>(bodies: impl IntoIterator<Item = &'a [u8]>) -> Result<usize, PublishError> {
    let mut bytes = 0;
    for body in bodies {
        if body.is_empty() {
            return Err(PublishError::EmptyMessage);
        }
        bytes += 4 + body.len();
    }
    if u32::try_from(bytes + 4).is_err() {
        return Err(PublishError::TooBig(bytes));
    }
    Ok(bytes)
}
