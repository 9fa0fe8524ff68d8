//! nsqd on a slow disk, on one that is full or broken, and by clocks that are wrong.
//!
//! Nothing here is timed. A slow disk is one on which calls wait until the test lets them go; a full or broken one is in
//! memory; a clock shows what the test says. A kill is a copy of the disk in memory at that moment.
#![expect(clippy::unwrap_used, reason = "a test helper that fails fails the test")]

mod clocks;
mod descriptors;
mod flushes;
mod full;
mod gone;
mod health;
mod held_disk;
mod journal;
mod latency;
mod machine;
mod metrics;
mod slow;
mod start;
mod stop;
#[expect(dead_code, reason = "shared with the other tests, which need all of it")]
#[path = "../it/support.rs"]
mod support;
#[expect(dead_code, reason = "shared with `it`, which needs the rest")]
#[path = "../it/test_clocks.rs"]
mod test_clocks;
mod turns;
