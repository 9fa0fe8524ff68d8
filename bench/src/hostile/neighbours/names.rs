//! Neighbours that make names.

use std::{net::SocketAddr, time::Duration};

use crate::{
    failure::Failure,
    hostile::{
        keep_alive,
        lookupd::Manner,
        neighbour::{Neighbour, PLAIN, Setup, nothing, scaled},
        raid::Raid,
        visitor::{Visitor, http_request},
    },
    workload::Run,
};

/// Ephemeral channels that come and go beside very many others.
pub(super) const EPHEMERAL_CHURN: Neighbour = Neighbour {
    name: "ephemeral_churn",
    title: "100 SUBs/s to new ephemeral channels that end at once, beside 30,000 channels and 2 nsqlookupds",
    server: Setup { lookupds: &[Manner::Names(0), Manner::Names(0)], ..PLAIN },
    prepare: create_channels,
    workers: 1,
    work: |raid, _| {
        raid.every(Duration::from_millis(10), |index| {
            let sub = format!("SUB hostile churn_{index}#ephemeral\n");
            Visitor::client(raid)?.ask(sub.as_bytes())
        });
    },
};

/// Very many channels of one topic.
pub(super) const CHANNELS: Neighbour = Neighbour {
    name: "channels",
    title: "4,000 channels of one topic, created over HTTP, up to 1,000/s",
    server: PLAIN,
    prepare: nothing,
    workers: 1,
    work: channels,
};

const KNOWN_TOPICS: usize = 10;
const KNOWN_CHANNELS: usize = 30_000;
const NEW_CHANNELS: usize = 4000;

/// Creates channels that are not saved, so that even a server that saves all names at each change is ready
/// soon.
fn create_channels(run: &Run<'_>, http: SocketAddr) -> Result<(), Failure> {
    let topic = |index: usize| format!("topic=hostile_{}", index % KNOWN_TOPICS);
    let topics = (0..KNOWN_TOPICS).map(|index| format!("/topic/create?{}", topic(index)));
    let channels = (0..scaled(run, KNOWN_CHANNELS))
        .map(|index| format!("/channel/create?{}&channel=known_{index}%23ephemeral", topic(index)));
    keep_alive::post(http, topics.chain(channels), run.limit)
}

fn channels(raid: &Raid<'_>, _: usize) {
    raid.times(NEW_CHANNELS, Duration::from_millis(1), |index| {
        let path = format!("/channel/create?topic=hostile&channel=new_{index}");
        // With a message, the topic has files that its channels are recorded in.
        if index == 0 {
            Visitor::client(raid)?.ask(b"PUB hostile\n\0\0\0\x01x")?;
        }
        Visitor::http(raid)?.request(&http_request("POST", &path, ""))
    });
    raid.rest();
}
