//! Publishing in batches: messages of one topic gather until there are enough of them, or for long enough, and are
//! published by one command.
//!
//! Publishers append to the [`buffers`] under one short lock; one task does the [`publishing`].

mod buffers;
mod publishing;

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nsq_protocol::TopicName;
use tokio::{
    sync::{Notify, Semaphore, TryAcquireError, oneshot},
    task::JoinHandle,
    time::{Instant, timeout},
};

use self::{
    buffers::{BATCH_HEAD_BYTES, Buffers, FRAMING_BYTES},
    publishing::AbandonOnDrop,
};
use super::{Producer, ProducerPool, Receipt};
use crate::{error::PublishError, sync::lock};

/// The longest linger; a longer one is shortened to this.
const LINGER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The limits of the batches of a [`BatchingProducer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batching {
    /// The most messages in one batch; 1000 by default, 0 counts as 1.
    pub messages_max: usize,
    /// The most bytes of one batch on the wire; 1 MiB by default. Must stay below nsqd's `--max-body-size`. A larger
    /// message is a batch of its own.
    pub bytes_max: usize,
    /// How long the first message of a batch waits for others; 5 ms by default, and never longer than a day.
    pub linger: Duration,
    /// The most bytes of messages that are buffered or in flight, over all topics; 16 MiB by default. Further publishes
    /// wait for room. A message that is larger waits until it is the only one.
    pub buffered_bytes_max: usize,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            messages_max: 1000,
            bytes_max: 1 << 20,
            linger: Duration::from_millis(5),
            buffered_bytes_max: 16 << 20,
        }
    }
}

/// The destination of batches.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BatchTarget {
    /// One nsqd.
    Producer(Producer),
    /// Whichever of several nsqds is available.
    Pool(ProducerPool),
}

impl From<Producer> for BatchTarget {
    fn from(producer: Producer) -> Self {
        Self::Producer(producer)
    }
}

impl From<ProducerPool> for BatchTarget {
    fn from(pool: ProducerPool) -> Self {
        Self::Pool(pool)
    }
}

impl BatchTarget {
    async fn publish(&self, topic: &str, bodies: &[&[u8]]) -> Result<(), PublishError> {
        match self {
            Self::Producer(producer) => producer.multi_publish(topic, bodies).await,
            Self::Pool(pool) => pool.multi_publish(topic, bodies).await.map(drop),
        }
    }
}

/// Publishes single messages in batches. Cheap to clone and usable from any task.
///
/// A batch is published when it has [`Batching::messages_max`] messages or [`Batching::bytes_max`] bytes, or when its
/// first message has waited for [`Batching::linger`]. Each message has its own [`Receipt`], which resolves with the
/// outcome of its batch: nsqd accepts a batch as a whole or not at all.
///
/// Each topic has at most one batch in flight, while the next one fills up. Messages of a topic therefore keep the
/// order in which they were published, even when a batch fails, and batches grow by themselves when nsqd is slow.
///
/// When the last handle is dropped, buffered messages are still published.
///
/// ```no_run
/// use nsq_client::{Batching, BatchingProducer, Config, Producer};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let producer = Producer::new("10.0.0.1:4150", Config::default())?;
/// let producer = BatchingProducer::new(producer, Batching::default());
/// let one = producer.publish("orders", b"one").await?;
/// let two = producer.publish("orders", b"two").await?;
/// one.await?;
/// two.await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct BatchingProducer(Arc<LastHandle>);

impl BatchingProducer {
    /// Creates a producer that publishes batches to `target`, a [`Producer`] or a [`ProducerPool`]. Does no I/O.
    pub fn new(target: impl Into<BatchTarget>, batching: Batching) -> Self {
        let room_bytes = batching.buffered_bytes_max.clamp(1, Semaphore::MAX_PERMITS);
        let batching = Batching { linger: batching.linger.min(LINGER_MAX), ..batching };
        Self(Arc::new(LastHandle(Arc::new(Batcher {
            target: target.into(),
            room_bytes: u32::try_from(room_bytes).unwrap_or(u32::MAX),
            room: Semaphore::new(room_bytes),
            waiting_for_room: AtomicUsize::new(0),
            state: Mutex::new(BatcherState { buffers: Buffers::new(batching), task: None }),
            wake: Notify::new(),
        }))))
    }

    /// Buffers one message as soon as there is room, and returns the receipt for its outcome. Dropping the receipt does
    /// not take the message back; cancelling this call does.
    ///
    /// # Errors
    /// Returns [`PublishError`] if the message was not buffered.
    ///
    /// # Panics
    /// Panics outside a tokio runtime with time and I/O enabled.
    pub async fn publish(&self, topic: &str, body: &[u8]) -> Result<Receipt, PublishError> {
        let topic = TopicName::new(topic)?;
        if body.is_empty() {
            return Err(PublishError::EmptyMessage);
        }
        let batcher = &self.0.0;
        let bytes = u32::try_from(body.len() + FRAMING_BYTES + BATCH_HEAD_BYTES)
            .map_err(|_| PublishError::TooBig(body.len()))?
            .min(batcher.room_bytes);
        let room = match batcher.room.try_acquire_many(bytes) {
            Ok(room) => room,
            Err(TryAcquireError::Closed) => return Err(PublishError::Closed),
            Err(TryAcquireError::NoPermits) => {
                let _pressure = Pressure::on(batcher);
                batcher.room.acquire_many(bytes).await.map_err(|_| PublishError::Closed)?
            }
        };
        let receipt = batcher.push(topic, body, bytes)?;
        // Given back with the outcome.
        room.forget();
        Ok(receipt)
    }

    /// Publishes everything buffered so far without waiting for more, and waits for the outcomes.
    pub async fn flush(&self) {
        let batcher = &self.0.0;
        let all_flushed = lock(&batcher.state).buffers.flush(Instant::now());
        batcher.wake.notify_one();
        for flushed in all_flushed {
            // An error means that the task has ended: nothing is buffered then.
            let _ = flushed.await;
        }
    }

    /// Refuses further publishes, publishes everything buffered, and waits up to `limit` for the outcomes.
    ///
    /// After that, messages still buffered fail with [`PublishError::Closed`] and those in flight with
    /// [`PublishError::OutcomeUnknown`]. The target stays open.
    pub async fn close(&self, limit: Duration) {
        let batcher = &self.0.0;
        batcher.end();
        let Some(mut task) = lock(&batcher.state).task.take() else { return };
        if timeout(limit, &mut task).await.is_err() {
            task.abort();
            // It was aborted, or has just ended.
            let _ = task.await;
        }
    }
}

impl fmt::Debug for BatchingProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchingProducer")
            .field("target", &self.0.0.target)
            .field("batching", lock(&self.0.0.state).buffers.batching())
            .finish_non_exhaustive()
    }
}

