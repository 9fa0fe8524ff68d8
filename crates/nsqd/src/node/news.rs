//! Changes of a node's topics and channels, for those who announce them elsewhere.

mod new_topics;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, Weak},
};

use nsq_protocol::{ChannelName, TopicName};
use tokio::sync::Notify;

pub(crate) use self::new_topics::{HeldTopic, NewTopics};
use crate::{lock::lock, topic::Topic};

/// A topic, or a channel of it. A topic sorts before its channels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TopicOrChannel {
    pub(crate) topic: TopicName,
    pub(crate) channel: Option<ChannelName>,
}

/// Notifies listeners of new and changed topics. Nothing waits for a listener.
#[derive(Default)]
pub(crate) struct News {
    listeners: Mutex<Vec<Weak<Changes>>>,
    new_topics: Mutex<Weak<NewTopics>>,
}

/// The topics and channels that were created or deleted and that a listener has not taken yet. Each is in it once,
/// however often it has changed.
#[derive(Default)]
pub(crate) struct Changes {
    changed: Mutex<BTreeSet<TopicOrChannel>>,
    not_empty: Notify,
}

impl TopicOrChannel {
    /// A topic.
    pub(crate) fn topic(topic: &TopicName) -> Self {
        Self { topic: topic.clone(), channel: None }
    }

    /// A channel of a topic.
    pub(crate) fn channel(topic: &TopicName, channel: &ChannelName) -> Self {
        Self { topic: topic.clone(), channel: Some(channel.clone()) }
    }

    /// Returns true if it does not outlive nsqd.
    pub(super) fn is_ephemeral(&self) -> bool {
        self.topic.is_ephemeral() || self.channel.as_ref().is_some_and(ChannelName::is_ephemeral)
    }
}

impl News {
    /// Collects changes from now on, until the returned value is dropped.
    pub(crate) fn changes(&self) -> Arc<Changes> {
        let changes = Arc::new(Changes::default());
        let mut listeners = lock(&self.listeners);
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(Arc::downgrade(&changes));
        changes
    }

    /// Queues every topic created from now on, held back, until the returned value is dropped. A second call replaces
    /// the first queue.
    pub(crate) fn new_topics(&self) -> Arc<NewTopics> {
        let queue = Arc::new(NewTopics::default());
        *lock(&self.new_topics) = Arc::downgrade(&queue);
        queue
    }

    /// Notes that a topic or channel was created or deleted.
    pub(super) fn changed(&self, what: &TopicOrChannel) {
        for listener in lock(&self.listeners).iter().filter_map(Weak::upgrade) {
            lock(&listener.changed).insert(what.clone());
            listener.not_empty.notify_one();
        }
    }

    /// Queues a topic before it becomes visible. Without a queue it is not held back.
    pub(super) fn created(&self, topic: &Arc<Topic>) {
        if let Some(queue) = self.queue() {
            queue.push(topic);
        }
    }

    /// Takes a topic that was deleted out of the queue.
    pub(super) fn deleted(&self, topic: &Topic) {
        if let Some(queue) = self.queue() {
            queue.remove(topic);
        }
    }

    fn queue(&self) -> Option<Arc<NewTopics>> {
        lock(&self.new_topics).upgrade()
    }
}

impl Changes {
    /// Waits until there are changes.
    pub(crate) async fn wait(&self) {
        self.not_empty.notified().await;
    }

    /// Takes up to `count` changes. [`Changes::wait`] returns at once when some are left.
    pub(crate) fn take(&self, count: usize) -> Vec<TopicOrChannel> {
        let mut changed = lock(&self.changed);
        let taken = std::iter::from_fn(|| changed.pop_first()).take(count).collect();
        if !changed.is_empty() {
            self.not_empty.notify_one();
        }
        taken
    }
}
