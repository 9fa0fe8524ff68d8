//! Counters and histograms of a node, which the paths of messages add to: once for each batch, never for each message.
//!
//! Figures of a topic or a channel belong to it and disappear with it. These stay, so that they only grow.

mod limit;

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use nsq_daemon::metrics::Histogram;
use nsq_protocol::Code;

pub(crate) use self::limit::Limit;
use self::limit::Reached;

/// Bounds for work in memory and in the page cache.
static QUICK: [Duration; 14] = [
    Duration::from_micros(5),
    Duration::from_micros(10),
    Duration::from_micros(25),
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
];

/// Bounds for a disk, from a cache without power loss to a device in trouble.
static FLUSHES: [Duration; 14] = [
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(10),
];

/// Bounds for the wait of a message, from a consumer that is idle to a backlog of hours.
static WAITS: [Duration; 16] = [
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(3 * 60 * 60),
];

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        if count > 0 {
            self.0.fetch_add(count, Relaxed);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The counters and histograms of a node.
#[derive(Debug)]
pub(crate) struct Meters {
    pub(crate) published: Counter,
    /// Bytes of the bodies of published messages.
    pub(crate) published_bytes: Counter,
    pub(crate) delivered: Counter,
    pub(crate) finished: Counter,
    pub(crate) requeued: Counter,
    pub(crate) timed_out: Counter,
    /// Messages that could not be read back, once for each channel that was to deliver them.
    pub(crate) lost: Counter,
    /// The time that a batch of messages takes until the log has it and the channels know.
    pub(crate) publishes: Histogram,
    /// The time from the publish of the first message of a hand-out to its first delivery.
    pub(crate) waits: Histogram,
    /// The time that a flush of a topic's files takes.
    pub(crate) flushes: Histogram,
    pub(crate) failed_flushes: Counter,
    /// Errors answered to clients, in the order of [`Code::ALL`].
    refusals: [Counter; Code::ALL.len()],
    limits: Reached,
    /// Set once the data folder has been opened.
    pub(crate) recovery: OnceLock<Recovery>,
}

/// The opening of the data folder.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Recovery {
    pub(crate) time: Duration,
    /// Topics that were opened.
    pub(crate) topics: usize,
    /// Topics that could not be opened.
    pub(crate) failed: usize,
    /// Notices of messages that are lost.
    pub(crate) losses: usize,
    /// Notices of damage that cost no message.
    pub(crate) repairs: usize,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            published: Counter::default(),
            published_bytes: Counter::default(),
            delivered: Counter::default(),
            finished: Counter::default(),
            requeued: Counter::default(),
            timed_out: Counter::default(),
            lost: Counter::default(),
            publishes: Histogram::new(&QUICK),
            waits: Histogram::new(&WAITS),
            flushes: Histogram::new(&FLUSHES),
            failed_flushes: Counter::default(),
            refusals: Default::default(),
            limits: Reached::default(),
            recovery: OnceLock::new(),
        }
    }
}

impl Meters {
    /// Counts an error that a client is answered.
    pub(crate) fn refused(&self, code: Code) {
        let mut refusals = Code::ALL.iter().zip(&self.refusals);
        if let Some((_, count)) = refusals.find(|(known, _)| **known == code) {
            count.add(1);
        }
    }

    /// The number of errors answered to clients, by code.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (Code, u64)> {
        Code::ALL.iter().copied().zip(self.refusals.iter().map(Counter::get))
    }

    /// Counts that a peer has reached a limit.
    pub(crate) fn reached(&self, limit: Limit) {
        self.limits.count(limit);
    }

    /// How often each limit was reached.
    pub(crate) fn limits(&self) -> impl Iterator<Item = (Limit, u64)> {
        self.limits.counts()
    }
}
