//! nsqlookupd over real sockets.
#![expect(clippy::unwrap_used, reason = "a test helper that fails fails the test")]

mod discovery;
mod harness;
mod hostile;
mod http;
mod limits;
mod metrics;
mod process;
mod protocol;
mod stop;
