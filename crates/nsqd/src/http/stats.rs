//! The figures of `/stats`, which serde writes as JSON and [`Display`](std::fmt::Display) as text.
//!
//! Collecting them visits topics, channels and clients, never messages: counts are kept up to date where they
//! change. Locks are held only while figures are copied; text is made outside.

mod text;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use foldhash::fast::RandomState;
use nsq_broker::{ClientId, ClientStats};
use nsq_daemon::net::Remote;
use serde::{Serialize, Serializer};

use crate::{
    VERSION,
    latency::LatencyReport,
    memory::Memory,
    node::Node,
    topic::Topic,
    topic::channel::Channel,
    topic::client::{Client, ClientState, Compression, TlsInfo, Upgrades},
};

/// The parts of the figures that a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Filter {
    /// Only this topic.
    pub(crate) topic: Option<String>,
    /// Only this channel; topics without it are left out.
    pub(crate) channel: Option<String>,
    /// Lists consumers and producers.
    pub(crate) clients: bool,
    /// Shows the memory of the process.
    pub(crate) memory: bool,
}

/// The figures of a node. Keys stand in NSQ's order, here and below.
#[derive(Debug, Serialize)]
pub(crate) struct Stats {
    version: &'static str,
    health: String,
    /// Seconds since the Unix epoch.
    start_time: u64,
    /// `null` when the requested topic does not exist.
    topics: Option<Vec<TopicStats>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
    /// `null` when there are none or clients are not requested.
    producers: Option<Vec<Connection>>,
    #[serde(skip)]
    uptime: Duration,
    /// When this was collected, in seconds since the Unix epoch.
    #[serde(skip)]
    now: u64,
}

#[derive(Debug, Serialize)]
struct TopicStats {
    topic_name: String,
    channels: Vec<ChannelStats>,
    depth: u64,
    backend_depth: u64,
    message_count: u64,
    message_bytes: u64,
    paused: bool,
    e2e_processing_latency: LatencyReport,
}

#[derive(Debug, Serialize)]
struct ChannelStats {
    channel_name: String,
    depth: u64,
    backend_depth: u64,
    in_flight_count: u64,
    deferred_count: u64,
    message_count: u64,
    /// Deliveries by the distance of the client, as far as there were some.
    #[serde(skip_serializing_if = "is_zero")]
    zone_local_msg_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    region_local_msg_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    global_msg_count: u64,
    requeue_count: u64,
    timeout_count: u64,
    client_count: usize,
    /// `null` when clients are not requested.
    clients: Option<Vec<Connection>>,
    paused: bool,
    e2e_processing_latency: LatencyReport,
}

/// A client, as a consumer of a channel or as a producer.
#[derive(Debug, Serialize)]
struct Connection {
    client_id: String,
    hostname: String,
    version: &'static str,
    #[serde(serialize_with = "as_text")]
    remote_address: Remote,
    state: u8,
    ready_count: u64,
    in_flight_count: u64,
    message_count: u64,
    finish_count: u64,
    requeue_count: u64,
    connect_ts: u64,
    sample_rate: i32,
    deflate: bool,
    snappy: bool,
    user_agent: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    authed: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    auth_identity: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    auth_identity_url: String,
    topology_zone: String,
    topology_region: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub_counts: Vec<PubCount>,
    tls: bool,
    tls_cipher_suite: String,
    tls_version: String,
    tls_negotiated_protocol: String,
    tls_negotiated_protocol_is_mutual: bool,
}

/// The number of messages a client has published to a topic.
#[derive(Debug, Serialize)]
struct PubCount {
    topic: String,
    count: u64,
}

impl Stats {
    /// Collects the figures that `filter` asks for.
    pub(crate) fn collect(node: &Node, filter: &Filter) -> Self {
        let services = &node.services;
        let topics = match &filter.topic {
            None => Some(node.all_topics()),
            Some(name) => node.existing_topic(name).map(|topic| vec![topic]),
        };
        let producers = (topics.is_some() && filter.clients).then(|| producers(node, filter));
        let topics = topics
            .map(|topics| topics.iter().filter_map(|topic| topic_stats(topic, filter)).collect());
        Self {
            version: VERSION,
            health: services.health.report(),
            start_time: services.clock.start_seconds(),
            topics,
            memory: filter.memory.then(Memory::of_this_process),
            producers: producers.filter(|producers| !producers.is_empty()),
            uptime: services.clock.uptime(),
            now: services.clock.wall_seconds(),
        }
    }
}

