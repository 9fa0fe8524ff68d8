//! News of a node's topics and channels, for whoever announces them elsewhere.

use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, watch};

use crate::{lock::lock, topic::Topic};

/// Tells which topics are new and that topics or channels have changed. Nothing waits for a listener.
pub(crate) struct News {
    changes: watch::Sender<u64>,
    new_topics: Mutex<Option<mpsc::UnboundedSender<HeldTopic>>>,
}

/// A new topic whose messages wait at the topic until this is dropped.
pub(crate) struct HeldTopic(Arc<Topic>);

impl News {
    /// News without a listener.
    pub(super) fn new() -> Self {
        Self { changes: watch::Sender::new(0), new_topics: Mutex::new(None) }
    }

    /// The number of changes so far: a topic or channel was created or deleted.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Receives every topic created from now on, held back. There is one receiver: a second call ends the first.
    pub(crate) fn new_topics(&self) -> mpsc::UnboundedReceiver<HeldTopic> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *lock(&self.new_topics) = Some(sender);
        receiver
    }

    /// Counts a change.
    pub(super) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Hands a topic over that nobody else can see yet. Without a receiver it is not held back.
    pub(super) fn created(&self, topic: &Arc<Topic>) {
        if let Some(new_topics) = &*lock(&self.new_topics) {
            // A failed send drops the topic's hold.
            let _ = new_topics.send(HeldTopic::new(topic));
        }
    }
}

impl HeldTopic {
    fn new(topic: &Arc<Topic>) -> Self {
        topic.hold();
        Self(topic.clone())
    }

    /// The topic.
    pub(crate) fn topic(&self) -> &Arc<Topic> {
        &self.0
    }
}

impl Drop for HeldTopic {
    fn drop(&mut self) {
        self.0.resume();
    }
}
