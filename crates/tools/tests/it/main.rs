//! The binaries against a scripted nsqd.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue must panic")]

mod command_line;
mod nsq_tail;
mod support;
mod to_nsq;
