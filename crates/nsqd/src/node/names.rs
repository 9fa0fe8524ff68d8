//! Turns by name: a topic is created or deleted by one thread at a time, without holding up other topics.

use std::{
    collections::BTreeSet,
    sync::{Condvar, Mutex, PoisonError},
};

use nsq_protocol::TopicName;

use crate::lock::lock;

/// The names that are being worked on.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: Mutex<BTreeSet<TopicName>>,
    freed: Condvar,
}

/// The right to create or delete the topic of one name; given back when dropped.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    names: &'a Names,
    name: TopicName,
}

impl Names {
    /// Waits until nothing else is done with `name`. Blocks as long as files are created or deleted.
    pub(super) fn take(&self, name: &TopicName) -> Taken<'_> {
        let busy = |taken: &mut BTreeSet<TopicName>| taken.contains(name);
        let waited = self.freed.wait_while(lock(&self.taken), busy);
        let mut taken = waited.unwrap_or_else(PoisonError::into_inner);
        taken.insert(name.clone());
        Taken { names: self, name: name.clone() }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        lock(&self.names.taken).remove(&self.name);
        self.names.freed.notify_all();
    }
}
