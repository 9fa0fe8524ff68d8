//! The node: its topics, its clients, its data folder.

mod adopt;
mod bulk;
mod catalog;
mod create;
pub(crate) mod export;
mod import;
pub(crate) mod metadata;
mod names;
pub(crate) mod network;
pub(crate) mod news;
mod open;
mod topics;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use nsq_broker::ClientId;
use nsq_log::{BatchBuilder, Store};
use nsq_protocol::TopicName;

pub use self::{metadata::MetadataError, open::OpenError};
use self::{
    metadata::{CatalogTopic, Metadata},
    names::Names,
    network::NetworkMemory,
    news::{News, TopicOrChannel},
    topics::Topics,
};
use crate::{
    chores::queue::Errand,
    lock::lock,
    topic::{PublishError, Topic, channel::Channel, client::Clients, services::Services},
};

/// The number of tries of a publish whose topic is being deleted.
const PUBLISH_TRIES: usize = 10;
/// The name of the folder's node file in reports of the health.
const NODE: &str = "node";
/// How often the wall clock is compared with node time.
const CLOCK_WATCH: Duration = Duration::from_secs(1);

/// The id of the first connection.
const FIRST_CLIENT: u64 = 1;

/// Everything one nsqd knows.
pub(crate) struct Node {
    pub(crate) services: Arc<Services>,
    pub(crate) clients: Clients,
    pub(crate) network: NetworkMemory,
    pub(crate) metadata: Metadata,
    pub(crate) news: News,
    store: Store,
    topics: Topics,
    /// The entries in `nsqd.dat` of topics that could not be opened.
    isolated: Mutex<BTreeMap<TopicName, CatalogTopic>>,
    /// Names of topics that are being created or deleted.
    names: Names,
    /// Runs [`Node::keep_metadata`].
    catalog_errand: Arc<Errand>,
    /// Runs [`Node::watch_clock`].
    clock_errand: Arc<Errand>,
    next_client: AtomicU64,
    stopping: AtomicBool,
    ports: OnceLock<(u16, u16)>,
}

impl Node {
    /// A batch for a publisher; its buffers are shared with all others.
    pub(crate) fn batch(&self) -> BatchBuilder {
        BatchBuilder::new(self.store.pool().clone())
    }

    pub(crate) fn next_client_id(&self) -> ClientId {
        ClientId(self.next_client.fetch_add(1, Ordering::Relaxed))
    }

    /// Notes the ports that are listened on; they are known only after start.
    pub(crate) fn listens_on(&self, tcp: u16, http: u16) {
        // Set once.
        let _ = self.ports.set((tcp, http));
    }

    /// The TCP and HTTP ports that are announced.
    pub(crate) fn broadcast_ports(&self) -> (u16, u16) {
        let (tcp, http) = self.ports.get().copied().unwrap_or_default();
        let options = &self.services.options;
        let or = |port: u16, actual: u16| if port == 0 { actual } else { port };
        (or(options.broadcast_tcp_port, tcp), or(options.broadcast_http_port, http))
    }

    /// The data folder's random id, in hex.
    pub(crate) fn data_id(&self) -> String {
        self.store.node_id().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// How often the folder was opened for the first time or after a crash.
    pub(crate) fn incarnation(&self) -> u32 {
        self.store.incarnation()
    }

    /// The number of connections that were accepted.
    pub(crate) fn accepted_connections(&self) -> u64 {
        self.next_client.load(Ordering::Relaxed) - FIRST_CLIENT
    }

    /// The bytes that can still be written to the file system of the data folder; `None` when it does not tell.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        self.store.free_bytes().ok()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn existing_topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.get(name)
    }

