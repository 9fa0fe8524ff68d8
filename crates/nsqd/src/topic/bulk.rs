//! Publishes that take too long for a thread that serves connections.
//!
//! They are encoded and appended on a thread that may block. The lock of the topic's log is held over the whole append,
//! so those who publish to the same topic meanwhile wait for its end without keeping their thread from others.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most messages that a thread which serves connections publishes at once: half a millisecond of work.
pub(crate) const TURN_MESSAGES_MAX: usize = 4096;
/// The most bytes of messages that it publishes at once, unless they are one message.
const TURN_BYTES_MAX: usize = 1 << 20;
/// The bulks that a node works at. Each takes up to eight times the memory of the body it came in.
const AT_ONCE: usize = 2;

/// Returns whether so many messages, which took so many bytes to send, are more than one turn should publish.
pub(crate) fn is_bulk(messages: usize, bytes: usize) -> bool {
    messages > TURN_MESSAGES_MAX || bytes > TURN_BYTES_MAX
}

/// The right to publish in bulk, of which there are only so many.
#[derive(Clone, Debug)]
pub(crate) struct BulkSlots(Arc<Semaphore>);

/// A slot that is taken, until it is dropped.
#[derive(Debug)]
pub(crate) struct BulkSlot {
    /// Always `Some`: the semaphore is never closed.
    _permit: Option<OwnedSemaphorePermit>,
}

impl BulkSlots {
    /// The slots of a whole node.
    pub(crate) fn of_node() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }

    /// The slot of a topic: batches reach its log one after the other in any case.
    pub(crate) fn of_topic() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    /// Returns whether all slots are taken.
    pub(crate) fn are_taken(&self) -> bool {
        self.0.available_permits() == 0
    }

    /// Takes a slot as soon as one is free, in the order of the calls.
    pub(crate) async fn take(&self) -> BulkSlot {
        BulkSlot { _permit: self.0.clone().acquire_owned().await.ok() }
    }

    /// Waits until those who came before have had their slots.
    pub(crate) async fn passed(&self) {
        drop(self.take().await);
    }
}