/// Lets the task end when the last handle is dropped.
struct LastHandle(Arc<Batcher>);

impl Drop for LastHandle {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The state shared by all handles and the task.
struct Batcher {
    target: BatchTarget,
    /// Bytes that may still be buffered; closed when nothing more may be.
    room: Semaphore,
    /// The whole room, or as much of it as one message can ask for.
    room_bytes: u32,
    /// The number of publishers that wait for room. While there are any, no batch lingers.
    waiting_for_room: AtomicUsize,
    state: Mutex<BatcherState>,
    /// Tells the task that a batch may be due.
    wake: Notify,
}

struct BatcherState {
    buffers: Buffers,
    task: Option<JoinHandle<()>>,
}

impl Batcher {
    fn push(
        self: &Arc<Self>,
        topic: TopicName,
        body: &[u8],
        room: u32,
    ) -> Result<Receipt, PublishError> {
        let mut state = lock(&self.state);
        if state.buffers.is_ending() {
            return Err(PublishError::Closed);
        }
        let (publisher, outcome) = oneshot::channel();
        let due_earlier = state.buffers.push(topic, body, publisher, room, Instant::now());
        if state.task.is_none() {
            let task = publishing::run(AbandonOnDrop(Arc::clone(self)));
            state.task = Some(tokio::spawn(task));
        }
        drop(state);
        if due_earlier {
            self.wake.notify_one();
        }
        Ok(Receipt(outcome))
    }

    /// Refuses further messages; the task ends after those that are buffered.
    fn end(&self) {
        self.room.close();
        lock(&self.state).buffers.end();
        self.wake.notify_one();
    }
}

/// A publisher that waits for room.
struct Pressure<'a>(&'a Batcher);

impl<'a> Pressure<'a> {
    fn on(batcher: &'a Batcher) -> Self {
        batcher.waiting_for_room.fetch_add(1, Ordering::Relaxed);
        batcher.wake.notify_one();
        Self(batcher)
    }
}

impl Drop for Pressure<'_> {
    fn drop(&mut self) {
        self.0.waiting_for_room.fetch_sub(1, Ordering::Relaxed);
    }
}
