//! The memory of messages that are nowhere else: those of ephemeral topics.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The memory of the messages of one ephemeral topic, as a part of that of all of them.
#[derive(Debug)]
pub(crate) struct Usage {
    bytes: AtomicUsize,
    all: Arc<AtomicUsize>,
}

/// The memory of ephemeral messages, in bytes.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct EphemeralBytes {
    /// Those of one topic.
    pub topic: usize,
    /// Those of all topics.
    pub all: usize,
}

impl Usage {
    /// No memory yet, to be counted in `all` too.
    pub(crate) fn new(all: Arc<AtomicUsize>) -> Self {
        Self { bytes: AtomicUsize::new(0), all }
    }

    /// Sets the memory. Calls take turns.
    pub(crate) fn update(&self, bytes: usize) {
        let before = self.bytes.swap(bytes, Relaxed);
        // Wraps when it shrinks, so that the sum is right.
        self.all.fetch_add(bytes.wrapping_sub(before), Relaxed);
    }

    pub(crate) fn bytes(&self) -> EphemeralBytes {
        EphemeralBytes { topic: self.bytes.load(Relaxed), all: self.all.load(Relaxed) }
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        self.update(0);
    }
}
