//! The client against a scripted nsqd, over real sockets. Ids in comments (`M01`) are those of the checklist of
//! client behaviours.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue must panic")]

mod auth;
mod backoff;
mod batch;
#[cfg(feature = "compression")]
mod compression;
mod config;
mod connection;
mod discovery;
mod handshake;
mod hostile;
mod link;
mod lookupd;
mod messages;
mod pool;
mod producer;
mod pull;
mod rdy;
mod stats;
mod stop;
mod support;
#[cfg(feature = "tls")]
mod tls;
