//! One timer for everything that waits for a point in time.
//!
//! # Invariants
//! 1. Each target has at most one entry, so memory follows from what waits, not from what has waited.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, Weak},
};

use nsq_broker::Time;
use tokio::sync::Notify;

use crate::{birth::Birth, clock::Clock, lock::lock};

/// A target with a deadline.
pub(crate) trait Expire: Send + Sync {
    /// Does the work that is due at `now`.
    fn expire(self: Arc<Self>, now: Time);
}

/// The deadlines of a node, in order.
#[derive(Default)]
pub(crate) struct Deadlines {
    entries: Mutex<BTreeMap<(Time, Birth), Weak<dyn Expire>>>,
    earlier: Notify,
}

impl Deadlines {
    /// Expires `target` at `at` instead of at `before`, for which it was armed last.
    pub(crate) fn arm(&self, key: Birth, before: Option<Time>, at: Time, target: Weak<dyn Expire>) {
        let mut entries = lock(&self.entries);
        if let Some(before) = before {
            entries.remove(&(before, key));
        }
        entries.insert((at, key), target);
        let is_earliest = entries.first_key_value().is_some_and(|(first, _)| *first == (at, key));
        drop(entries);
        if is_earliest {
            self.earlier.notify_one();
        }
    }

    /// Removes an entry.
    pub(crate) fn disarm(&self, key: Birth, at: Time) {
        lock(&self.entries).remove(&(at, key));
    }

    /// Expires the targets whose time has come, for ever.
    pub(crate) async fn run(&self, clock: &Clock) {
        loop {
            let next = lock(&self.entries).first_key_value().map(|((at, _), _)| *at);
            let Some(next) = next else {
                self.earlier.notified().await;
                continue;
            };
            tokio::select! {
                () = clock.reached(next) => self.fire(clock).await,
                () = self.earlier.notified() => {}
            }
        }
    }

    /// Expires every due target and lets other tasks of this thread run in between: a target with much to do does it in
    /// parts.
    async fn fire(&self, clock: &Clock) {
        loop {
            let now = clock.now();
            let Some(target) = self.pop_due(now) else { return };
            if let Some(target) = target.upgrade() {
                target.expire(now);
            }
            tokio::task::yield_now().await;
        }
    }

    fn pop_due(&self, now: Time) -> Option<Weak<dyn Expire>> {
        let mut entries = lock(&self.entries);
        let first = entries.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

impl fmt::Debug for Deadlines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadlines").field("count", &lock(&self.entries).len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Target;

    impl Expire for Target {
        fn expire(self: Arc<Self>, _now: Time) {}
    }

    #[test]
    fn a_target_has_one_entry_and_leaves_none_behind() {
        let (deadlines, target, key) = (Deadlines::default(), Arc::new(Target), Birth::next());
        let entered = || Arc::downgrade(&target) as Weak<dyn Expire>;
        deadlines.arm(key, None, Time(20), entered());
        deadlines.arm(key, Some(Time(20)), Time(10), entered());
        assert_eq!(lock(&deadlines.entries).len(), 1);
        deadlines.disarm(key, Time(10));
        assert_eq!((lock(&deadlines.entries).len(), Arc::weak_count(&target)), (0, 0));
    }
}
