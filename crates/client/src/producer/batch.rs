//! Publishing in batches: messages wait in a buffer per topic until there are enough of them, or for long enough, and
//! are published by one command.
//!
//! Publishers append to the buffers under one short lock. One task takes what is due and publishes it; it sleeps while
//! nothing is buffered.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use nsq_protocol::TopicName;
use tokio::{
    sync::{Notify, Semaphore, TryAcquireError, oneshot},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use super::{Producer, ProducerPool, Receipt};
use crate::{error::PublishError, sync::lock};

/// Nothing lingers for longer, whatever was asked for.
const LINGER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// When a [`BatchingProducer`] publishes what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batching {
    /// The most messages in one batch; 1000 by default, 0 counts as 1.
    pub messages_max: usize,
    /// The most bytes of one batch on the wire; 1 MiB by default. Has to stay below nsqd's `--max-body-size`. A larger
    /// message is a batch of its own.
    pub bytes_max: usize,
    /// How long the first message of a batch waits for others; 5 ms by default, and never longer than a day.
    pub linger: Duration,
    /// The most bytes of messages that are buffered or not yet answered, all topics together; 16 MiB by default.
    /// Further publishes wait for their turn. A larger message waits to be the only one.
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

/// Where the batches go.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BatchTarget {
    /// To one nsqd.
    Producer(Producer),
    /// To whichever of several nsqds works.
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

/// Publishes single messages in batches; cheap to clone, usable from any task.
///
/// A batch is published when it has [`Batching::messages_max`] messages or [`Batching::bytes_max`] bytes, or when its
/// first message has waited for [`Batching::linger`]. Each message has its own receipt, whose outcome is that of its
/// batch: an nsqd takes all of a batch or none.
///
/// Of one topic, one batch at a time is on its way, and the next ones grow meanwhile. So the messages of a topic keep
/// the order in which they were published, even when batches fail; and the longer nsqd takes, the larger they get.
///
/// When the last handle is dropped, what is buffered is still published.
#[derive(Clone)]
pub struct BatchingProducer(Arc<Handle>);

impl BatchingProducer {
    /// Publishes batches to `target`, a [`Producer`] or a [`ProducerPool`]. Does no I/O.
    pub fn new(target: impl Into<BatchTarget>, batching: Batching) -> Self {
        let room_bytes = batching.buffered_bytes_max.clamp(1, Semaphore::MAX_PERMITS);
        Self(Arc::new(Handle(Arc::new(Shared {
            target: target.into(),
            room_bytes: u32::try_from(room_bytes).unwrap_or(u32::MAX),
            room: Semaphore::new(room_bytes),
            waiting_for_room: AtomicUsize::new(0),
            batching: Batching { linger: batching.linger.min(LINGER_MAX), ..batching },
            state: Mutex::default(),
            wake: Notify::new(),
        }))))
    }

    /// Buffers one message, as soon as there is room; the receipt tells the outcome. Dropping the receipt does not take
    /// the message back; cancelling this call before it is done does.
    ///
    /// # Errors
    /// [`PublishError`], when the message was not buffered.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time and I/O enabled.
    pub async fn publish(&self, topic: &str, body: &[u8]) -> Result<Receipt, PublishError> {
        let topic = TopicName::new(topic)?;
        if body.is_empty() {
            return Err(PublishError::EmptyMessage);
        }
        let shared = &self.0.0;
        let bytes = u32::try_from(body.len() + FRAMING_BYTES + Batch::HEAD_BYTES)
            .map_err(|_| PublishError::TooBig(body.len()))?
            .min(shared.room_bytes);
        let room = match shared.room.try_acquire_many(bytes) {
            Ok(room) => room,
            Err(TryAcquireError::Closed) => return Err(PublishError::Closed),
            Err(TryAcquireError::NoPermits) => {
                let _pressure = Pressure::on(shared);
                shared.room.acquire_many(bytes).await.map_err(|_| PublishError::Closed)?
            }
        };
        let receipt = shared.push(topic, body, bytes)?;
        // Given back with the outcome.
        room.forget();
        Ok(receipt)
    }

    /// Publishes all that is buffered without waiting for more, and waits until all that had been buffered before this
    /// call has its outcome.
    pub async fn flush(&self) {
        for flushed in self.0.0.flush() {
            // Without a word when the task has been stopped: nothing is buffered then.
            let _ = flushed.await;
        }
    }

    /// Refuses further publishes, publishes all that is buffered, and waits up to `limit` for the outcomes. What is
    /// still buffered by then fails with [`PublishError::Closed`], what is on its way with
    /// [`PublishError::OutcomeUnknown`]. The target stays open.
    pub async fn close(&self, limit: Duration) {
        let shared = &self.0.0;
        shared.end();
        let Some(mut task) = lock(&shared.state).task.take() else { return };
        if timeout(limit, &mut task).await.is_err() {
            task.abort();
            // It was aborted, or ended just now.
            let _ = task.await;
        }
    }
}

impl fmt::Debug for BatchingProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchingProducer")
            .field("target", &self.0.0.target)
            .field("batching", &self.0.0.batching)
            .finish_non_exhaustive()
    }
}

