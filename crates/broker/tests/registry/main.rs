//! The registration database of nsqlookupd through its public surface.

#![expect(clippy::unwrap_used, reason = "a test helper that fails fails the test")]

mod behaviour;
mod model;

use std::time::Duration;

use nsq_broker::{
    Time,
    registry::{Peer, ProducerId, Registry},
};

const INACTIVE: Duration = Duration::from_secs(300);
const LIFETIME: Duration = Duration::from_secs(45);

const A: ProducerId = ProducerId(1);
const B: ProducerId = ProducerId(2);

fn at(seconds: u64) -> Time {
    Time(seconds * 1_000_000_000)
}

fn peer(address: &str) -> Peer {
    Peer {
        broadcast_address: address.to_owned(),
        tcp_port: 4150,
        http_port: 4151,
        ..Peer::default()
    }
}

/// A registry with the producers `a` and `b`, which gave a sign of life at 0.
fn registry() -> Registry {
    let mut registry = Registry::new(INACTIVE, LIFETIME);
    assert!(registry.identify(A, peer("a"), at(0)));
    assert!(registry.identify(B, peer("b"), at(0)));
    registry
}

/// The broadcast addresses that a lookup shows.
fn visible(registry: &Registry, topic: &str, now: Time) -> Vec<String> {
    let lookup = registry.lookup(topic, now).unwrap();
    lookup.producers.iter().map(|peer| peer.broadcast_address.clone()).collect()
}

fn topics(registry: &Registry) -> Vec<&str> {
    registry.topics().map(|topic| &**topic).collect()
}

fn channels<'a>(registry: &'a Registry, topic: &str) -> Vec<&'a str> {
    registry.channels(topic).map(|channel| &**channel).collect()
}

/// Registrations as log lines show them, shortened.
fn texts(registrations: &[nsq_broker::registry::Registration]) -> Vec<String> {
    registrations.iter().map(|registration| registration.parts().join(":")).collect()
}
