//! Changes of a node's topics and channels, for those who announce them elsewhere.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, Weak},
};

use nsq_protocol::TopicName;
use tokio::sync::{Notify, mpsc};

use crate::{lock::lock, topic::Topic};

/// Notifies listeners of new and changed topics. Nothing waits for a listener.
#[derive(Default)]
pub(crate) struct News {
    listeners: Mutex<Vec<Weak<Changes>>>,
    new_topics: Mutex<Option<mpsc::UnboundedSender<HeldTopic>>>,
}

/// The topics that a listener has not taken yet, of those that were created or deleted or had a channel created or
/// deleted. A topic is in it once, however often it has changed.
#[derive(Default)]
pub(crate) struct Changes {
    topics: Mutex<BTreeSet<TopicName>>,
    not_empty: Notify,
}

/// A new topic that passes no messages to its channels until this is dropped.
pub(crate) struct HeldTopic(Arc<Topic>);

impl News {
    /// Collects changes from now on, until the returned value is dropped.
    pub(crate) fn changes(&self) -> Arc<Changes> {
        let changes = Arc::new(Changes::default());
        let mut listeners = lock(&self.listeners);
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(Arc::downgrade(&changes));
        changes
    }

    /// Receives every topic created from now on, held back. A second call replaces the first receiver.
    pub(crate) fn new_topics(&self) -> mpsc::UnboundedReceiver<HeldTopic> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *lock(&self.new_topics) = Some(sender);
        receiver
    }

    /// Notes that a topic or one of its channels was created or deleted.
    pub(super) fn changed(&self, topic: &TopicName) {
        for listener in lock(&self.listeners).iter().filter_map(Weak::upgrade) {
            lock(&listener.topics).insert(topic.clone());
            listener.not_empty.notify_one();
        }
    }

    /// Hands over a topic before it becomes visible. Without a receiver it is not held back.
    pub(super) fn created(&self, topic: &Arc<Topic>) {
        if let Some(new_topics) = &*lock(&self.new_topics) {
            // A failed send drops the topic, which resumes it.
            let _ = new_topics.send(HeldTopic::new(topic));
        }
    }
}

impl Changes {
    /// Waits until there are changes.
    pub(crate) async fn wait(&self) {
        self.not_empty.notified().await;
    }

    /// Takes up to `count` topics. [`Changes::wait`] returns at once when some are left.
    pub(crate) fn take(&self, count: usize) -> Vec<TopicName> {
        let mut topics = lock(&self.topics);
        let taken = std::iter::from_fn(|| topics.pop_first()).take(count).collect();
        if !topics.is_empty() {
            self.not_empty.notify_one();
        }
        taken
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