/// What all clones share; the task ends, after what is buffered, when it is dropped.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.end();
    }
}

struct Shared {
    target: BatchTarget,
    batching: Batching,
    /// Bytes that may be buffered; closed when nothing may be any more.
    room: Semaphore,
    /// All of the room, or as much of it as one message can ask for.
    room_bytes: u32,
    /// How many publishers wait for room: nothing lingers meanwhile.
    waiting_for_room: AtomicUsize,
    state: Mutex<State>,
    /// Tells the task that something may be due.
    wake: Notify,
}

#[derive(Default)]
struct State {
    /// Those with something buffered or on its way.
    topics: HashMap<TopicName, Topic>,
    task: Option<JoinHandle<()>>,
    ending: bool,
}

#[derive(Default)]
struct Topic {
    /// The last one is being filled.
    batches: VecDeque<Batch>,
    on_its_way: bool,
    flushes: Vec<Flush>,
}

/// Someone who waits for the outcomes of a number of batches.
struct Flush {
    batches: usize,
    flushed: oneshot::Sender<()>,
}

/// What the task has to do.
struct Due {
    batches: Vec<(TopicName, Batch)>,
    /// When there is more to do, should nothing happen before.
    next_at: Option<Instant>,
    /// Nothing is buffered or on its way, and nothing will be.
    over: bool,
}

impl Shared {
    fn push(
        self: &Arc<Self>,
        topic: TopicName,
        body: &[u8],
        room: u32,
    ) -> Result<Receipt, PublishError> {
        let mut state = lock(&self.state);
        if state.ending {
            return Err(PublishError::Closed);
        }
        let topic = state.topics.entry(topic).or_default();
        let last = topic.batches.pop_back_if(|batch| batch.has_room(body.len(), &self.batching));
        let begun = last.is_none();
        let mut batch = last.unwrap_or_else(|| Batch::new(Instant::now() + self.batching.linger));
        let (publisher, outcome) = oneshot::channel();
        batch.push(body, publisher, room);
        let full = batch.is_full(&self.batching);
        topic.batches.push_back(batch);
        if state.task.is_none() {
            state.task = Some(tokio::spawn(run(Task(Arc::clone(self)))));
        }
        drop(state);
        if begun || full {
            self.wake.notify_one();
        }
        Ok(Receipt(outcome))
    }

    /// Takes the batches that shall be published at `now`.
    fn take_due(&self, now: Instant) -> Due {
        let mut state = lock(&self.state);
        let State { topics, ending, .. } = &mut *state;
        let hurry = *ending || self.waiting_for_room.load(Ordering::Relaxed) > 0;
        let mut due =
            Due { batches: Vec::new(), next_at: None, over: *ending && topics.is_empty() };
        for (name, topic) in topics.iter_mut().filter(|(_, topic)| !topic.on_its_way) {
            // A batch with another one behind it is full.
            let full = topic.batches.len() > 1;
            let ready = |batch: &mut Batch| {
                hurry || full || batch.is_full(&self.batching) || batch.due_at <= now
            };
            if let Some(batch) = topic.batches.pop_front_if(ready) {
                topic.on_its_way = true;
                due.batches.push((name.clone(), batch));
            } else if let Some(batch) = topic.batches.front() {
                let next_at = due.next_at.map_or(batch.due_at, |at| at.min(batch.due_at));
                due.next_at = Some(next_at);
            }
        }
        due
    }

    /// A batch of `name` has its outcome, and gives back its `room`.
    fn landed(&self, name: &TopicName, room: usize) {
        self.room.add_permits(room);
        let mut state = lock(&self.state);
        let Some(topic) = state.topics.get_mut(name) else { return };
        topic.on_its_way = false;
        for flush in &mut topic.flushes {
            flush.batches -= 1;
        }
        for done in topic.flushes.extract_if(.., |flush| flush.batches == 0) {
            // Whoever flushed may have stopped waiting.
            let _ = done.flushed.send(());
        }
        if topic.batches.is_empty() {
            state.topics.remove(name);
        }
    }

    /// Makes everything due; what is returned comes true when it has its outcome.
    fn flush(&self) -> Vec<oneshot::Receiver<()>> {
        let now = Instant::now();
        let mut all_flushed = Vec::new();
        for topic in lock(&self.state).topics.values_mut() {
            if let Some(batch) = topic.batches.back_mut() {
                batch.due_at = now;
            }
            let batches = topic.batches.len() + usize::from(topic.on_its_way);
            let (flushed, when_flushed) = oneshot::channel();
            topic.flushes.push(Flush { batches, flushed });
            all_flushed.push(when_flushed);
        }
        self.wake.notify_one();
        all_flushed
    }

