//! The NSQ utilities. Each is a function that takes a command line and returns an exit code: 0 for success, 1 for a
//! failed check or a failure while running, 2 for an invalid command line.
//!
//! - [`nsq_tail::run`] prints the messages of topics.
//! - [`to_nsq::run`] publishes the records that it reads from stdin.
//!
//! Only messages go to stdout. Everything else goes to stderr, one line each, with date and time.
#![forbid(unsafe_code)]

mod common;
mod hangup;
mod log;
pub mod nsq_tail;
pub mod to_nsq;
