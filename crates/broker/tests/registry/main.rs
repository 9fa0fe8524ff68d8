//! The registration database of nsqlookupd through its public surface.

#![expect(clippy::unwrap_used, reason = "a test helper that fails fails the test")]

mod behaviour;
mod limits;
mod model;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use nsq_broker::{
    Time,
    registry::{Peer, Place, ProducerId, Progress, Registration, Registry, Seen, Settings, Slice},
};

const INACTIVE: Duration = Duration::from_secs(300);
const LIFETIME: Duration = Duration::from_secs(45);

const A: ProducerId = ProducerId(1);
const B: ProducerId = ProducerId(2);

fn settings() -> Settings {
    Settings { inactive_timeout: INACTIVE, tombstone_lifetime: LIFETIME, ..Settings::default() }
}

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
    let mut registry = Registry::new(settings());
    assert!(registry.identify(A, peer("a"), at(0)));
    assert!(registry.identify(B, peer("b"), at(0)));
    registry
}

/// The broadcast addresses that a lookup shows.
fn visible(registry: &Registry, topic: &str, now: Time) -> Vec<String> {
    let producers = registry.lookup(topic, now).unwrap();
    producers.iter().map(|peer| peer.broadcast_address.clone()).collect()
}

fn names(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// The names in all slices of an answer, sorted.
fn sorted(slice: impl Fn(Place) -> Slice<Box<str>>) -> Vec<String> {
    let mut names: Vec<_> = all(slice).into_iter().map(String::from).collect();
    names.sort();
    names
}

/// The items of all slices of an answer.
fn all<T>(slice: impl Fn(Place) -> Slice<T>) -> Vec<T> {
    let (mut items, mut next) = (Vec::new(), Some(Place::default()));
    while let Some(from) = next {
        let part = slice(from);
        items.extend(part.items);
        next = part.next;
    }
    items
}

fn topics(registry: &Registry) -> Vec<String> {
    sorted(|from| registry.topics(from, 1))
}

fn channels(registry: &Registry, topic: &str) -> Vec<String> {
    sorted(|from| registry.channels(topic, from, 1))
}

type Topics = Vec<(Box<str>, bool)>;

/// The active producers with their topics, sorted.
fn nodes(registry: &Registry, now: Time) -> Vec<(Arc<Peer>, Topics)> {
    let active = registry.producers(now).into_iter().filter(|seen| seen.is_active);
    let node = |seen: Seen| {
        let mut topics = all(|from| registry.topics_of(seen.id, from, 1, now));
        topics.sort();
        (seen.peer, topics)
    };
    active.map(node).collect()
}

type Entries = Vec<(ProducerId, Option<Time>)>;

/// The topics and channels that have producers, with these and their tombstones.
fn registrations(registry: &Registry) -> BTreeMap<Registration, Entries> {
    let mut entries = BTreeMap::<_, Entries>::new();
    for seen in registry.producers(at(0)) {
        for (registration, tombstone) in all(|from| registry.registrations_of(seen.id, from, 1)) {
            entries.entry(registration).or_default().push((seen.id, tombstone));
        }
    }
    entries
}

/// Registers at 0, within the limits.
fn register(
    registry: &mut Registry,
    id: ProducerId,
    topic: &str,
    channel: Option<&str>,
) -> Vec<Registration> {
    registry.register(id, topic, channel, at(0)).unwrap()
}

/// The entries removed by a change that is carried out in the shortest steps.
fn steps(mut step: impl FnMut(usize) -> Progress) -> Vec<Registration> {
    let mut removed = Vec::new();
    loop {
        let progress = step(1);
        removed.extend(progress.removed);
        if progress.is_done {
            return removed;
        }
    }
}

fn unregister(
    registry: &mut Registry,
    id: ProducerId,
    topic: &str,
    channel: Option<&str>,
) -> Vec<Registration> {
    let mut removed = steps(|at_most| registry.unregister(id, topic, channel, at(0), at_most));
    removed.sort();
    removed
}

fn disconnect(registry: &mut Registry, id: ProducerId) -> Vec<Registration> {
    let mut removed = steps(|at_most| registry.disconnect(id, at(0), at_most));
    removed.sort();
    removed
}

fn delete_topic(registry: &mut Registry, topic: &str) -> Vec<Registration> {
    let mut deleted = steps(|at_most| registry.delete_topic(topic, at(0), at_most));
    deleted.sort();
    deleted
}

/// Registrations as log lines show them, shortened.
fn texts(registrations: &[Registration]) -> Vec<String> {
    registrations.iter().map(|registration| registration.parts().join(":")).collect()
}
