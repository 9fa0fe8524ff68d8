//! The queue of new topics whose channels elsewhere are not known yet.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::sync::Notify;

use crate::{birth::Birth, lock::lock, topic::Topic};

/// New topics, held back until the one who asks for their channels is done with them. Topics that are deleted leave it,
/// so it never holds more topics than there are.
#[derive(Default)]
pub(crate) struct NewTopics {
    /// In the order of their creation.
    waiting: Mutex<BTreeMap<Birth, HeldTopic>>,
    not_empty: Notify,
}

/// A new topic that passes no messages to its channels until this is dropped.
pub(crate) struct HeldTopic(Arc<Topic>);

impl NewTopics {
    /// Takes the topic that has waited longest; waits until there is one. May be cancelled.
    pub(crate) async fn next(&self) -> HeldTopic {
        loop {
            let first = lock(&self.waiting).pop_first();
            if let Some((_, topic)) = first {
                return topic;
            }
            self.not_empty.notified().await;
        }
    }

    pub(super) fn push(&self, topic: &Arc<Topic>) {
        let held = HeldTopic::new(topic);
        lock(&self.waiting).insert(topic.birth, held);
        self.not_empty.notify_one();
    }

    pub(super) fn remove(&self, topic: &Topic) {
        // Dropped without the lock, because that wakes the topic's channels.
        let removed = lock(&self.waiting).remove(&topic.birth);
        drop(removed);
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
