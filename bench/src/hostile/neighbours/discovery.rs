//! Neighbours that answer as an nsqlookupd, or say which ones there are.

use std::{collections::VecDeque, time::Duration};

use serde_json::json;

use crate::hostile::{
    lookupd::Manner,
    neighbour::{Neighbour, PLAIN, Setup, nothing},
    raid::Raid,
    visitor::{Visitor, http_request},
};

/// An nsqlookupd with very many channels.
pub(super) const NAMED_CHANNELS: Neighbour = Neighbour {
    name: "named_channels",
    title: "a new topic every 500 ms, for each of which an nsqlookupd names 3,000 channels",
    server: Setup { lookupds: &[Manner::Names(3000)], ..PLAIN },
    prepare: nothing,
    workers: 1,
    work: |raid, _| {
        raid.every(Duration::from_millis(500), |index| Visitor::client(raid)?.ask(&publish(index)));
    },
};

/// An nsqlookupd that leaves questions open.
pub(super) const SILENT_LOOKUPD: Neighbour = Neighbour {
    name: "silent_lookupd",
    title: "200 new topics/s while an nsqlookupd is silent, with a limit of 1,024 open files",
    server: Setup { open_files: Some(1024), lookupds: &[Manner::Silent], ..PLAIN },
    prepare: nothing,
    workers: 1,
    work: create_without_waiting,
};

/// Very many nsqlookupds, none of which exists.
pub(super) const LOOKUPD_ADDRESSES: Neighbour = Neighbour {
    name: "lookupd_addresses",
    title: "10 PUTs/s of 64 nsqlookupd addresses each, none of which answers",
    server: PLAIN,
    prepare: nothing,
    workers: 1,
    work: |raid, _| {
        raid.every(Duration::from_millis(100), |index| {
            let addresses: Vec<_> =
                (1..=64).map(|host| format!("127.9.{}.{host}:4160", index % 2)).collect();
            let body = json!(addresses).to_string();
            let request = http_request("PUT", "/config/nsqlookupd_tcp_addresses", &body);
            Visitor::http(raid)?.request(&request)
        });
    },
};

/// Connections that wait for their topic at a time.
const WAITING: usize = 300;

fn create_without_waiting(raid: &Raid<'_>, _: usize) {
    let mut waiting = VecDeque::with_capacity(WAITING);
    raid.every(Duration::from_millis(5), |index| {
        if waiting.len() == WAITING {
            waiting.pop_front();
        }
        let mut visitor = Visitor::client(raid)?;
        visitor.send(&publish(index))?;
        waiting.push_back(visitor);
        Ok(())
    });
}

/// Returns a `PUB` to a topic of its own.
fn publish(index: usize) -> Vec<u8> {
    [format!("PUB hostile_{index}\n").as_bytes(), b"\0\0\0\x01x"].concat()
}
