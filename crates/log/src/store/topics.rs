//! The topics of a store by name. The map is locked for look-ups only: file work for a name is done under a claim to
//! it, and other callers that want the same name wait for the claim.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use nsq_protocol::TopicName;

use crate::{error::Error, lock, topic_log::TopicLog};

#[derive(Debug, Default)]
pub(super) struct Topics {
    state: Mutex<State>,
    /// Notified when a name is no longer claimed.
    released: Condvar,
}

#[derive(Debug, Default)]
struct State {
    by_name: HashMap<TopicName, Entry>,
    closed: bool,
}

#[derive(Debug)]
enum Entry {
    Claimed,
    Settled(Topic),
}

/// A topic that exists.
#[derive(Clone, Debug)]
pub(super) enum Topic {
    Open(Arc<TopicLog>),
    /// Its files could not be recovered, for this reason.
    Failed(String),
}

impl Topic {
    pub(super) fn log(&self) -> Option<&Arc<TopicLog>> {
        if let Self::Open(log) = self { Some(log) } else { None }
    }
}

impl Topics {
    pub(super) fn new(topics: impl IntoIterator<Item = (TopicName, Topic)>) -> Self {
        let by_name = topics.into_iter().map(|(name, topic)| (name, Entry::Settled(topic)));
        let state = Mutex::new(State { by_name: by_name.collect(), closed: false });
        Self { state, released: Condvar::new() }
    }

    /// The state, once `name` is not claimed.
    fn unclaimed(&self, name: &TopicName) -> MutexGuard<'_, State> {
        let claimed = |state: &mut State| matches!(state.by_name.get(name), Some(Entry::Claimed));
        let state = self.released.wait_while(lock(&self.state), claimed);
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// The open topic of this name, or else the name, claimed for a new one.
    ///
    /// # Errors
    /// When the topic has failed, or the store is closed.
    pub(super) fn claim(
        &self,
        name: &TopicName,
    ) -> Result<Result<Arc<TopicLog>, Claim<'_>>, Error> {
        let mut state = self.unclaimed(name);
        if state.closed {
            return Err(Error::Closed);
        }
        match state.by_name.get(name) {
            Some(Entry::Settled(Topic::Open(log))) => return Ok(Ok(Arc::clone(log))),
            Some(Entry::Settled(Topic::Failed(reason))) => {
                return Err(Error::Failed { topic: name.to_string(), reason: reason.clone() });
            }
            Some(Entry::Claimed) | None => {}
        }
        state.by_name.insert(name.clone(), Entry::Claimed);
        Ok(Err(Claim { topics: self, name: name.clone(), settle: None }))
    }

    /// The topic of this name with its name claimed; `None` if there is none.
    pub(super) fn claim_existing(&self, name: &TopicName) -> Option<(Topic, Claim<'_>)> {
        let mut state = self.unclaimed(name);
        let entry = state.by_name.get_mut(name)?;
        let Entry::Settled(topic) = std::mem::replace(entry, Entry::Claimed) else { return None };
        let settle = Some(topic.clone());
        Some((topic, Claim { topics: self, name: name.clone(), settle }))
    }

    /// Claims the name of a topic that has failed; `None` if it has not.
    pub(super) fn claim_failed(&self, name: &TopicName) -> Option<Claim<'_>> {
        let claimed = self.claim_existing(name);
        claimed.filter(|(topic, _)| matches!(topic, Topic::Failed(_))).map(|(_, claim)| claim)
    }

    /// Refuses everything from now on, and returns all topics once no name is claimed; `None` if that was done before.
    pub(super) fn close(&self) -> Option<Vec<Topic>> {
        let mut state = lock(&self.state);
        if std::mem::replace(&mut state.closed, true) {
            return None;
        }
        let claimed =
            |state: &mut State| state.by_name.values().any(|entry| matches!(entry, Entry::Claimed));
        let state = self.released.wait_while(state, claimed);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let settled = state.by_name.values().filter_map(|entry| match entry {
            Entry::Settled(topic) => Some(topic.clone()),
            Entry::Claimed => None,
        });
        Some(settled.collect())
    }
}

/// A claimed name. Dropping it leaves the name as it was.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    topics: &'a Topics,
    name: TopicName,
    /// The topic under the name afterwards, if any.
    settle: Option<Topic>,
}

impl Claim<'_> {
    /// Puts an open topic under the name.
    pub(super) fn put(mut self, log: Arc<TopicLog>) {
        self.settle = Some(Topic::Open(log));
    }

    /// Leaves no topic under the name.
    pub(super) fn clear(mut self) {
        self.settle = None;
    }

    /// Updates why the topic cannot be recovered.
    pub(super) fn set_reason(&mut self, reason: String) {
        self.settle = Some(Topic::Failed(reason));
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.topics.state);
        match self.settle.take() {
            Some(topic) => drop(state.by_name.insert(self.name.clone(), Entry::Settled(topic))),
            None => drop(state.by_name.remove(&self.name)),
        }
        drop(state);
        self.topics.released.notify_all();
    }
}
