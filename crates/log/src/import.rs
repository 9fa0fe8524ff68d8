//! The import of a data folder of the Go nsqd: its disk queues become topic logs, once.
//!
//! The logs are built in a folder of their own inside the data folder. One rename makes them count; what follows it can be
//! repeated. So a crash at any moment leaves either the queues, to be imported again from the beginning, or their
//! logs, to be moved to their place.
//!
//! In a topic's log the messages of one channel follow those of another, and for all other channels they are finished. The
//! messages that waited at the topic come last, for all channels.

mod deliveries;
mod report;
mod staging;
mod topic;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use nsq_protocol::{ChannelName, TopicName};

pub use self::report::{ImportedQueue, SkipReason, SkippedQueue};
use self::{staging::Staging, topic::TopicQueues};
use crate::{
    disk::Disk,
    diskqueue::{Queue, find_queues},
    error::{AppendError, Error, IoError, OpenError, SyncError},
    node::Clocks,
    notice::Notice,
    shared::{Durability, Options},
    store::Store,
    topic_log::topic_dir,
};

/// A log that is being built keeps no more than this in memory.
const TAIL_BYTES: usize = 1 << 20;

/// A topic that `nsqd.dat` lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedTopic {
    /// Set while the topic is paused.
    pub paused: bool,
    /// The channels, and which of them are paused.
    pub channels: BTreeMap<ChannelName, bool>,
}

/// The outcome of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The folder in which the queue files and a copy of `nsqd.dat` are now. They are not needed any more.
    pub aside: PathBuf,
    /// The number of messages imported; `None` if that was done before a crash, and only files were left to be moved.
    pub messages: Option<u64>,
}

/// Why queue files were not imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The new logs could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new logs could not be written.
    #[error(transparent)]
    Log(#[from] Error),
    /// The messages do not fit on the disk, where the queues stay until they are removed.
    #[error("importing {} needs {needed} bytes, but {free} are free", path.display())]
    Full {
        /// The data folder.
        path: PathBuf,
        /// The bytes needed.
        needed: u64,
        /// The bytes that are free.
        free: u64,
    },
}

impl From<AppendError> for ImportError {
    fn from(error: AppendError) -> Self {
        Self::Log(error.into())
    }
}

impl From<SyncError> for ImportError {
    fn from(error: SyncError) -> Self {
        Self::Log(error.into())
    }
}

/// An import, before it is run.
#[derive(Debug)]
pub struct Import<'a> {
    /// The data folder, which the caller has locked and no store has open.
    pub path: &'a Path,
    /// The disk that it is on.
    pub disk: Arc<dyn Disk>,
    /// The options of the logs.
    pub options: Options,
    /// The machine's clocks.
    pub clocks: Clocks,
    /// The topics in `nsqd.dat`.
    pub listed: &'a BTreeMap<TopicName, ListedTopic>,
}

/// Receives a report about each queue when it is done.
pub trait ImportReport {
    /// A queue was imported.
    fn imported(&mut self, queue: &ImportedQueue);

    /// A log that the import adds to was damaged.
    fn damaged(&mut self, notice: &Notice);

    /// A queue with messages cannot be imported. Its files are moved aside with the others.
    fn skipped(&mut self, queue: &SkippedQueue);
}

/// Returns true if a data folder holds queue files, or an import that is not completed.
///
/// # Errors
/// When the folder cannot be listed.
pub fn is_pending(disk: &dyn Disk, path: &Path) -> Result<bool, IoError> {
    Ok(Staging::new(disk, path).is_committed()? || !find_queues(disk, path)?.is_empty())
}

