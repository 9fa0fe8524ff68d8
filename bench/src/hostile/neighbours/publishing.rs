//! Neighbours that publish too much at once.

use std::time::Duration;

use crate::{
    hostile::{
        neighbour::{Neighbour, PLAIN, Setup, nothing},
        raid::Raid,
        visitor::Visitor,
    },
    wire::{self, Commands},
};

/// As many messages as fit into one command.
pub(super) const TINY_MESSAGES: Neighbour = Neighbour {
    name: "tiny_messages",
    title: "2 MPUBs/s, each of a million messages of one byte",
    server: PLAIN,
    prepare: nothing,
    workers: 1,
    work: tiny_messages,
};

/// Commands that never end.
pub(super) const HALF_SENT: Neighbour = Neighbour {
    name: "half_sent",
    title: "200 connections without heartbeats, opened at 50/s, each with all but the end of an MPUB of 5 MB",
    server: PLAIN,
    prepare: nothing,
    workers: 1,
    work: half_sent,
};

/// Messages that only memory can hold.
pub(super) const EPHEMERAL_FLOOD: Neighbour = Neighbour {
    name: "ephemeral_flood",
    title: "600 messages of 1 MB to 20 ephemeral topics without consumers, at 125/s, 256 MiB allowed",
    server: Setup { flags: &["-max-ephemeral-memory=268435456"], ..PLAIN },
    prepare: nothing,
    workers: 1,
    work: ephemeral_flood,
};

const TINY_MESSAGES_PER_MPUB: u32 = 1_000_000;
const HALF_SENT_CONNECTIONS: usize = 200;
const HALF_SENT_BYTES: usize = 5_000_000;
const FLOOD_MESSAGES: usize = 600;
const FLOOD_TOPICS: usize = 20;
const FLOOD_BODY_BYTES: usize = 1_000_000;

fn tiny_messages(raid: &Raid<'_>, _: usize) {
    let command = tiny_mpub(TINY_MESSAGES_PER_MPUB);
    raid.every(Duration::from_millis(500), |_| Visitor::client(raid)?.ask(&command));
}

/// Returns an `MPUB` of messages of one byte.
fn tiny_mpub(messages: u32) -> Vec<u8> {
    let mut command = b"MPUB hostile\n".to_vec();
    command.extend_from_slice(&(4 + 5 * messages).to_be_bytes());
    command.extend_from_slice(&messages.to_be_bytes());
    command.extend((0..messages).flat_map(|_| *b"\0\0\0\x01x"));
    command
}

fn half_sent(raid: &Raid<'_>, _: usize) {
    let mut command = Commands::mpub("hostile", HALF_SENT_BYTES / 5 - 4, 5, 1);
    let command = command.numbered(1, 0);
    let half = &command[..command.len() - 1000];
    let mut held = Vec::with_capacity(HALF_SENT_CONNECTIONS);
    raid.times(HALF_SENT_CONNECTIONS, Duration::from_millis(20), |_| {
        let mut visitor = Visitor::client(raid)?;
        visitor.ask(&wire::identify(r#"{"heartbeat_interval":-1}"#))?;
        visitor.send(half)?;
        held.push(visitor);
        Ok(())
    });
    raid.rest();
}

fn ephemeral_flood(raid: &Raid<'_>, _: usize) {
    let body = wire::body(FLOOD_BODY_BYTES, 0);
    let size = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    raid.times(FLOOD_MESSAGES, Duration::from_millis(8), |index| {
        let head = format!("PUB hostile_{}#ephemeral\n", index % FLOOD_TOPICS);
        Visitor::client(raid)?.ask(&[head.as_bytes(), &size, &body].concat())
    });
    raid.rest();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_tiny_messages_fit_into_one_command() {
        assert!(tiny_mpub(TINY_MESSAGES_PER_MPUB).len() < 5 << 20);
        assert_eq!(tiny_mpub(1), b"MPUB hostile\n\0\0\0\x09\0\0\0\x01\0\0\0\x01x");
    }
}
