//! A cluster of processes: every daemon, producer and consumer runs on a host of its own.
//!
//! The hosts are network namespaces, which require root and iproute2. Without these the tests print that they are
//! skipped; in CI they fail.
#![expect(clippy::unwrap_used, reason = "a test helper that fails fails the test")]

#[cfg(target_os = "linux")]
mod hosts;
#[cfg(target_os = "linux")]
mod processes;
#[cfg(target_os = "linux")]
mod story;
