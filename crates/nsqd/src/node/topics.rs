//! The topics by name, and the room for those that are being created.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use foldhash::fast::RandomState;
use nsq_protocol::TopicName;

use crate::topic::Topic;

/// The topics of a node.
#[derive(Default)]
pub(super) struct Topics(RwLock<State>);

#[derive(Default)]
struct State {
    by_name: HashMap<TopicName, Arc<Topic>, RandomState>,
    /// The number of topics that are being created.
    creating: usize,
}

/// Room for one topic, kept free while its files are created.
pub(super) struct Room<'a> {
    topics: &'a Topics,
    used: bool,
}

impl Topics {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.state().by_name.get(name).cloned()
    }

    /// Every topic, in no order.
    pub(super) fn all(&self) -> Vec<Arc<Topic>> {
        self.state().by_name.values().cloned().collect()
    }

    /// Adds a topic, whatever the number of topics.
    pub(super) fn insert(&self, topic: Arc<Topic>) {
        self.state_mut().by_name.insert(topic.name.clone(), topic);
    }

    pub(super) fn remove(&self, name: &TopicName) {
        self.state_mut().by_name.remove(name);
    }

    /// Keeps room for another topic; `None` if there are `max` topics, counting those that are being created.
    pub(super) fn make_room(&self, max: usize) -> Option<Room<'_>> {
        let mut state = self.state_mut();
        if state.by_name.len().saturating_add(state.creating) >= max {
            return None;
        }
        state.creating += 1;
        Some(Room { topics: self, used: false })
    }
}

impl Room<'_> {
    /// Adds the topic that the room was kept for.
    pub(super) fn fill(mut self, topic: Arc<Topic>) {
        let mut state = self.topics.state_mut();
        state.creating -= 1;
        state.by_name.insert(topic.name.clone(), topic);
        self.used = true;
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if !self.used {
            self.topics.state_mut().creating -= 1;
        }
    }
}
