//! A cluster for real: every daemon, producer and consumer is a process of its own on a host of its own.
//!
//! The hosts are network namespaces, which takes root and iproute2. Without them the tests are skipped, loudly, and
//! in CI they fail.
#![expect(clippy::unwrap_used, reason = "a test helper that fails fails the test")]

#[cfg(target_os = "linux")]
mod hosts;
#[cfg(target_os = "linux")]
mod processes;
#[cfg(target_os = "linux")]
mod story;
