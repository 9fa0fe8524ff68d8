//! A channel's clients as callers see them.

use std::time::Duration;

/// A connection that consumes a channel. An id is never used for a second connection.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug, Ord, PartialOrd)]
pub struct ClientId(pub u64);

/// How far a client is from the broker. Nearer clients that wait are served first.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub enum Distance {
    /// In the same zone.
    Zone,
    /// In the same region.
    Region,
    /// Anywhere; all clients are, unless their places matter.
    #[default]
    Global,
}

impl Distance {
    /// The number of distances.
    pub(crate) const COUNT: usize = 3;

    /// The place of the distance among all, nearest first.
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// The settings of a client, from its IDENTIFY.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct ClientConfig {
    /// How long a message may be in flight before it is delivered again.
    pub msg_timeout: Duration,
    /// 0 delivers all messages, else `sample_rate + 1` of 100; the others count as finished.
    pub sample_rate: u8,
    /// How far away it is.
    pub distance: Distance,
}

/// The counters of a client.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct ClientStats {
    /// Its RDY: how many messages may be in flight to it.
    pub ready: u64,
    /// The number of messages in flight to it.
    pub in_flight: u64,
    /// The number of deliveries to it.
    pub message_count: u64,
    /// The number of messages it finished.
    pub finish_count: u64,
    /// The number of messages it requeued.
    pub requeue_count: u64,
}
