//! The messages that wait to be published in batches: a value that is told what happens and when.

use std::collections::{HashMap, VecDeque};

use nsq_protocol::TopicName;
use tokio::{sync::oneshot, time::Instant};

use super::Batching;
use crate::error::PublishError;

/// Resolves with the outcome of one message.
pub(super) type Publisher = oneshot::Sender<Result<(), PublishError>>;

/// The batches of all topics.
pub(super) struct Buffers {
    batching: Batching,
    /// The topics with a batch buffered or in flight.
    topics: HashMap<TopicName, Topic>,
    ending: bool,
}

#[derive(Default)]
struct Topic {
    /// Full ones first; the last one is being filled.
    batches: VecDeque<Batch>,
    in_flight: bool,
    flushes: Vec<Flush>,
}

/// A caller that waits for the outcomes of a number of batches.
struct Flush {
    batches: usize,
    flushed: oneshot::Sender<()>,
}

/// Batches to publish.
pub(super) struct Due {
    pub(super) batches: Vec<(TopicName, Batch)>,
    /// When the next one is due.
    pub(super) next_at: Option<Instant>,
    /// Nothing is buffered or in flight, and nothing will be.
    pub(super) over: bool,
}

impl Buffers {
    pub(super) fn new(batching: Batching) -> Self {
        Self { batching, topics: HashMap::new(), ending: false }
    }

    pub(super) fn batching(&self) -> &Batching {
        &self.batching
    }

    /// Appends one message, which holds `room` until its outcome is known. Returns whether there may be something due
    /// earlier than before.
    pub(super) fn push(
        &mut self,
        topic: TopicName,
        body: &[u8],
        publisher: Publisher,
        room: u32,
        now: Instant,
    ) -> bool {
        let topic = self.topics.entry(topic).or_default();
        let last = topic.batches.pop_back_if(|batch| batch.has_room(body.len(), &self.batching));
        let begun = last.is_none();
        let mut batch = last.unwrap_or_else(|| Batch::new(now + self.batching.linger));
        batch.push(body, publisher, room);
        let full = batch.is_full(&self.batching);
        topic.batches.push_back(batch);
        begun || full
    }

    /// Takes the batches to publish at `now`, at most one for each topic that has none in flight. In a `hurry`, no
    /// batch waits for more messages.
    pub(super) fn take_due(&mut self, now: Instant, hurry: bool) -> Due {
        let over = self.ending && self.topics.is_empty();
        let mut due = Due { batches: Vec::new(), next_at: None, over };
        let hurry = hurry || self.ending;
        for (name, topic) in self.topics.iter_mut().filter(|(_, topic)| !topic.in_flight) {
            // A batch with another one behind it is full.
            let full = topic.batches.len() > 1;
            let ready = |batch: &mut Batch| {
                hurry || full || batch.is_full(&self.batching) || batch.due_at <= now
            };
            if let Some(batch) = topic.batches.pop_front_if(ready) {
                topic.in_flight = true;
                due.batches.push((name.clone(), batch));
            } else if let Some(batch) = topic.batches.front() {
                due.next_at =
                    Some(due.next_at.map_or(batch.due_at, |next_at| next_at.min(batch.due_at)));
            }
        }
        due
    }

    /// Records that the batch of `name` that was in flight has its outcome.
    pub(super) fn complete(&mut self, name: &TopicName) {
        let Some(topic) = self.topics.get_mut(name) else { return };
        topic.in_flight = false;
        for flush in &mut topic.flushes {
            flush.batches -= 1;
        }
        for done in topic.flushes.extract_if(.., |flush| flush.batches == 0) {
            // The caller may have stopped waiting.
            let _ = done.flushed.send(());
        }
        if topic.batches.is_empty() {
            self.topics.remove(name);
        }
    }

    /// Makes everything due. Each receiver resolves when all that is buffered for one topic has its outcome.
    pub(super) fn flush(&mut self, now: Instant) -> Vec<oneshot::Receiver<()>> {
        let flush_topic = |topic: &mut Topic| {
            if let Some(batch) = topic.batches.back_mut() {
                batch.due_at = now;
            }
            let batches = topic.batches.len() + usize::from(topic.in_flight);
            let (flushed, when_flushed) = oneshot::channel();
            topic.flushes.push(Flush { batches, flushed });
            when_flushed
        };
        self.topics.values_mut().map(flush_topic).collect()
    }

    /// Makes everything due, for the last time.
    pub(super) fn end(&mut self) {
        self.ending = true;
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending
    }

    /// Fails what is buffered.
    pub(super) fn abandon(&mut self) {
        let topics = std::mem::take(&mut self.topics);
        for batch in topics.into_values().flat_map(|topic| topic.batches) {
            batch.settle(&Err(PublishError::Closed));
        }
    }
}

/// Bytes of a message on the wire besides its body.
pub(super) const FRAMING_BYTES: usize = 4;
/// Bytes of a batch on the wire besides its messages.
pub(super) const BATCH_HEAD_BYTES: usize = 4;

/// Messages that are published by one command.
pub(super) struct Batch {
    /// All bodies, one after the other.
    bytes: Vec<u8>,
    messages: Vec<Buffered>,
    due_at: Instant,
    room: usize,
}

struct Buffered {
    /// The end of its body in the bytes of the batch.
    end: usize,
    publisher: Publisher,
}

impl Batch {
    fn new(due_at: Instant) -> Self {
        Self { bytes: Vec::new(), messages: Vec::new(), due_at, room: 0 }
    }

    fn push(&mut self, body: &[u8], publisher: Publisher, room: u32) {
        self.bytes.extend_from_slice(body);
        self.messages.push(Buffered { end: self.bytes.len(), publisher });
        self.room += room as usize;
    }

    fn wire_bytes(&self) -> usize {
        BATCH_HEAD_BYTES + FRAMING_BYTES * self.messages.len() + self.bytes.len()
    }

    fn has_room(&self, body_bytes: usize, batching: &Batching) -> bool {
        !self.is_full(batching)
            && self.wire_bytes() + FRAMING_BYTES + body_bytes <= batching.bytes_max
    }

    fn is_full(&self, batching: &Batching) -> bool {
        self.messages.len() >= batching.messages_max || self.wire_bytes() >= batching.bytes_max
    }

    pub(super) fn bodies(&self) -> Vec<&[u8]> {
        let mut start = 0;
        let body = |message: &Buffered| {
            let body = &self.bytes[start..message.end];
            start = message.end;
            body
        };
        self.messages.iter().map(body).collect()
    }

    /// Gives every message its outcome and returns the room that the batch held.
    pub(super) fn settle(self, outcome: &Result<(), PublishError>) -> usize {
        for message in self.messages {
            // The publisher may have stopped waiting.
            let _ = message.publisher.send(outcome.clone());
        }
        self.room
    }
}
