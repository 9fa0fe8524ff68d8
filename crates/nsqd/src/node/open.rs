//! The opening of a data folder: recovered topics, the topics that `nsqd.dat` lists, and reports about both.

use std::{
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use nsq_broker::Time;
use nsq_daemon::{
    log::{Limited, Logger},
    tls::ServerTls,
};
use nsq_log::{
    DirLock, FailedTopic, LockError, Notice, RecoveredTopic, Store, import::ImportError,
};
use nsq_protocol::{ChannelName, TopicName};

use super::{
    FIRST_CLIENT, Node,
    adopt::{adopt_channels, topic_of},
    import::import_queues,
    metadata::{Catalog, CatalogTopic, Metadata, MetadataError},
    names::Names,
    network::NetworkMemory,
    news::{News, TopicOrChannel},
    topics::Topics,
};
use crate::{
    auth::AuthServers,
    chores::queue::Errand,
    clock::{Clock, Reading},
    lock::lock,
    meters::Recovery,
    options::{Descriptors, Options},
    topic::{PublishError, Topic, bulk::BulkSlots, client::Clients, services::Services},
    world::World,
};

/// The pause before a topic that could not be opened is tried again.
const RETRY_TOPIC: Duration = Duration::from_secs(10);

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The data folder is missing or in use.
    #[error("failed to instantiate nsqd - {0}")]
    Lock(#[from] LockError),
    /// The data folder cannot be used.
    #[error("failed to instantiate nsqd - {0}")]
    Store(#[from] nsq_log::OpenError),
    /// `nsqd.dat` cannot be used.
    #[error("failed to load metadata - {0}")]
    Metadata(#[from] MetadataError),
    /// The disk queues of the Go nsqd cannot be imported.
    #[error("failed to import the disk queues of the Go nsqd - {0}")]
    Import(#[from] ImportError),
    /// A topic or channel that `nsqd.dat` lists cannot be created.
    #[error("failed to load metadata - {topic}: {reason}")]
    Create {
        /// The topic.
        topic: String,
        /// Why not.
        reason: String,
    },
}

impl Node {
    /// Opens the data folder, which is locked already, and recovers its topics.
    pub(crate) fn open(
        world: World,
        lock: DirLock,
        options: Options,
        tls: Option<ServerTls>,
        auth: Option<AuthServers>,
        logger: Logger,
    ) -> Result<Arc<Self>, OpenError> {
        let metadata = Metadata::new(world.disk.clone(), &options.data_path);
        let catalog = metadata.read()?;
        let start = Reading::take(&*world.clocks);
        let clocks = start.for_log();
        let (path, log_options) = (&options.data_path, log_options(&options));
        import_queues(path, &world.disk, log_options, clocks, &catalog, &logger)?;
        let opened = Store::open_locked(path, lock, world.disk, log_options, clocks)?;
        let services = Arc::new(Services {
            options,
            tls,
            auth: auth.map(Arc::new),
            clock: Clock::new(world.clocks, start, Time(opened.now_ns)),
            clients_log: Limited::to_all(&logger, "clients"),
            logger,
            bulk: BulkSlots::of_node(),
            deadlines: Default::default(),
            health: Default::default(),
            meters: Default::default(),
            keeper: Default::default(),
            syncer: Default::default(),
            tidier: Default::default(),
        });
        let node = Self::without_topics(services, metadata, opened.store);
        node.report(&opened.report);
        let topics = opened.topics.len();
        node.add_recovered(opened.topics, &opened.report, &catalog);
        node.isolate(&opened.failed, &catalog);
        node.load_catalog(&catalog)?;
        node.note_recovery(topics, opened.failed.len(), &opened.report);
        Ok(node)
    }

    fn without_topics(services: Arc<Services>, metadata: Metadata, store: Store) -> Arc<Self> {
        Arc::new_cyclic(|node: &Weak<Self>| Self {
            catalog_errand: Errand::of(node, Self::keep_metadata),
            clock_errand: Errand::of(node, Self::watch_clock),
            network: NetworkMemory::new(&services.options.shares),
            services,
            clients: Clients::default(),
            metadata,
            news: News::default(),
            store,
            topics: Topics::default(),
            isolated: Mutex::default(),
            names: Names::default(),
            next_client: AtomicU64::new(FIRST_CLIENT),
            stopping: AtomicBool::new(false),
            ports: OnceLock::new(),
        })
    }

    /// Keeps the figures of the opening, which has ended.
    fn note_recovery(&self, topics: usize, failed: usize, report: &[Notice]) {
        let losses = report.iter().filter(|notice| notice.is_loss()).count();
        let (time, repairs) = (self.services.clock.uptime(), report.len() - losses);
        let recovery = Recovery { time, topics, failed, losses, repairs };
        // Opened once.
        let _ = self.services.meters.recovery.set(recovery);
    }

    fn report(&self, notices: &[Notice]) {
        for notice in notices {
            self.services.logger.warn(format_args!("{notice}"));
            if notice.is_loss() {
                let topic = topic_of(&notice.path).map(|topic| format!("TOPIC({topic})"));
                let owner = topic.unwrap_or_else(|| notice.path.display().to_string());
                self.services.health.lost(&owner, notice);
            }
        }
    }

    /// Adds topics that were opened, with the channels that `catalog` lists and their journals have lost.
    fn add_recovered(&self, mut topics: Vec<RecoveredTopic>, report: &[Notice], catalog: &Catalog) {
        let adopted = adopt_channels(&mut topics, report, catalog);
        for RecoveredTopic { name, log, state } in topics {
            let topic = Topic::new(name.clone(), log, Some(state), &self.services);
            if let Some(channels) = adopted.get(&name) {
                // A failure is retried in the background.
                let _ = topic.record_channels(channels);
            }
            self.topics.insert(topic);
        }
    }

    /// Reports topics that could not be opened, and tries them again in the background. All others are served.
    fn isolate(self: &Arc<Self>, failed: &[FailedTopic], catalog: &Catalog) {
        for FailedTopic { name, error } in failed {
            let mut listed = catalog.topics.iter().flatten();
            let listed = listed.find(|listed| listed.name == name.as_str()).cloned();
            let unlisted = || CatalogTopic { name: name.to_string(), ..CatalogTopic::default() };
            lock(&self.isolated).insert(name.clone(), listed.unwrap_or_else(unlisted));
            self.services
                .logger
                .error(format_args!("TOPIC({name}): not opened, retrying - {error}"));
            self.services.health.lost(&format!("TOPIC({name})"), error);
            self.retry_topic_later(name.clone());
        }
    }

    fn retry_topic_later(self: &Arc<Self>, name: TopicName) {
        let node = Arc::downgrade(self);
        let retry = Errand::new(move || {
            if let Some(node) = node.upgrade() {
                node.retry_topic(&name);
            }
        });
        self.services.tidier.ask(&retry, RETRY_TOPIC);
    }

    fn retry_topic(self: &Arc<Self>, name: &TopicName) {
        if self.is_stopping() {
            return;
        }
        let _taken = self.names.take(name);
        match self.store.retry_topic(name) {
            Ok(Some((topic, notices))) => {
                self.services.health.forget(&format!("TOPIC({name})"));
                self.report(&notices);
                let listed = lock(&self.isolated).remove(name);
                self.add_recovered(
                    vec![topic],
                    &notices,
                    &Catalog::new(listed.into_iter().collect()),
                );
                self.services.logger.info(format_args!("TOPIC({name}): opened"));
                self.changed(TopicOrChannel::topic(name));
            }
            Ok(None) => {}
            Err(error) => {
                self.services.health.lost(&format!("TOPIC({name})"), &error);
                self.retry_topic_later(name.clone());
            }
        }
    }

    /// Creates the topics that `nsqd.dat` lists and the folder does not hold.
    fn load_catalog(self: &Arc<Self>, catalog: &Catalog) -> Result<(), OpenError> {
        for listed in catalog.topics.iter().flatten() {
            let Ok(name) = TopicName::new(&listed.name) else {
                self.services
                    .logger
                    .warn(format_args!("skipping creation of invalid topic {}", listed.name));
                continue;
            };
            let known = lock(&self.isolated).contains_key(&name);
            if !known && self.existing_topic(name.as_str()).is_none() {
                self.create_listed(&name, listed).map_err(|error| OpenError::Create {
                    topic: name.to_string(),
                    reason: error.to_string(),
                })?;
            }
        }
        Ok(())
    }

    fn create_listed(
        self: &Arc<Self>,
        name: &TopicName,
        listed: &CatalogTopic,
    ) -> Result<(), PublishError> {
        let topic = self.topic_or_restore(name)?;
        let (mut names, mut paused) = (Vec::new(), Vec::new());
        for listed in listed.channels.iter().flatten() {
            let Ok(name) = ChannelName::new(&listed.name) else {
                self.services
                    .logger
                    .warn(format_args!("skipping creation of invalid channel {}", listed.name));
                continue;
            };
            if listed.paused {
                paused.push(name.clone());
            }
            names.push(name);
        }
        let (_, created) = topic.create_channels(&names, usize::MAX);
        created?;
        for name in paused {
            if let Some(channel) = topic.existing_channel(name.as_str()) {
                topic.pause_channel(&channel, true)?;
            }
        }
        if listed.paused {
            topic.pause()?;
        }
        Ok(())
    }
}

fn log_options(options: &Options) -> nsq_log::Options {
    nsq_log::Options {
        segment_bytes: options.max_bytes_per_file,
        tail_messages: usize::try_from(options.mem_queue_size).unwrap_or(usize::MAX),
        tail_bytes: options.mem_bytes,
        durability: options.durability,
        open_files_max: Descriptors::of_process(&options.shares).files,
        ..nsq_log::Options::default()
    }
}
