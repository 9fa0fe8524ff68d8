//! Creation of the channels that a new topic has on other nodes.
//!
//! A new topic is held back until nsqlookupd has answered which channels it has elsewhere and these are created, so
//! that they receive its first message too. Publishers do not wait for that.

mod answer;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use nsq_daemon::http_client::{Client, RequestError};
use nsq_protocol::{ChannelName, TopicName};
use tokio::{
    sync::Semaphore,
    task::{JoinSet, spawn_blocking},
    time::Instant,
};

use self::answer::durable_channels;
use super::peers::Peers;
use crate::{
    node::{
        Node,
        news::{HeldTopic, NewTopics},
    },
    topic::PublishError,
};

/// The number of new topics whose queries are in flight; the others wait.
const QUERIES_MAX: usize = 8;
/// The number of requests in flight for all of them: each takes a descriptor.
const REQUESTS_MAX: usize = 32;
/// The longest answer that is read: room for 30,000 channels with names as long as they can be.
const ANSWER_BYTES_MAX: usize = 2 << 20;
/// How long an nsqlookupd is left out after a query that timed out, so that not every new topic waits for it.
const UNRESPONSIVE_PAUSE: Duration = Duration::from_secs(15);

/// The requests to nsqlookupds.
struct Requests {
    client: Client,
    in_flight: Semaphore,
}

/// The answers to the queries for a topic.
#[derive(Default)]
struct Answers {
    bodies: Vec<Bytes>,
    /// The addresses whose queries have timed out.
    timed_out: Vec<String>,
}

/// Creates the channels of new topics until dropped; then topics still held back resume.
pub(super) async fn run(peers: &Peers, node: &Arc<Node>, new_topics: Arc<NewTopics>) {
    // One for all queries, so that it bounds the names that are looked up.
    let client = Client::new(node.services.options.http_client_limits());
    let requests = Arc::new(Requests {
        client: client.answers_up_to(ANSWER_BYTES_MAX),
        in_flight: Semaphore::new(REQUESTS_MAX),
    });
    let mut queries = JoinSet::new();
    let mut unresponsive: BTreeMap<String, Instant> = BTreeMap::new();
    loop {
        tokio::select! {
            held = new_topics.next(), if queries.len() < QUERIES_MAX => {
                let now = Instant::now();
                unresponsive.retain(|_, until| now < *until);
                let mut addresses = peers.http_addresses();
                addresses.retain(|address| !unresponsive.contains_key(address));
                queries.spawn(create_channels(node.clone(), held, addresses, requests.clone()));
            }
            Some(query) = queries.join_next(), if !queries.is_empty() => {
                let until = Instant::now() + UNRESPONSIVE_PAUSE;
                // A panic was reported by the panic hook, and the topic resumed.
                let timed_out = query.unwrap_or_default();
                unresponsive.extend(timed_out.into_iter().map(|address| (address, until)));
            }
        }
    }
}

/// Creates the channels of a topic. Returns the addresses whose queries have timed out.
async fn create_channels(
    node: Arc<Node>,
    held: HeldTopic,
    addresses: BTreeSet<String>,
    requests: Arc<Requests>,
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
    let answers = requests.channels_elsewhere(&node, name, addresses).await;
    let Answers { bodies, timed_out } = answers;
    if !bodies.is_empty() {
        // Long answers take long to parse, and creating channels writes to the disk.
        let created = spawn_blocking(move || create(&node, &held, &bodies));
        // A panic was reported by the panic hook, and the topic resumed.
        let _ = created.await;
    }
    timed_out
}

/// Creates the channels that the answers name. Blocks.
fn create(node: &Node, held: &HeldTopic, answers: &[Bytes]) {
    let (topic, logger) = (held.topic(), &node.services.logger);
    let mut names = BTreeSet::new();
    for answer in answers {
        match durable_channels(answer) {
            Ok(found) => names.extend(found),
            Err(error) => warn(node, &topic.name, &format_args!("parsing response - {error}")),
        }
    }
    let names: Vec<ChannelName> = names.into_iter().collect();
    match node.create_channels(topic, &names) {
        Ok(()) | Err(PublishError::Exiting) => {}
        Err(error) => {
            logger.error(format_args!("TOPIC({}): creating channels - {error}", topic.name));
        }
    }
}

impl Requests {
    /// Queries the channels of a topic.
    async fn channels_elsewhere(
        self: &Arc<Self>,
        node: &Node,
        topic: &TopicName,
        addresses: BTreeSet<String>,
    ) -> Answers {
        let path = format!("/channels?topic={}", topic.as_str().replace('#', "%23"));
        let mut queries = JoinSet::new();
        for address in addresses {
            let (requests, url) = (self.clone(), format!("http://{address}{path}"));
            queries.spawn(async move { requests.get(&url).await });
        }
        let mut answers = Answers::default();
        // A panic was reported by the panic hook.
        while let Some(answer) = queries.join_next().await {
            match answer {
                Ok(Ok(body)) => answers.bodies.push(body),
                Ok(Err(error)) => {
                    warn(node, topic, &error);
                    if let RequestError::Timeout { address, .. } = error {
                        answers.timed_out.push(address);
                    }
                }
                Err(_) => {}
            }
        }
        answers
    }

    async fn get(&self, url: &str) -> Result<Bytes, RequestError> {
        // Fails only for a semaphore that is closed, which this one never is.
        let _permit = self.in_flight.acquire().await;
        self.client.get(&url.parse()?).await
    }
}

fn warn(node: &Node, topic: &TopicName, error: &dyn std::fmt::Display) {
    let line = format_args!(
        "failed to query nsqlookupd for channels to pre-create for topic {topic} - {error}"
    );
    node.services.clients_log.warn("queries for channels", line);
}
