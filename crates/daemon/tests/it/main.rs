//! The server over real sockets, as clients see it.
#![expect(clippy::unwrap_used, reason = "a test helper that fails fails the test")]

mod admission;
mod harness;
mod http_client;
mod http_limits;
mod http_requests;
mod http_shutdown;
mod http_slow;
mod log;
mod net;
mod tls;
