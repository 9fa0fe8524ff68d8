//! Creation of the channels that a new topic has on other nodes.
//!
//! A new topic is held back until nsqlookupd has answered which channels it has elsewhere and these are created, so
//! that they receive its first message too. Publishers do not wait for that.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use nsq_daemon::http_client::{Client, RequestError};
use nsq_protocol::{ChannelName, TopicName};
use serde::Deserialize;
use tokio::{
    sync::mpsc,
    task::{JoinSet, spawn_blocking},
    time::Instant,
};

use super::peers::Peers;
use crate::{
    node::{Node, news::HeldTopic},
    topic::PublishError,
};

/// The number of new topics whose queries are in flight; the others wait.
const QUERIES_MAX: usize = 8;
/// How long an nsqlookupd is left out after a query that timed out, so that not every new topic waits for it.
const UNRESPONSIVE_PAUSE: Duration = Duration::from_secs(15);

/// The response of nsqlookupd to `/channels`.
#[derive(Deserialize)]
struct Channels {
    channels: Vec<String>,
}

/// Why a query failed.
#[derive(Debug, thiserror::Error)]
enum QueryError {
    #[error(transparent)]
    Get(#[from] RequestError),
    #[error("parsing response - {0}")]
    Response(#[from] serde_json::Error),
}

/// Creates the channels of new topics until dropped; then topics still held back resume.
pub(super) async fn run(
    peers: &Peers,
    node: &Arc<Node>,
    mut new_topics: mpsc::UnboundedReceiver<HeldTopic>,
) {
    // One for all queries, so that it bounds the names that are looked up.
    let client = Arc::new(Client::new(node.services.options.http_client_limits()));
    let mut queries = JoinSet::new();
    let mut unresponsive: BTreeMap<String, Instant> = BTreeMap::new();
    loop {
        tokio::select! {
            Some(held) = new_topics.recv(), if queries.len() < QUERIES_MAX => {
                let now = Instant::now();
                unresponsive.retain(|_, until| now < *until);
                let mut addresses = peers.http_addresses();
                addresses.retain(|address| !unresponsive.contains_key(address));
                queries.spawn(create_channels(node.clone(), client.clone(), held, addresses));
            }
            Some(query) = queries.join_next() => {
                let until = Instant::now() + UNRESPONSIVE_PAUSE;
                // A panic was reported by the panic hook, and the topic resumed.
                let timed_out = query.unwrap_or_default();
                unresponsive.extend(timed_out.into_iter().map(|address| (address, until)));
            }
            else => return,
        }
    }
}

/// Creates the channels of a topic. Returns the addresses whose queries have timed out.
async fn create_channels(
    node: Arc<Node>,
    client: Arc<Client>,
    held: HeldTopic,
    addresses: Vec<String>,
) -> Vec<String> {
    let name = &held.topic().name;
    if addresses.is_empty() {
        node.services.clients_log.error(
            "queries for channels",
            format_args!(
                "no available nsqlookupd to query for channels to pre-create for topic {name}"
            ),
        );
    }
    let found = channels_elsewhere(&node, &client, name, addresses).await;
    if !found.channels.is_empty() {
        create(node, held, found.channels).await;
    }
    found.timed_out
}

async fn create(node: Arc<Node>, held: HeldTopic, channels: BTreeSet<ChannelName>) {
    // Creating a channel writes to the disk.
    let created = spawn_blocking(move || {
        let topic = held.topic();
        for channel in channels {
            match node.channel_of(topic, &channel) {
                Ok(_) => {}
                Err(PublishError::Exiting) => return,
                Err(error) => node.services.logger.error(format_args!(
                    "TOPIC({}): creating channel {channel} - {error}",
                    topic.name
                )),
            }
        }
    });
    // A panic was reported by the panic hook, and the topic resumed.
    let _ = created.await;
}

/// The combined result of the queries for a topic.
#[derive(Default)]
struct Found {
    channels: BTreeSet<ChannelName>,
    timed_out: Vec<String>,
}

/// Queries the channels of a topic, without ephemeral ones.
async fn channels_elsewhere(
    node: &Node,
    client: &Arc<Client>,
    topic: &TopicName,
    addresses: Vec<String>,
) -> Found {
    let path = format!("/channels?topic={}", topic.as_str().replace('#', "%23"));
    let mut queries = JoinSet::new();
    for address in addresses {
        let (client, path) = (client.clone(), path.clone());
        queries.spawn(async move { query(&client, &address, &path).await });
    }
    let mut found = Found::default();
    // A panic was reported by the panic hook.
    while let Some(answer) = queries.join_next().await {
        let Ok(answer) = answer else { continue };
        match answer {
            Ok(channels) => found.channels.extend(channels),
            Err(error) => {
                node.services.clients_log.warn(
                    "queries for channels",
                    format_args!(
                        "failed to query nsqlookupd for channels to pre-create for topic {topic} - {error}"
                    ),
                );
                if let QueryError::Get(RequestError::Timeout { address, .. }) = error {
                    found.timed_out.push(address);
                }
            }
        }
    }
    found.channels.retain(|name| !name.is_ephemeral());
    found
}

async fn query(client: &Client, address: &str, path: &str) -> Result<Vec<ChannelName>, QueryError> {
    let url = format!("http://{address}{path}").parse().map_err(RequestError::from)?;
    let body = client.get(&url).await?;
    let found: Channels = serde_json::from_slice(&body)?;
    Ok(found.channels.iter().filter_map(|name| ChannelName::new(name).ok()).collect())
}
