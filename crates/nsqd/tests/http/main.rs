//! nsqd's HTTP API over real sockets.

mod admin;
mod harness;
mod publish;
mod stats;
mod status;
