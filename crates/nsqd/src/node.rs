//! The node: its topics, its clients, its data folder.

mod adopt;
pub(crate) mod metadata;

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use foldhash::fast::RandomState;
use nsq_broker::ClientId;
use nsq_daemon::log::Logger;
use nsq_log::{BatchBuilder, Store};
use nsq_protocol::{ChannelName, TopicName};

use crate::{
    clock::Clock,
    lookup::{self, Lookup},
    node::adopt::adopt_channels,
    node::metadata::{Catalog, CatalogChannel, CatalogTopic, Metadata},
    options::Options,
    topic::channel::Channel,
    topic::client::Clients,
    topic::services::Services,
    topic::{PublishError, Topic},
};

/// How often a publish may find that its topic goes away just then.
const PUBLISH_TRIES: usize = 10;

/// Everything one nsqd knows.
pub(crate) struct Node {
    pub(crate) services: Arc<Services>,
    pub(crate) clients: Clients,
    pub(crate) metadata: Metadata,
    store: Store,
    topics: RwLock<HashMap<TopicName, Arc<Topic>, RandomState>>,
    next_client: AtomicU64,
    stopping: AtomicBool,
    ports: OnceLock<(u16, u16)>,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The data folder cannot be used.
    #[error("failed to instantiate nsqd - {0}")]
    Store(#[from] nsq_log::OpenError),
    /// `nsqd.dat` cannot be used.
    #[error("failed to load metadata - {0}")]
    Metadata(String),
    /// What `nsqd.dat` lists cannot be created.
    #[error("failed to load metadata - {0}")]
    Create(#[from] nsq_log::Error),
}

impl Node {
    /// Opens the data folder and brings back what it holds.
    pub(crate) fn open(options: Options, logger: Logger) -> Result<Arc<Self>, OpenError> {
        let metadata = Metadata::new(&options.data_path);
        let disk = Arc::new(nsq_log::RealDisk);
        let clock = Clock::start();
        let readings = clock.readings();
        let mut opened = Store::open(&options.data_path, disk, log_options(&options), readings)?;
        let clock = clock.starting_at(&readings, opened.now_ns);
        for failed in &opened.failed {
            logger.error(format_args!("TOPIC({}): not opened - {}", failed.name, failed.error));
        }
        for notice in &opened.report {
            logger.warn(format_args!("{notice}"));
        }
        let catalog = match metadata.read() {
            Ok(catalog) => catalog,
            Err(error) => {
                // Nothing has happened: the next start need not take it for a crash.
                let _ = opened.store.close();
                return Err(OpenError::Metadata(error));
            }
        };
        let adopting = adopt_channels(&mut opened, &catalog);
        let lookup = Lookup::new(options.lookupd_tcp_addresses.clone());
        let services = Arc::new(Services {
            options,
            clock,
            logger,
            deadlines: crate::chores::deadlines::Deadlines::default(),
            keeper: crate::chores::keeper::Keeper::default(),
            syncer: crate::chores::syncer::Syncer::default(),
            mender: crate::chores::mender::Mender::default(),
            lookup,
            health: crate::chores::health::Health::default(),
        });
        let node = Arc::new(Self {
            services,
            clients: Clients::default(),
            metadata,
            store: opened.store,
            topics: RwLock::default(),
            next_client: AtomicU64::new(1),
            stopping: AtomicBool::new(false),
            ports: OnceLock::new(),
        });
        for recovered in opened.topics {
            let name = recovered.name.clone();
            let topic =
                Topic::new(recovered.name, recovered.log, Some(recovered.state), &node.services);
            if adopting.contains(&name) {
                topic.persist()?;
            }
            node.topics_mut().insert(name, topic);
        }
        node.load_catalog(&catalog)?;
        Ok(node)
    }

    /// Creates what `nsqd.dat` lists and the folder does not hold.
    fn load_catalog(self: &Arc<Self>, catalog: &Catalog) -> Result<(), OpenError> {
        let failed = |error: PublishError| OpenError::Metadata(error.to_string());
        for listed in catalog.topics.iter().flatten() {
            let Ok(name) = TopicName::new(&listed.name) else {
                self.services
                    .logger
                    .warn(format_args!("skipping creation of invalid topic {}", listed.name));
                continue;
            };
            if self.existing_topic(name.as_str()).is_some() {
                continue;
            }
            let topic = self.topic_or_create(&name).map_err(failed)?;
            for listed in listed.channels.iter().flatten() {
                let Ok(name) = ChannelName::new(&listed.name) else {
                    self.services
                        .logger
                        .warn(format_args!("skipping creation of invalid channel {}", listed.name));
                    continue;
                };
                let (channel, _) = topic.channel_or_create(&name).map_err(failed)?;
                if listed.paused {
                    channel.act(|schedule, _| schedule.pause());
                }
            }
            if listed.paused {
                topic.pause()?;
            }
            topic.persist()?;
        }
        Ok(())
    }

    fn topics(&self) -> RwLockReadGuard<'_, HashMap<TopicName, Arc<Topic>, RandomState>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn topics_mut(&self) -> RwLockWriteGuard<'_, HashMap<TopicName, Arc<Topic>, RandomState>> {
        self.topics.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch for a publisher; its buffers are shared with all others.
    pub(crate) fn batch(&self) -> BatchBuilder {
        BatchBuilder::new(self.store.pool().clone())
    }

    pub(crate) fn next_client_id(&self) -> ClientId {
        ClientId(self.next_client.fetch_add(1, Ordering::Relaxed))
    }

    /// Notes the ports that are listened on; they are known only after start.
    pub(crate) fn listens_on(&self, tcp: u16, http: u16) {
        // Said once; a second time would say the same.
        let _ = self.ports.set((tcp, http));
    }

    /// The TCP and HTTP ports that others are told.
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

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn existing_topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics().get(name).cloned()
    }

    /// Every topic, by name.
    pub(crate) fn all_topics(&self) -> Vec<Arc<Topic>> {
        let mut topics: Vec<_> = self.topics().values().cloned().collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics
    }

    /// The topic, created when there is none of that name.
    ///
    /// # Errors
    /// When nsqd stops, or the data folder does not take a new topic.
    pub(crate) fn topic_or_create(
        self: &Arc<Self>,
        name: &TopicName,
    ) -> Result<Arc<Topic>, PublishError> {
        if let Some(topic) = self.existing_topic(name.as_str()) {
            return Ok(topic);
        }
        let mut topics = self.topics_mut();
        if let Some(topic) = topics.get(name) {
            return Ok(topic.clone());
        }
        if self.is_stopping() {
            return Err(PublishError::Exiting);
        }
        let log = self.store.create_topic(name).inspect_err(|error| {
            self.services.health.failed(error);
            self.services.mender.wake();
        })?;
        let topic = Topic::new(name.clone(), log, None, &self.services);
        // While nsqd starts nothing is asked: what is created then is not new.
        if self.ports.get().is_some() {
            lookup::create_channels(self, &topic);
        }
        topics.insert(name.clone(), topic.clone());
        drop(topics);
        self.services.logger.info(format_args!("TOPIC({name}): created"));
        self.changed(name.is_ephemeral());
        Ok(topic)
    }

    /// A topic or channel has come or gone; an ephemeral one is not in `nsqd.dat`.
    fn changed(&self, is_ephemeral: bool) {
        self.services.lookup.registrations_changed();
        if !is_ephemeral {
            self.metadata.touch();
        }
    }

    /// The channel, created with its topic when there is none.
    pub(crate) fn channel_or_create(
        self: &Arc<Self>,
        topic: &TopicName,
        channel: &ChannelName,
    ) -> Result<(Arc<Topic>, Arc<Channel>), PublishError> {
        let topic = self.topic_or_create(topic)?;
        let channel = self.channel_of(&topic, channel)?;
        Ok((topic, channel))
    }

    /// The channel of a topic that is there, created when there is none of that name.
    pub(crate) fn channel_of(
        &self,
        topic: &Arc<Topic>,
        channel: &ChannelName,
    ) -> Result<Arc<Channel>, PublishError> {
        let (channel, created) = topic.channel_or_create(channel)?;
        if created {
            self.changed(channel.name.is_ephemeral());
        }
        Ok(channel)
    }

    /// Publishes to a topic; to a new one of its name when it has gone with its last channel meanwhile, which
    /// is nothing a producer has to know. Answers where the messages are: the topic, and the end of its log.
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

    /// Deletes a topic with all its channels. Answers whether there was one.
    pub(crate) fn delete_topic(&self, name: &str) -> Result<bool, nsq_log::Error> {
        let Some(topic) = self.existing_topic(name) else { return Ok(false) };
        // Of two who delete it only one may touch its files: there may be a new topic behind them by then.
        if !topic.exit() {
            return Ok(false);
        }
        self.services.logger.info(format_args!("TOPIC({name}): deleting"));
        // While its files go the topic is still there, so that nobody makes a new one over them; what is
        // published to it is refused.
        let deleted = self.store.delete_topic(&topic.name);
        self.topics_mut().remove(name);
        self.services.lookup.registrations_changed();
        if !topic.name.is_ephemeral() {
            // At once: a topic that the file still lists would be back after a crash.
            self.write_metadata();
        }
        deleted.map(|()| true)
    }

    /// Deletes a channel, and with it an ephemeral topic that has no other. Answers whether there was one.
    pub(crate) fn delete_channel(
        &self,
        topic: &Topic,
        channel: &Channel,
    ) -> Result<bool, nsq_log::Error> {
        let existed = topic.delete_channel(channel)?;
        if existed {
            self.changed(channel.name.is_ephemeral());
            if topic.name.is_ephemeral() {
                self.delete_if_unused(topic)?;
            }
        }
        Ok(existed)
    }

    /// Deletes an ephemeral topic unless somebody has made a channel of it meanwhile.
    fn delete_if_unused(&self, topic: &Topic) -> Result<(), nsq_log::Error> {
        // Held to the end, which is near as there are no files: whoever comes now gets a new topic.
        let mut topics = self.topics_mut();
        if topic.exit_if_unused() {
            self.services.logger.info(format_args!("TOPIC({}): deleting", topic.name));
            topics.remove(&topic.name);
            self.store.delete_topic(&topic.name)?;
            self.services.lookup.registrations_changed();
        }
        Ok(())
    }

    /// Takes a client off its channel; an ephemeral channel goes with its last client.
    pub(crate) fn leave(&self, topic: &Arc<Topic>, channel: &Arc<Channel>, client: ClientId) {
        let abandoned = channel.leave(client, self.services.options.requeue_on_disconnect);
        topic.mark_dirty();
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

    /// Writes `nsqd.dat`; what fails is logged and tried again by the mender.
    pub(crate) fn write_metadata(&self) {
        let topics = self.all_topics();
        let durable = topics.iter().filter(|topic| !topic.name.is_ephemeral());
        let catalog = Catalog::new(durable.map(|topic| catalog_topic(topic)).collect());
        if let Err(error) = self.metadata.write(&catalog) {
            let path = self.metadata.path().display();
            self.services
                .logger
                .error(format_args!("failed to persist metadata to {path} - {error}"));
            self.services.health.failed(&error);
            self.services.mender.wake();
        }
    }

    /// Tries again what the disk did not take; answers whether nothing is left.
    pub(crate) fn mend(&self) -> bool {
        // Also when it is not behind: whatever failed, this shows whether the folder takes anything.
        self.write_metadata();
        let topics = self.all_topics();
        for topic in topics.iter().filter(|topic| topic.is_ailing()) {
            // What is wrong was logged when it began; it only goes on.
            if let Err(error) = topic.mend() {
                self.services.health.failed(&error);
            }
        }
        let whole = || !self.metadata.is_behind() && !topics.iter().any(|topic| topic.is_ailing());
        if !whole() {
            return false;
        }
        self.services.health.recovered();
        // Something may have failed between the look and the word; the next round says so again.
        whole()
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
            let persisted = topic.persist();
            result = result.and(persisted);
        }
        let closed = self.store.close();
        result.and(closed)
    }
}

fn catalog_topic(topic: &Topic) -> CatalogTopic {
    let channels = topic.channels();
    let durable = channels.iter().filter(|channel| !channel.name.is_ephemeral());
    let channels: Vec<_> = durable
        .map(|channel| CatalogChannel {
            name: channel.name.to_string(),
            paused: channel.see(nsq_broker::Channel::is_paused),
        })
        .collect();
    CatalogTopic {
        name: topic.name.to_string(),
        paused: topic.is_paused(),
        channels: (!channels.is_empty()).then_some(channels),
    }
}

fn log_options(options: &Options) -> nsq_log::Options {
    nsq_log::Options {
        segment_bytes: options.max_bytes_per_file,
        tail_messages: usize::try_from(options.mem_queue_size).unwrap_or(usize::MAX),
        tail_bytes: options.mem_bytes,
        durability: options.durability,
        ..nsq_log::Options::default()
    }
}
