//! The operations on a channel.

use std::ops::Range;

use proptest::{collection::vec, prelude::*};

/// The settings of the channel.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) depth_max: Option<u64>,
    pub(crate) seed: u64,
    pub(crate) start: u64,
}

/// Distances from here on lead to messages that no channel will ever have.
pub(crate) const MADE_UP_FROM: u64 = 28;

/// Clients are picked by index among those present, messages by their distance from a little
/// below the lowest unfinished one.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Publish { count: u64, deferred: Vec<(u64, u64, u64)> },
    AddClient { timeout: u64, sample_rate: u8, ready: u64 },
    Configure { client: usize, timeout: u64 },
    RemoveClient { client: usize, requeue: bool },
    SetReady { client: usize, count: u64 },
    Visit { client: usize, takes: Vec<u64> },
    Release { client: usize },
    Finish { client: usize, from: u64, count: u64 },
    FinishOwn { client: usize, skip: usize, count: u64 },
    Requeue { client: usize, own: bool, message: u64, delay: u64 },
    Touch { client: usize, own: bool, message: u64 },
    Wait { time: u64 },
    WaitForDeadline,
    Pause,
    Unpause,
    Empty,
    Journal,
    Restart,
    Crash,
    Settle,
}

pub(crate) fn setup() -> impl Strategy<Value = Setup> {
    let depth_max = prop_oneof![4 => Just(None), 1 => (0..12_u64).prop_map(Some)];
    (depth_max, any::<u64>(), 0..3_u64).prop_map(|(depth_max, seed, start)| Setup {
        depth_max,
        seed,
        start,
    })
}

pub(crate) fn operations(count: Range<usize>) -> impl Strategy<Value = Vec<Operation>> {
    vec(operation(), count)
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let client = || 0..6_usize;
    let takes = vec(prop_oneof![2 => Just(u64::MAX), 3 => 0..5_u64], 0..5);
    let deferred =
        prop_oneof![3 => Just(Vec::new()), 1 => vec((0..8_u64, 1..4_u64, 0..40_u64), 1..4)];
    prop_oneof![
        8 => (1..16_u64, deferred).prop_map(|(count, deferred)| Publish { count, deferred }),
        4 => (5..60_u64, prop_oneof![4 => Just(0), 1 => 1..100_u8], 0..8_u64)
            .prop_map(|(timeout, sample_rate, ready)| AddClient { timeout, sample_rate, ready }),
        1 => (client(), 5..60_u64).prop_map(|(client, timeout)| Configure { client, timeout }),
        2 => (client(), any::<bool>())
            .prop_map(|(client, requeue)| RemoveClient { client, requeue }),
        4 => (client(), 0..10_u64).prop_map(|(client, count)| SetReady { client, count }),
        14 => (client(), takes).prop_map(|(client, takes)| Visit { client, takes }),
        1 => client().prop_map(|client| Release { client }),
        3 => (client(), 0..30_u64, 0..10_u64)
            .prop_map(|(client, from, count)| Finish { client, from, count }),
        6 => (client(), 0..4_usize, 1..6_u64)
            .prop_map(|(client, skip, count)| FinishOwn { client, skip, count }),
        5 => (client(), any::<bool>(), 0..30_u64, prop_oneof![Just(0), 0..40_u64])
            .prop_map(|(client, own, message, delay)| Requeue { client, own, message, delay }),
        4 => (client(), any::<bool>(), 0..30_u64)
            .prop_map(|(client, own, message)| Touch { client, own, message }),
        4 => (0..30_u64).prop_map(|time| Wait { time }),
        3 => Just(WaitForDeadline),
        1 => Just(Pause),
        2 => Just(Unpause),
        1 => Just(Empty),
        4 => Just(Journal),
        1 => Just(Restart),
        1 => Just(Crash),
        2 => Just(Settle),
    ]
}