    /// The topic, unless it is being deleted.
    pub(crate) fn live_topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.existing_topic(name).filter(|topic| !topic.is_exiting())
    }

    /// Every topic, by name.
    pub(crate) fn all_topics(&self) -> Vec<Arc<Topic>> {
        let mut topics = self.topics.all();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics
    }

    /// Notes that a topic or channel was created or deleted. An ephemeral one is not in `nsqd.dat`.
    fn changed(&self, what: TopicOrChannel) {
        self.news.changed(&what);
        if !what.is_ephemeral() {
            self.write_metadata_soon();
        }
    }

    /// Publishes to a topic; to a new one of its name if it has gone with its last channel meanwhile, which the
    /// producer need not know. Returns the topic that has the messages, and the end of its log.
    pub(crate) fn publish(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        batch: &mut BatchBuilder,
        defer: Option<Duration>,
    ) -> Result<(Arc<Topic>, u64), PublishError> {
        let mut topic = topic.clone();
        for _ in 1..PUBLISH_TRIES {
            match topic.publish(batch, defer) {
                Err(PublishError::Exiting) if topic.name.is_ephemeral() && !self.is_stopping() => {
                    topic = self.topic_or_create(&topic.name)?;
                }
                published => return Ok((topic, published?)),
            }
        }
        let end = topic.publish(batch, defer)?;
        Ok((topic, end))
    }

    /// Deletes a topic with all its channels. Returns whether it existed. Blocks while its files are deleted.
    ///
    /// # Errors
    /// When its folder cannot be renamed: then the topic is as it was. Files that cannot be removed afterwards are left to
    /// the next start.
    pub(crate) fn delete_topic(&self, name: &TopicName) -> Result<bool, nsq_log::Error> {
        let taken = self.names.take(name);
        // Also one that could not be opened, of which there are only files.
        let Some(deleted) = self.store.detach_topic(name)? else { return Ok(false) };
        self.services.clients_log.info("deleted topics", format_args!("TOPIC({name}): deleting"));
        if let Some(topic) = self.existing_topic(name.as_str()) {
            topic.exit();
            topic.forget();
            self.topics.remove(name);
            self.news.deleted(&topic);
        }
        if lock(&self.isolated).remove(name).is_some() {
            self.services.health.forget(&format!("TOPIC({name})"));
        }
        self.news.changed(&TopicOrChannel::topic(name));
        if !name.is_ephemeral() {
            // At once: a topic that the file still lists would be back after a crash.
            self.write_metadata();
        }
        // A topic of the same name may come: its files have another name.
        drop(taken);
        if let Err(error) = deleted.remove() {
            // The topic is gone all the same.
            self.services.logger.warn(format_args!("TOPIC({name}): files left - {error}"));
        }
        Ok(true)
    }

    /// Deletes a channel, and with it an ephemeral topic that has no other. Returns true if the channel existed.
    pub(crate) fn delete_channel(
        &self,
        topic: &Topic,
        channel: &Channel,
    ) -> Result<bool, nsq_log::Error> {
        let deleted = topic.delete_channel(channel);
        // Also after an error: the channel is gone, though the journal does not know it yet.
        if !matches!(deleted, Ok(false)) {
            self.changed(TopicOrChannel::channel(&topic.name, &channel.name));
            if topic.name.is_ephemeral() {
                self.delete_if_unused(topic)?;
            }
        }
        deleted
    }

    /// Deletes an ephemeral topic unless a channel of it was created meanwhile.
    fn delete_if_unused(&self, topic: &Topic) -> Result<(), nsq_log::Error> {
        let _taken = self.names.take(&topic.name);
        if topic.exit_if_unused() {
            let line = format_args!("TOPIC({}): deleting", topic.name);
            self.services.clients_log.info("deleted topics", line);
            self.topics.remove(&topic.name);
            self.news.deleted(topic);
            self.store.delete_topic(&topic.name)?;
            self.news.changed(&TopicOrChannel::topic(&topic.name));
        }
        Ok(())
    }

    /// Takes a client off its channel; an ephemeral channel goes with its last client.
    pub(crate) fn leave(&self, topic: &Arc<Topic>, channel: &Arc<Channel>, client: ClientId) {
        let abandoned = channel.leave(client, self.services.options.requeue_on_disconnect);
        topic.keep_soon();
        if abandoned {
            self.clear_away(topic, channel);
        }
    }

    /// Deletes an ephemeral channel that has lost its last client, unless that is done or the topic goes anyway.
    pub(crate) fn clear_away(&self, topic: &Topic, channel: &Channel) {
        if topic.is_exiting() {
            return;
        }
        if let Err(error) = self.delete_channel(topic, channel) {
            self.services
                .logger
                .error(format_args!("CHANNEL({}): deleting - {error}", channel.name));
        }
    }

    /// Records in the data folder how far the wall clock is from node time, now and whenever it is set: after a reboot
    /// that is what remaining delays are measured by. Keeps segment numbers in reserve and frees unused buffers, too.
    pub(crate) fn watch_clock(&self) {
        self.services.tidier.ask(&self.clock_errand, CLOCK_WATCH);
        self.store.pool().trim();
        let noted = self.store.note_wall(self.services.clock.wall_minus_node_ns());
        let reserve =
            || if self.store.segments_low() { self.store.reserve_segments() } else { Ok(()) };
        // While space is short, the topics that need it report it.
        let recovered = self.store.recover_space();
        match recovered.and(noted).and_then(|()| reserve()) {
            Ok(()) => self.services.health.recovered(NODE),
            Err(error) => self.services.health.failed(NODE, &error),
        }
    }

    /// Refuses new work and asks every connection to end.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        for client in self.clients.all() {
            client.close();
        }
    }

    /// Writes everything down, once no connection is left.
    pub(crate) fn close(&self) -> Result<(), nsq_log::Error> {
        self.services.logger.info(format_args!("NSQ: closing topics"));
        let mut result = Ok(());
        for topic in self.all_topics() {
            topic.exit();
            let written = topic.close();
            result = result.and(written);
        }
        let closed = self.store.close();
        result.and(closed)
    }
}
