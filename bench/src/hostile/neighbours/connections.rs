//! Neighbours that take connections.

use std::time::Duration;

use crate::hostile::{
    neighbour::{Neighbour, PLAIN, Setup, nothing},
    raid::Raid,
    visitor::Visitor,
};

/// Connections up to the limit of open files.
pub(super) const IDLE: Neighbour = Neighbour {
    name: "idle",
    title: "1,100 idle connections, opened at 1,000/s, with a limit of 1,024 open files",
    // Small segments, so that the honest topic needs new files meanwhile.
    server: Setup { open_files: Some(1024), flags: &["-max-bytes-per-file=200000"], ..PLAIN },
    prepare: nothing,
    workers: 1,
    work: idle,
};

/// A storm of connections for protocol V2.
pub(super) const CONNECTS: Neighbour = Neighbour {
    name: "connects",
    title: "connections that hang up at once, up to 10,000/s, on the TCP port",
    server: PLAIN,
    prepare: nothing,
    workers: 2,
    work: |raid, _| storm(raid, Visitor::client),
};

/// A storm of connections for HTTP.
pub(super) const HTTP_CONNECTS: Neighbour = Neighbour {
    name: "http_connects",
    title: "connections that hang up at once, up to 10,000/s, on the HTTP port",
    server: PLAIN,
    prepare: nothing,
    workers: 2,
    work: |raid, _| storm(raid, Visitor::http),
};

const IDLE_CONNECTIONS: usize = 1100;
const STORM_INTERVAL: Duration = Duration::from_micros(200);

fn idle(raid: &Raid<'_>, _: usize) {
    let mut held = Vec::with_capacity(IDLE_CONNECTIONS);
    for _ in 0..IDLE_CONNECTIONS {
        if raid.is_over() {
            break;
        }
        match Visitor::client(raid) {
            Ok(visitor) => held.push(visitor),
            Err(error) => raid.count(1, &Err(error)),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    raid.rest();
    for visitor in &mut held {
        raid.count(1, &visitor.discard());
    }
}

fn storm<'a>(raid: &'a Raid<'a>, connect: impl Fn(&'a Raid<'a>) -> std::io::Result<Visitor<'a>>) {
    raid.every(STORM_INTERVAL, |_| connect(raid).map(drop));
}
