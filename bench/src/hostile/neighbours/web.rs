//! Neighbours that ask over HTTP.

use std::{net::SocketAddr, time::Duration};

use crate::{
    consumer::CHANNEL,
    failure::Failure,
    hostile::{
        keep_alive,
        neighbour::{Neighbour, PLAIN, nothing, scaled},
        raid::Raid,
        visitor::{Visitor, http_request},
    },
    workload::Run,
};

/// Requests with long addresses.
pub(super) const LONG_URIS: Neighbour = Neighbour {
    name: "long_uris",
    title: "100 requests/s with a URI of 60 kB",
    server: PLAIN,
    prepare: nothing,
    workers: 1,
    work: |raid, _| {
        let path = format!("/ping?{}", "x".repeat(URI_BYTES));
        let request = http_request("GET", &path, "");
        raid.every(Duration::from_millis(10), |_| Visitor::http(raid)?.request(&request));
    },
};

/// Requests whose answers are dear to make.
pub(super) const STATS: Neighbour = Neighbour {
    name: "stats",
    title: "3 clients that ask for /stats over 2,000 channels, up to 20 times/s each",
    server: PLAIN,
    prepare: create_topics,
    workers: 3,
    work: |raid, _| stats(raid, Duration::from_millis(50)),
};

const URI_BYTES: usize = 60_000;
const TOPICS: usize = 2000;

/// Asks for `/stats` again and again.
pub(super) fn stats(raid: &Raid<'_>, interval: Duration) {
    let request = http_request("GET", "/stats?format=json", "");
    raid.every(interval, |_| Visitor::http(raid)?.request(&request));
}

/// Creates ephemeral topics with a channel each, which no server saves.
fn create_topics(run: &Run<'_>, http: SocketAddr) -> Result<(), Failure> {
    let paths = (0..scaled(run, TOPICS)).flat_map(|index| {
        let topic = format!("topic=hostile_{index}%23ephemeral");
        [
            format!("/topic/create?{topic}"),
            format!("/channel/create?{topic}&channel={CHANNEL}%23ephemeral"),
        ]
    });
    keep_alive::post(http, paths, run.limit)
}
