//! JSON answers, with the keys in NSQ's order.

use std::{collections::BTreeMap, sync::Arc};

use nsq_broker::registry::{Entry, Lookup, Node, Peer, Registration};
use nsq_daemon::{
    http::{Error, Response},
    json::escape_html,
};
use serde::Serialize;

pub(super) fn info(version: &str) -> Result<Response, Error> {
    #[derive(Serialize)]
    struct Answer<'a> {
        version: &'a str,
    }
    json(&Answer { version })
}

pub(super) fn topics(topics: &[Arc<str>]) -> Result<Response, Error> {
    #[derive(Serialize)]
    struct Answer<'a> {
        topics: Vec<&'a str>,
    }
    json(&Answer { topics: texts(topics) })
}

pub(super) fn channels(channels: &[Arc<str>]) -> Result<Response, Error> {
    #[derive(Serialize)]
    struct Answer<'a> {
        channels: Vec<&'a str>,
    }
    json(&Answer { channels: texts(channels) })
}

pub(super) fn lookup(lookup: &Lookup) -> Result<Response, Error> {
    #[derive(Serialize)]
    struct Answer<'a> {
        channels: Vec<&'a str>,
        producers: Vec<PeerFields<'a>>,
    }
    json(&Answer {
        channels: texts(&lookup.channels),
        producers: lookup.producers.iter().map(|peer| peer_fields(peer)).collect(),
    })
}

pub(super) fn nodes(nodes: &[Node]) -> Result<Response, Error> {
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

pub(super) fn debug(registrations: &BTreeMap<Registration, Vec<Entry>>) -> Result<Response, Error> {
    #[derive(Serialize)]
    struct EntryFields<'a> {
        broadcast_address: &'a str,
        hostname: &'a str,
        http_port: i64,
        id: &'a str,
        last_update: u64,
        tcp_port: i64,
        tombstoned: bool,
        /// Nanoseconds since the Unix epoch, as `last_update`; 0 for never.
        tombstoned_at: u64,
        topology_region: &'a str,
        topology_zone: &'a str,
        version: &'a str,
    }
    fn fields(entry: &Entry) -> EntryFields<'_> {
        EntryFields {
            broadcast_address: &entry.peer.broadcast_address,
            hostname: &entry.peer.hostname,
            http_port: entry.peer.http_port,
            id: &entry.peer.remote_address,
            last_update: entry.last_update.0,
            tcp_port: entry.peer.tcp_port,
            tombstoned: entry.tombstoned_at.is_some(),
            tombstoned_at: entry.tombstoned_at.map_or(0, |at| at.0),
            topology_region: &entry.peer.topology_region,
            topology_zone: &entry.peer.topology_zone,
            version: &entry.peer.version,
        }
    }
    let answer: BTreeMap<String, Vec<EntryFields<'_>>> = registrations
        .iter()
        .map(|(registration, entries)| {
            (registration.parts().join(":"), entries.iter().map(fields).collect())
        })
        .collect();
    json(&answer)
}

#[derive(Serialize)]
struct PeerFields<'a> {
    remote_address: &'a str,
    hostname: &'a str,
    broadcast_address: &'a str,
    tcp_port: i64,
    http_port: i64,
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

fn texts(names: &[Arc<str>]) -> Vec<&str> {
    names.iter().map(|name| &**name).collect()
}

fn json(value: &impl Serialize) -> Result<Response, Error> {
    let json = serde_json::to_vec(value).map_err(|_| Error::internal())?;
    Ok(Response::json(escape_html(json)))
}
