//! Neighbours that introduce themselves at length.

use std::time::Duration;

use crate::{
    hostile::{
        neighbour::{Neighbour, PLAIN, nothing},
        neighbours::web,
        raid::Raid,
        visitor::Visitor,
    },
    wire,
};

/// JSON whose tree is much larger than its text.
pub(super) const IDENTIFY_JSON: Neighbour = Neighbour {
    name: "identify_json",
    title: "8 IDENTIFYs/s on 2 connections, each with 5 MB of small JSON values",
    server: PLAIN,
    prepare: nothing,
    workers: 2,
    work: identify,
};

/// Strings that appear again in `/stats`.
pub(super) const HUGE_STRINGS: Neighbour = Neighbour {
    name: "huge_strings",
    title: "60 consumers with a client_id of 2 MB, while 3 others ask for /stats up to 10 times/s each",
    server: PLAIN,
    prepare: nothing,
    workers: 4,
    work: |raid, worker| match worker {
        0 => introduce(raid),
        _ => web::stats(raid, Duration::from_millis(100)),
    },
};

/// `{"b":0}` 650,000 times is just below the default limit on bodies.
const SMALL_VALUES: usize = 650_000;
const STRING_BYTES: usize = 2_000_000;
const CLIENTS: usize = 60;

fn identify(raid: &Raid<'_>, _: usize) {
    let body = format!(r#"{{"a":[{}0]}}"#, r#"{"b":0},"#.repeat(SMALL_VALUES));
    let command = wire::identify(&body);
    raid.every(Duration::from_millis(250), |_| Visitor::client(raid)?.ask(&command));
}

fn introduce(raid: &Raid<'_>) {
    let body = format!(r#"{{"client_id":"{}"}}"#, "x".repeat(STRING_BYTES));
    let command = wire::identify(&body);
    let mut held = Vec::with_capacity(CLIENTS);
    raid.times(CLIENTS, Duration::from_millis(20), |_| {
        let mut visitor = Visitor::client(raid)?;
        visitor.ask(&command)?;
        visitor.ask(b"SUB hostile hostile\n")?;
        held.push(visitor);
        Ok(())
    });
    raid.rest();
}