/// Returns `None` when the topic does not have the requested channel.
fn topic_stats(topic: &Topic, filter: &Filter) -> Option<TopicStats> {
    let channels = match &filter.channel {
        None => topic.channels(),
        Some(name) => vec![topic.existing_channel(name)?],
    };
    let tail_start = topic.log.tail_start();
    let counts = topic.counts();
    Some(TopicStats {
        topic_name: topic.name.to_string(),
        channels: channels
            .iter()
            .map(|channel| channel_stats(channel, tail_start, filter))
            .collect(),
        depth: counts.depth,
        backend_depth: counts.backend_depth,
        message_count: counts.message_count,
        message_bytes: counts.message_bytes,
        paused: counts.paused,
        e2e_processing_latency: topic.latency(),
    })
}

fn channel_stats(channel: &Channel, tail_start: u64, filter: &Filter) -> ChannelStats {
    let connection =
        |(client, counts): (Arc<Client>, ClientStats)| Connection::new(&client, &counts, filter);
    let clients: Option<Vec<_>> =
        filter.clients.then(|| channel.clients().into_iter().map(connection).collect());
    let counts = channel.counts(tail_start);
    ChannelStats {
        channel_name: channel.name.to_string(),
        depth: counts.depth,
        backend_depth: counts.backend_depth,
        in_flight_count: counts.in_flight,
        deferred_count: counts.deferred,
        message_count: counts.messages,
        zone_local_msg_count: counts.zone_local,
        region_local_msg_count: counts.region_local,
        global_msg_count: counts.global,
        requeue_count: counts.requeues,
        timeout_count: counts.timeouts,
        client_count: clients.as_ref().map_or(counts.clients, Vec::len),
        clients,
        paused: counts.paused,
        e2e_processing_latency: channel.latency(),
    }
}

/// Returns every client that has published, whichever topic and channel are requested.
fn producers(node: &Node, filter: &Filter) -> Vec<Connection> {
    let mut clients = node.clients.all();
    clients.retain(|client| client.has_published());
    let subscribed = |client: &&Arc<Client>| client.state() != ClientState::Init as u8;
    let subscribers: BTreeSet<_> =
        clients.iter().filter(subscribed).map(|client| client.id).collect();
    let counts = consumer_counts(node, &subscribers);
    let none = ClientStats::default();
    clients
        .iter()
        .map(|client| Connection::new(client, counts.get(&client.id).unwrap_or(&none), filter))
        .collect()
}

/// Returns what each of the clients has consumed, on whichever channel it is.
fn consumer_counts(
    node: &Node,
    ids: &BTreeSet<ClientId>,
) -> HashMap<ClientId, ClientStats, RandomState> {
    if ids.is_empty() {
        return HashMap::default();
    }
    let channels = node.all_topics().into_iter().flat_map(|topic| topic.channels());
    let clients = channels.flat_map(|channel| channel.clients());
    clients.map(|(client, counts)| (client.id, counts)).filter(|(id, _)| ids.contains(id)).collect()
}

impl Connection {
    fn new(client: &Client, counts: &ClientStats, filter: &Filter) -> Self {
        let about = client.about();
        let asked = |topic: &String| filter.topic.as_ref().is_none_or(|asked| asked == topic);
        let Upgrades { tls, compression } = about.upgrades;
        let shown =
            |fact: fn(&TlsInfo) -> &String| tls.as_deref().map(fact).cloned().unwrap_or_default();
        let published = about.pub_counts.into_iter().filter(|(topic, _)| asked(topic));
        Self {
            client_id: about.client_id,
            hostname: about.hostname,
            version: "V2",
            remote_address: client.remote,
            state: client.state(),
            ready_count: counts.ready,
            in_flight_count: counts.in_flight,
            message_count: counts.message_count,
            finish_count: counts.finish_count,
            requeue_count: counts.requeue_count,
            connect_ts: client.connected_at_s,
            sample_rate: about.sample_rate,
            deflate: matches!(compression, Some(Compression::Deflate(_))),
            snappy: compression == Some(Compression::Snappy),
            user_agent: about.user_agent,
            authed: about.authed,
            auth_identity: about.auth_identity,
            auth_identity_url: about.auth_identity_url,
            topology_zone: about.topology_zone,
            topology_region: about.topology_region,
            pub_counts: published.map(|(topic, count)| PubCount { topic, count }).collect(),
            tls: tls.is_some(),
            tls_cipher_suite: shown(|tls| &tls.cipher_suite),
            tls_version: shown(|tls| &tls.version),
            tls_negotiated_protocol: shown(|tls| &tls.protocol),
            // Always true with TLS, as in NSQ.
            tls_negotiated_protocol_is_mutual: tls.is_some(),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn as_text<S: Serializer>(address: &Remote, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(address)
}
