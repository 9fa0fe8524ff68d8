//! Neighbours that consume without reading, or finish without consuming.

use std::{thread, time::Duration};

use crate::{
    hostile::{
        neighbour::{Neighbour, PLAIN, nothing},
        raid::Raid,
        visitor::Visitor,
    },
    wire::{self, Commands},
};

/// Consumers that read nothing.
pub(super) const DEAF: Neighbour = Neighbour {
    name: "deaf",
    title: "100 consumers with the longest heartbeats that read nothing, each sent 2 MB/s from a channel of its own",
    server: PLAIN,
    prepare: nothing,
    workers: 2,
    work: |raid, worker| match worker {
        0 => subscribe_and_read_nothing(raid),
        _ => feed(raid),
    },
};

/// FINs of messages that were never delivered.
pub(super) const FORGED_FINS: Neighbour = Neighbour {
    name: "forged_fins",
    title: "FINs of messages that do not exist, up to 200,000/s, on 1 connection",
    server: PLAIN,
    prepare: nothing,
    workers: 1,
    work: forge_fins,
};

const DEAF_CONSUMERS: usize = 100;
const DEAF_BODY_BYTES: usize = 100_000;
/// `FIN`s written at a time.
const FINS: usize = 2000;

fn subscribe_and_read_nothing(raid: &Raid<'_>) {
    let mut held = Vec::with_capacity(DEAF_CONSUMERS);
    raid.times(DEAF_CONSUMERS, Duration::from_millis(5), |index| {
        let mut visitor = Visitor::client(raid)?;
        // Consumers cannot do without heartbeats.
        visitor.ask(&wire::identify(r#"{"heartbeat_interval":60000}"#))?;
        visitor.ask(format!("SUB hostile deaf_{index}\n").as_bytes())?;
        visitor.send(b"RDY 2500\n")?;
        held.push(visitor);
        Ok(())
    });
    raid.rest();
}

fn feed(raid: &Raid<'_>) {
    let mut command = Commands::pub_one("hostile", DEAF_BODY_BYTES, 1);
    raid.every(Duration::from_millis(50), |index| {
        Visitor::client(raid)?.ask(command.numbered(1, index))
    });
}

fn forge_fins(raid: &Raid<'_>, _: usize) {
    let mut fins = Vec::new();
    for _ in 0..FINS {
        wire::put_fin(&mut fins, b"0123456789abcdef");
    }
    while !raid.is_over() {
        // A server that closes the connection gets the next one.
        let broken = flood(raid, &fins);
        raid.count(1, &broken);
        thread::sleep(Duration::from_millis(10));
    }
}

/// Sends FINs on one connection, until it breaks or the raid ends.
fn flood(raid: &Raid<'_>, fins: &[u8]) -> std::io::Result<()> {
    let mut visitor = Visitor::client(raid)?;
    visitor.ask(b"SUB hostile hostile\nRDY 1\n")?;
    while !raid.is_over() {
        visitor.send_and_discard(fins)?;
        visitor.discard()?;
        raid.count(FINS, &Ok(()));
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
