//! The nsqlookupds this nsqd announces itself to, and what it asks them.

mod peer;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use nsq_daemon::http_client::{self, Limits};
use nsq_protocol::{ChannelName, TopicName};
use serde::Deserialize;
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use self::peer::PeerInfo;
use crate::{lock::lock, node::Node, topic::Topic};

/// The nsqlookupds of a node.
pub(crate) struct Lookup {
    addresses: watch::Sender<Vec<String>>,
    /// What each peer said about itself; nothing while it is away.
    peers: Mutex<BTreeMap<String, watch::Receiver<Option<PeerInfo>>>>,
    /// Counts the changes of topics and channels, so that peers look again.
    registrations: watch::Sender<u64>,
}

#[derive(Deserialize)]
struct Channels {
    channels: Vec<String>,
}

impl Lookup {
    pub(crate) fn new(addresses: Vec<String>) -> Self {
        Self {
            addresses: watch::Sender::new(addresses),
            peers: Mutex::default(),
            registrations: watch::Sender::new(0),
        }
    }

    /// The addresses as they are configured now.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.addresses.borrow().clone()
    }

    /// Replaces the addresses: removed peers are disconnected, new ones are told everything.
    pub(crate) fn replace(&self, addresses: Vec<String>) {
        self.addresses.send_replace(addresses);
    }

    /// A topic or channel has come or gone.
    pub(crate) fn registrations_changed(&self) {
        self.registrations.send_modify(|count| *count += 1);
    }

    pub(crate) fn registrations(&self) -> watch::Receiver<u64> {
        self.registrations.subscribe()
    }

    /// Keeps one task per configured address until dropped.
    pub(crate) async fn run(&self, node: &Arc<Node>) {
        let mut addresses = self.addresses.subscribe();
        let mut tasks = JoinSet::new();
        let mut running: BTreeMap<String, AbortHandle> = BTreeMap::new();
        loop {
            let wanted: BTreeSet<String> = addresses.borrow_and_update().iter().cloned().collect();
            running.retain(|address, task| {
                let keep = wanted.contains(address);
                if !keep {
                    task.abort();
                    lock(&self.peers).remove(address);
                }
                keep
            });
            for address in wanted {
                if running.contains_key(&address) {
                    continue;
                }
                let (info, infos) = watch::channel(None);
                lock(&self.peers).insert(address.clone(), infos);
                let task = tasks.spawn(peer::run(node.clone(), address.clone(), info));
                running.insert(address, task);
            }
            tokio::select! {
                changed = addresses.changed() => if changed.is_err() { return },
                // Aborted ones are collected here; the others run for ever.
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// Where the peers that are connected answer HTTP.
    fn http_addresses(&self) -> Vec<String> {
        let peers = lock(&self.peers);
        let infos = peers.values().filter_map(|info| info.borrow().clone());
        let known = infos.filter(|info| !info.broadcast_address.is_empty());
        known.map(|info| format!("{}:{}", info.broadcast_address, info.http_port)).collect()
    }
}

/// Holds a topic that has just been created back until the nsqlookupds have said which channels it has elsewhere,
/// and creates those: they shall see the first message too. Publishers do not wait for that.
///
/// Without a runtime, which is while nsqd starts, nothing is asked: the topics are not new then.
pub(crate) fn create_channels(node: &Arc<Node>, topic: &Arc<Topic>) {
    let services = &node.services;
    let addresses = services.lookup.http_addresses();
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    if addresses.is_empty() {
        if !services.lookup.addresses().is_empty() {
            services.logger.error(format_args!(
                "no available nsqlookupd to query for channels to pre-create for topic {}",
                topic.name
            ));
        }
        return;
    }
    topic.hold();
    let (node, topic) = (node.clone(), topic.clone());
    runtime.spawn(async move {
        for name in channels_elsewhere(&node, &topic.name, addresses).await {
            if let Err(error) = node.channel_or_create(&topic.name, &name) {
                let logger = &node.services.logger;
                logger.error(format_args!(
                    "TOPIC({}): creating channel {name} - {error}",
                    topic.name
                ));
            }
        }
        topic.resume();
    });
}

async fn channels_elsewhere(
    node: &Node,
    topic: &TopicName,
    addresses: Vec<String>,
) -> BTreeSet<ChannelName> {
    let options = &node.services.options;
    let limits = Limits {
        connect: options.http_client_connect_timeout,
        request: options.http_client_request_timeout,
    };
    let path = format!("/channels?topic={}", topic.as_str().replace('#', "%23"));
    let mut queries = JoinSet::new();
    for address in addresses {
        let path = path.clone();
        queries.spawn(async move { http_client::get(&address, &path, limits).await });
    }
    let mut names = BTreeSet::new();
    while let Some(answer) = queries.join_next().await {
        let channels = answer.map_err(|error| error.to_string()).and_then(|answer| {
            let body = answer.map_err(|error| error.to_string())?;
            serde_json::from_slice::<Channels>(&body).map_err(|error| error.to_string())
        });
        match channels {
            Ok(found) => {
                let valid = found.channels.iter().filter_map(|name| ChannelName::new(name).ok());
                names.extend(valid.filter(|name| !name.is_ephemeral()));
            }
            Err(error) => node.services.logger.warn(format_args!(
                "failed to query nsqlookupd for channels to pre-create for topic {topic} - {error}"
            )),
        }
    }
    names
}
