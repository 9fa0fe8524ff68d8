//! The NSQ utilities, each a function that takes a command line and gives an exit code: 0 for a clean end, 1 for a
//! failed check or a failure while running, 2 for a mistake in the command line.
//!
//! - [`nsq_tail::run`] prints the messages of topics.
//! - [`to_nsq::run`] publishes what it reads from stdin.
//!
//! Only what a tool is for goes to stdout; everything else goes to stderr, one line each, with date and time.
#![forbid(unsafe_code)]

mod common;
mod hangup;
mod log;
pub mod nsq_tail;
pub mod to_nsq;
