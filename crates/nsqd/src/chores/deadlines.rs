//! One clock for all channels: a heap of the next moment each of them has to be looked at.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{Mutex, Weak},
};

use nsq_broker::Time;
use tokio::sync::Notify;

use crate::{clock::Clock, lock::lock, topic::channel::Channel};

/// The deadlines of a node. A channel has one entry as a rule, and one more whenever an earlier deadline came up.
#[derive(Default)]
pub(crate) struct Deadlines {
    heap: Mutex<BinaryHeap<Entry>>,
    earlier: Notify,
}

struct Entry {
    at: Reverse<Time>,
    channel: Weak<Channel>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl Deadlines {
    /// Has `channel` looked at when `at` comes.
    pub(crate) fn arm(&self, at: Time, channel: Weak<Channel>) {
        let mut heap = lock(&self.heap);
        let is_earliest = heap.peek().is_none_or(|earliest| at < earliest.at.0);
        heap.push(Entry { at: Reverse(at), channel });
        drop(heap);
        if is_earliest {
            self.earlier.notify_one();
        }
    }

    /// Looks at channels as their time comes, for ever.
    pub(crate) async fn run(&self, clock: Clock) {
        loop {
            let next = lock(&self.heap).peek().map(|entry| entry.at.0);
            let Some(next) = next else {
                self.earlier.notified().await;
                continue;
            };
            tokio::select! {
                () = tokio::time::sleep_until(clock.instant(next)) => self.fire(clock.now()),
                () = self.earlier.notified() => {}
            }
        }
    }

    fn fire(&self, now: Time) {
        loop {
            let mut heap = lock(&self.heap);
            if heap.peek().is_none_or(|entry| entry.at.0 > now) {
                return;
            }
            let due = heap.pop();
            drop(heap);
            if let Some(channel) = due.and_then(|entry| entry.channel.upgrade()) {
                channel.expire(now);
            }
        }
    }
}