    /// Nothing more is buffered, and the task ends after what is.
    fn end(&self) {
        self.room.close();
        lock(&self.state).ending = true;
        self.wake.notify_one();
    }
}

/// A publisher that waits for room.
struct Pressure<'a>(&'a Shared);

impl<'a> Pressure<'a> {
    fn on(shared: &'a Shared) -> Self {
        shared.waiting_for_room.fetch_add(1, Ordering::Relaxed);
        shared.wake.notify_one();
        Self(shared)
    }
}

impl Drop for Pressure<'_> {
    fn drop(&mut self) {
        self.0.waiting_for_room.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a message costs on the wire besides its body.
const FRAMING_BYTES: usize = 4;

/// Messages that are published by one command.
struct Batch {
    /// All bodies, one after the other.
    bytes: Vec<u8>,
    messages: Vec<Buffered>,
    due_at: Instant,
    /// What it gives back.
    room: usize,
}

struct Buffered {
    /// The end of its body in the bytes of the batch.
    end: usize,
    publisher: oneshot::Sender<Result<(), PublishError>>,
}

impl Batch {
    /// What a batch costs on the wire besides its messages.
    const HEAD_BYTES: usize = 4;

    fn new(due_at: Instant) -> Self {
        Self { bytes: Vec::new(), messages: Vec::new(), due_at, room: 0 }
    }

    fn push(
        &mut self,
        body: &[u8],
        publisher: oneshot::Sender<Result<(), PublishError>>,
        room: u32,
    ) {
        self.bytes.extend_from_slice(body);
        self.messages.push(Buffered { end: self.bytes.len(), publisher });
        self.room += room as usize;
    }

    /// Its size on the wire.
    fn wire_bytes(&self) -> usize {
        Self::HEAD_BYTES + FRAMING_BYTES * self.messages.len() + self.bytes.len()
    }

    fn has_room(&self, body_bytes: usize, batching: &Batching) -> bool {
        !self.is_full(batching)
            && self.wire_bytes() + FRAMING_BYTES + body_bytes <= batching.bytes_max
    }

    fn is_full(&self, batching: &Batching) -> bool {
        self.messages.len() >= batching.messages_max || self.wire_bytes() >= batching.bytes_max
    }

    fn bodies(&self) -> Vec<&[u8]> {
        let mut start = 0;
        let body = |message: &Buffered| {
            let body = &self.bytes[start..message.end];
            start = message.end;
            body
        };
        self.messages.iter().map(body).collect()
    }
}

/// Held by the task. However the task ends, nobody keeps waiting for what it would have done.
struct Task(Arc<Shared>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.end();
        let topics = std::mem::take(&mut lock(&self.0.state).topics);
        let batches = topics.into_values().flat_map(|topic| topic.batches);
        for message in batches.flat_map(|batch| batch.messages) {
            // The publisher may have stopped waiting.
            let _ = message.publisher.send(Err(PublishError::Closed));
        }
    }
}

/// The publishing of one batch; tells its topic and room.
type Flight = Pin<Box<dyn Future<Output = (TopicName, usize)> + Send>>;

async fn run(task: Task) {
    let shared = &task.0;
    let mut flights: Vec<Flight> = Vec::new();
    loop {
        let due = shared.take_due(Instant::now());
        if due.over {
            return;
        }
        for (topic, batch) in due.batches {
            flights.push(Box::pin(fly(shared.target.clone(), topic, batch)));
        }
        tokio::select! {
            biased;
            (topic, room) = first_landed(&mut flights) => shared.landed(&topic, room),
            () = shared.wake.notified() => {}
            () = until(due.next_at), if due.next_at.is_some() => {}
        }
    }
}

async fn fly(target: BatchTarget, topic: TopicName, batch: Batch) -> (TopicName, usize) {
    let outcome = target.publish(topic.as_str(), &batch.bodies()).await;
    for message in batch.messages {
        // The publisher may have stopped waiting.
        let _ = message.publisher.send(outcome.clone());
    }
    (topic, batch.room)
}

/// Goes on with all flights until one has landed, which is taken out.
async fn first_landed(flights: &mut Vec<Flight>) -> (TopicName, usize) {
    std::future::poll_fn(|cx| {
        for i in 0..flights.len() {
            if let Poll::Ready(landed) = flights[i].as_mut().poll(cx) {
                drop(flights.swap_remove(i));
                return Poll::Ready(landed);
            }
        }
        Poll::Pending
    })
    .await
}

async fn until(at: Option<Instant>) {
    if let Some(at) = at {
        sleep_until(at).await;
    }
}
