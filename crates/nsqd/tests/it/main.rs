//! nsqd as its clients see it: over real sockets, and as a real process.
#![expect(clippy::unwrap_used, reason = "a test helper that fails fails the test")]

mod answers;
mod auth;
mod buffering;
mod cold;
mod compression;
mod crowd;
mod deferred;
mod delivery;
mod ephemeral;
mod fairness;
mod forged;
mod go_folder;
mod heartbeat;
mod hostile;
mod identify;
mod killed;
mod layers;
mod lifecycle;
mod log;
mod lookup;
mod names;
mod network_memory;
mod process;
mod protocol;
mod restart;
mod service;
mod session;
mod stalls;
mod statsd;
mod support;
#[expect(dead_code, reason = "shared with `faults`, which needs the rest")]
mod test_clocks;
mod tls;
mod topology;
mod wire;