impl Import<'_> {
    /// Imports the queue files in the data folder and moves them aside; `None` if there are none.
    ///
    /// Channels that have messages or are listed are created; topics without queue files are left to the caller.
    ///
    /// # Errors
    /// When a file cannot be read or written, or the disk is too full. The folder is as before then, or the next call
    /// goes on where this one ended.
    pub fn run(&self, report: &mut dyn ImportReport) -> Result<Option<Imported>, ImportError> {
        let disk = &*self.disk;
        let staging = Staging::new(disk, self.path);
        if staging.is_committed()? {
            let aside = staging.finish()?;
            return Ok(Some(Imported { aside, messages: None }));
        }
        staging.discard()?;
        let mut queues = Vec::new();
        for (name, files) in find_queues(disk, self.path)? {
            queues.push(Queue::open(disk, self.path, name, files)?);
        }
        if queues.is_empty() {
            return Ok(None);
        }
        let messages = match self.build(&staging, queues, report) {
            Ok(messages) => Some(messages),
            Err(error) => {
                // Best effort: the next start removes it.
                let _ = staging.discard();
                return Err(error);
            }
        };
        staging.commit()?;
        Ok(Some(Imported { aside: staging.finish()?, messages }))
    }

    /// Builds the logs; returns the number of messages.
    fn build(
        &self,
        staging: &Staging<'_>,
        queues: Vec<Queue>,
        report: &mut dyn ImportReport,
    ) -> Result<u64, ImportError> {
        self.check_space(&queues)?;
        let topics = self.sort(queues, report)?;
        staging.begin()?;
        if topics.is_empty() {
            return Ok(0);
        }
        staging.copy_logs(topics.keys())?;
        let options = Options {
            tail_messages: 1,
            tail_bytes: TAIL_BYTES,
            durability: Durability::Log,
            ..self.options
        };
        let path = staging.folder();
        let opened = Store::open(path, Arc::clone(&self.disk), options, self.clocks)?;
        if let Some(failed) = opened.failed.into_iter().next() {
            return Err(failed.error.into());
        }
        opened.report.iter().for_each(|notice| report.damaged(notice));
        let (store, now_ns) = (opened.store, opened.now_ns);
        let mut states: BTreeMap<_, _> =
            opened.topics.into_iter().map(|topic| (topic.name, topic.state)).collect();
        let mut messages = 0;
        for (name, queues) in topics {
            let log = store.create_topic(&name)?;
            let state = states.remove(&name).unwrap_or_default();
            messages += queues.import(&*self.disk, &store, &log, state, now_ns, report)?;
        }
        store.close()?;
        Ok(messages)
    }

    /// Fails if the disk has no room for a second copy of the messages.
    fn check_space(&self, queues: &[Queue]) -> Result<(), ImportError> {
        let unread: u64 = queues.iter().map(Queue::unread_bytes).sum();
        // A record is 4 bytes longer in a log and at least 30 bytes long in a queue; batches and journals take the rest.
        let needed = unread + unread / 4;
        match self.disk.free_bytes(self.path) {
            Ok(free) if free < needed => {
                Err(ImportError::Full { path: self.path.to_owned(), needed, free })
            }
            // If the free space is not known, the first write that fails ends the import.
            _ => Ok(()),
        }
    }

    /// Sorts queues by topic. Leaves out those without a message.
    fn sort(
        &self,
        queues: Vec<Queue>,
        report: &mut dyn ImportReport,
    ) -> Result<BTreeMap<TopicName, TopicQueues>, ImportError> {
        let disk = &*self.disk;
        let mut topics: BTreeMap<TopicName, TopicQueues> = BTreeMap::new();
        for queue in queues {
            match report::names(&queue) {
                Ok((topic, channel)) => topics.entry(topic).or_default().add(channel, queue),
                Err(reason) if queue.unread_bytes() > 0 => {
                    report.skipped(&SkippedQueue::read(disk, &queue, reason)?);
                }
                Err(_) => {}
            }
        }
        let is_read = |_: &TopicName, queues: &mut TopicQueues| queues.are_read();
        for (topic, queues) in topics.extract_if(.., is_read) {
            queues.report_odd(disk, &topic, report)?;
        }
        for (topic, queues) in &mut topics {
            queues.listed = self.listed.get(topic).cloned();
        }
        Ok(topics)
    }
}

/// The directories of topics in a data folder.
fn topics_dir(folder: &Path) -> PathBuf {
    folder.join("topics")
}

/// The directory of a topic in a data folder.
fn topic_in(folder: &Path, name: &TopicName) -> PathBuf {
    topic_dir(&topics_dir(folder), name)
}
