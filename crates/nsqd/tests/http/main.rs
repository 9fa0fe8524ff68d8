//! nsqd's HTTP API over real sockets.
#![expect(clippy::unwrap_used, reason = "a test helper that fails fails the test")]

mod admin;
mod config;
mod debug;
mod harness;
mod health;
mod metrics;
mod publish;
mod stats;
mod status;
mod tls;
