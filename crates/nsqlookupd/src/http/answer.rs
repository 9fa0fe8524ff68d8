//! JSON answers, with the keys in NSQ's order.

use std::sync::Arc;

use nsq_broker::{
    Time,
    registry::{Peer, Registration, Seen},
};
use nsq_daemon::{http::Error, json::escape_html};
use serde::{Serialize, Serializer};

/// The least that the names of a producer's fields take.
const PEER_NAMES_BYTES: usize = 140;

pub(super) fn info(version: &str) -> Result<Vec<u8>, Error> {
    #[derive(Serialize)]
    struct Answer<'a> {
        version: &'a str,
    }
    json(&Answer { version })
}

pub(super) fn topics(topics: &[Box<str>]) -> Result<Vec<u8>, Error> {
    #[derive(Serialize)]
    struct Answer<'a> {
        topics: Vec<&'a str>,
    }
    json(&Answer { topics: texts(topics) })
}

pub(super) fn channels(channels: &[Box<str>]) -> Result<Vec<u8>, Error> {
    #[derive(Serialize)]
    struct Answer<'a> {
        channels: Vec<&'a str>,
    }
    json(&Answer { channels: texts(channels) })
}

pub(super) fn lookup(channels: &[Box<str>], producers: &[Arc<Peer>]) -> Result<Vec<u8>, Error> {
    #[derive(Serialize)]
    struct Answer<'a> {
        channels: Vec<&'a str>,
        producers: Vec<PeerFields<'a>>,
    }
    json(&Answer {
        channels: texts(channels),
        producers: producers.iter().map(|peer| peer_fields(peer)).collect(),
    })
}

/// A producer and its topics; true for those where a tombstone hides it.
pub(super) struct Node {
    pub(super) peer: Arc<Peer>,
    pub(super) topics: Vec<(Box<str>, bool)>,
}

pub(super) fn nodes(nodes: &[Node]) -> Result<Vec<u8>, Error> {
    #[derive(Serialize)]
    struct NodeFields<'a> {
        #[serde(flatten)]
        peer: PeerFields<'a>,
        tombstones: Vec<bool>,
        topics: Vec<&'a str>,
    }
    #[derive(Serialize)]
    struct Answer<'a> {
        producers: Vec<NodeFields<'a>>,
    }
    fn fields(node: &Node) -> NodeFields<'_> {
        NodeFields {
            peer: peer_fields(&node.peer),
            tombstones: node.topics.iter().map(|(_, tombstoned)| *tombstoned).collect(),
            topics: node.topics.iter().map(|(topic, _)| &**topic).collect(),
        }
    }
    json(&Answer { producers: nodes.iter().map(fields).collect() })
}

/// A producer's entry in a registration, in the order of the answer.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DebugRow {
    key: String,
    /// The producer's place among all.
    producer: usize,
    tombstoned_at: Option<Time>,
}

impl DebugRow {
    pub(super) fn new(
        registration: &Registration,
        producer: usize,
        tombstoned_at: Option<Time>,
    ) -> Self {
        Self { key: registration.parts().join(":"), producer, tombstoned_at }
    }

    pub(super) fn of_client(producer: usize) -> Self {
        Self::new(&Registration::Client, producer, None)
    }
}

pub(super) fn debug(mut rows: Vec<DebugRow>, producers: &[Seen]) -> Result<Vec<u8>, Error> {
    struct Answer<'a>(&'a [DebugRow], &'a [Seen]);
    struct Entries<'a>(&'a [DebugRow], &'a [Seen]);

    impl Serialize for Answer<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let registrations = self.0.chunk_by(|a, b| a.key == b.key);
            let entries = registrations.filter_map(|rows| Some((&rows.first()?.key, rows)));
            serializer.collect_map(entries.map(|(key, rows)| (key, Entries(rows, self.1))))
        }
    }
    impl Serialize for Entries<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let fields = |row: &DebugRow| Some(debug_fields(row, self.1.get(row.producer)?));
            serializer.collect_seq(self.0.iter().filter_map(fields))
        }
    }

    rows.sort_unstable();
    json(&Answer(&rows, producers))
}

#[derive(Serialize)]
struct DebugFields<'a> {
    broadcast_address: &'a str,
    hostname: &'a str,
    http_port: u16,
    id: &'a str,
    last_update: u64,
    tcp_port: u16,
    tombstoned: bool,
    /// Nanoseconds since the Unix epoch, as `last_update`; 0 for never.
    tombstoned_at: u64,
    topology_region: &'a str,
    topology_zone: &'a str,
    version: &'a str,
}

fn debug_fields<'a>(row: &DebugRow, seen: &'a Seen) -> DebugFields<'a> {
    DebugFields {
        broadcast_address: &seen.peer.broadcast_address,
        hostname: &seen.peer.hostname,
        http_port: seen.peer.http_port,
        id: &seen.peer.remote_address,
        last_update: seen.last_update.0,
        tcp_port: seen.peer.tcp_port,
        tombstoned: row.tombstoned_at.is_some(),
        tombstoned_at: row.tombstoned_at.map_or(0, |at| at.0),
        topology_region: &seen.peer.topology_region,
        topology_zone: &seen.peer.topology_zone,
        version: &seen.peer.version,
    }
}

/// The least that a producer's fields take in an answer.
pub(super) fn peer_bytes(peer: &Peer) -> usize {
    let texts = [
        &peer.remote_address,
        &peer.hostname,
        &peer.broadcast_address,
        &peer.version,
        &peer.topology_zone,
        &peer.topology_region,
    ];
    PEER_NAMES_BYTES + texts.iter().map(|text| text.len()).sum::<usize>()
}

#[derive(Serialize)]
struct PeerFields<'a> {
    remote_address: &'a str,
    hostname: &'a str,
    broadcast_address: &'a str,
    tcp_port: u16,
    http_port: u16,
    version: &'a str,
    topology_zone: &'a str,
    topology_region: &'a str,
}

fn peer_fields(peer: &Peer) -> PeerFields<'_> {
    PeerFields {
        remote_address: &peer.remote_address,
        hostname: &peer.hostname,
        broadcast_address: &peer.broadcast_address,
        tcp_port: peer.tcp_port,
        http_port: peer.http_port,
        version: &peer.version,
        topology_zone: &peer.topology_zone,
        topology_region: &peer.topology_region,
    }
}

fn texts(names: &[Box<str>]) -> Vec<&str> {
    names.iter().map(|name| &**name).collect()
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map(escape_html).map_err(|_| Error::internal())
}
