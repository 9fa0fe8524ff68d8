//! The data folder: all topics of a node, under one lock and one identity.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use nsq_protocol::TopicName;

use crate::{
    appender::AppenderStart,
    disk::{DirLock, Disk},
    error::{Context, Error, IoError, OpenError},
    journal::Journal,
    lock,
    node::{Node, NodeState},
    notice::{Event, Notice},
    open_files::OpenFiles,
    pool::Pool,
    read_budget::ReadBudget,
    recovery::{newest_writer, next_segment, read_file, recover_topic},
    segment::{FORMAT_VERSION, HeaderDefect},
    segments::Table,
    state::TopicState,
    topic_log::{Start, TopicLog, topic_dir},
};

/// Unused buffers that the pool keeps.
const POOL_BYTES_MAX: usize = 16 << 20;

/// What `OK` to a publish means.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The message is in memory.
    Memory,
    /// The message was written to the log file.
    #[default]
    Log,
    /// The message was written and flushed to the device.
    Fsync,
}

/// How logs are kept.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// A segment file is closed before it grows beyond this many bytes (`--max-bytes-per-file`).
    pub segment_bytes: u64,
    /// The memory tail of a topic keeps at least this many messages (`--mem-queue-size`) …
    pub tail_messages: usize,
    /// … unless they take more than this many bytes.
    pub tail_bytes: usize,
    /// When an append counts as done.
    pub durability: Durability,
    /// [`TopicLog::sync_due`] is true after this many messages; 0 for never (`--sync-every`).
    pub sync_every: u64,
    /// Cold reads of all topics together hold about this many bytes.
    pub read_bytes_max: usize,
    /// This many segment files stay open.
    pub open_files_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 100 << 20,
            tail_messages: 10_000,
            tail_bytes: 32 << 20,
            durability: Durability::Log,
            sync_every: 2500,
            read_bytes_max: 64 << 20,
            open_files_max: 256,
        }
    }
}

/// A data folder that is open, and locked against other processes.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    shared: Arc<Shared>,
    topics: Mutex<Topics>,
    _lock: DirLock,
}

#[derive(Debug, Default)]
struct Topics {
    by_name: HashMap<TopicName, Arc<TopicLog>>,
    deletions: u64,
    closed: bool,
}

/// What the logs of a store have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) options: Options,
    pub(crate) pool: Arc<Pool>,
    pub(crate) open_files: OpenFiles,
    pub(crate) reads: Arc<ReadBudget>,
    pub(crate) node_id: [u8; 16],
    pub(crate) incarnation: u32,
    pub(crate) node: Mutex<Node>,
}

impl Shared {
    pub(crate) fn random(&self) -> Result<u64, IoError> {
        let bytes = self.disk.entropy().context("read", Path::new("random numbers"))?;
        Ok(crate::batch::u64_at(&bytes, 0))
    }
}

/// An opened store and what it holds.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// The topics found, by name.
    pub topics: Vec<RecoveredTopic>,
    /// What was not as it should be.
    pub report: Vec<Notice>,
}

/// A topic found when a store was opened.
#[derive(Debug)]
pub struct RecoveredTopic {
    /// Its name.
    pub name: TopicName,
    /// Its log.
    pub log: Arc<TopicLog>,
    /// Its state and that of its channels, fitted to the log. Without a usable journal there are no channels
    /// and `fanout` is the first message kept.
    pub state: TopicState,
}

impl Store {
    /// Locks and opens the data folder at `path`, which must exist, and recovers its topics.
    ///
    /// # Errors
    /// When the folder is missing or in use, or when files cannot be read or written. Damage is no
    /// error: it is mended as well as can be and reported.
    pub fn open(path: &Path, disk: Arc<dyn Disk>, options: Options) -> Result<Opened, OpenError> {
        let guard = disk.lock(path)?;
        let topics_dir = path.join("topics");
        disk.create_dir(&topics_dir).context("create directory", &topics_dir)?;
        let names = clean_and_list(&*disk, &topics_dir)?;
        let dirs: Vec<_> = names.iter().map(|name| topic_dir(&topics_dir, name)).collect();
        let mut report = Vec::new();
        let found = find_node(&*disk, path, &dirs, &mut report)?;
        let unused = next_segment(&*disk, &dirs)?;
        let mut node = Node::start(Arc::clone(&disk), &path.join("node"), found)?;
        node.skip_to(unused);
        let state = *node.state();
        let shared = Arc::new(Shared {
            open_files: OpenFiles::new(Arc::clone(&disk), options.open_files_max),
            reads: ReadBudget::new(options.read_bytes_max),
            disk,
            options,
            pool: Pool::new(POOL_BYTES_MAX),
            node_id: state.id,
            incarnation: state.incarnation,
            node: Mutex::new(node),
        });
        let mut topics = Vec::new();
        for (name, dir) in names.into_iter().zip(dirs) {
            let recovered = recover_topic(&shared, name.clone(), dir, found.clean, &mut report)?;
            topics.push(RecoveredTopic {
                name,
                log: Arc::new(recovered.log),
                state: recovered.state,
            });
        }
        let by_name = topics.iter().map(|topic| (topic.name.clone(), Arc::clone(&topic.log)));
        let by_name = Topics { by_name: by_name.collect(), ..Topics::default() };
        let store =
            Self { path: path.to_owned(), shared, topics: Mutex::new(by_name), _lock: guard };
        Ok(Opened { store, topics, report })
    }

    /// The log of a topic, which is created if there is none. That of an ephemeral topic is in memory only.
    ///
    /// # Errors
    /// When the topic's directory cannot be created, or the store is closed.
    pub fn create_topic(&self, name: &TopicName) -> Result<Arc<TopicLog>, Error> {
        let mut topics = lock(&self.topics);
        if topics.closed {
            return Err(Error::Closed);
        }
        if let Some(log) = topics.by_name.get(name) {
            return Ok(Arc::clone(log));
        }
        let dir = topic_dir(&self.path.join("topics"), name);
        let id = self.shared.random()?;
        if !name.is_ephemeral() {
            self.shared.disk.create_dir(&dir).context("create directory", &dir)?;
        }
        let start = Start {
            id,
            end: 0,
            synced: 0,
            table: Table::default(),
            appender: AppenderStart { names_dirty: true, ..AppenderStart::default() },
            journal: Journal::new(Arc::clone(&self.shared.disk), &dir, id),
        };
        let log = Arc::new(TopicLog::new(name.clone(), dir, Arc::clone(&self.shared), start));
        topics.by_name.insert(name.clone(), Arc::clone(&log));
        Ok(log)
    }

    /// Deletes a topic with all its messages. Nothing happens when there is none.
    ///
    /// # Errors
    /// When its directory cannot be removed; the topic is gone from the store all the same unless the
    /// first step, renaming the directory, fails.
    pub fn delete_topic(&self, name: &TopicName) -> Result<(), Error> {
        let mut topics = lock(&self.topics);
        let Some(log) = topics.by_name.get(name).map(Arc::clone) else { return Ok(()) };
        topics.deletions += 1;
        let disk = &*self.shared.disk;
        let parent = self.path.join("topics");
        let incarnation = self.shared.incarnation;
        let doomed = parent.join(format!("{incarnation}-{}.deleted", topics.deletions));
        let before = log.appender.begin_delete();
        {
            let mut journal = lock(&log.journal);
            if !log.memory_only
                // One step that a crash cannot halve; the rest is tidying up.
                && let Err(error) = disk.rename(&log.dir, &doomed).context("rename", &log.dir)
            {
                log.appender.undo_delete(before);
                return Err(error.into());
            }
            // A topic of the same name may come: nothing must write to its files from here.
            journal.close();
        }
        topics.by_name.remove(name);
        drop(topics);
        if !log.memory_only {
            disk.sync_dir(&parent).context("sync directory", &parent)?;
            remove_tree(disk, &doomed)?;
        }
        Ok(())
    }

    /// The random id of this node.
    pub fn node_id(&self) -> [u8; 16] {
        self.shared.node_id
    }

    /// How often the node started for the first time or after an unclean stop.
    pub fn incarnation(&self) -> u32 {
        self.shared.incarnation
    }

    /// The pool that builders should take their buffers from.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.shared.pool
    }

    /// Writes and syncs everything and notes that the node stopped cleanly. Logs take no appends afterwards.
    ///
    /// # Errors
    /// The first thing that failed. The next start then treats the stop as a crash.
    pub fn close(&self) -> Result<(), Error> {
        let mut topics = lock(&self.topics);
        if std::mem::replace(&mut topics.closed, true) {
            return Ok(());
        }
        let mut failed = None;
        for log in topics.by_name.values() {
            // All of them, whatever fails.
            if let Err(error) = log.close() {
                failed.get_or_insert(error);
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(lock(&self.shared.node).stop()?),
        }
    }
}

impl TopicLog {
    /// Writes and syncs what there is, with the checkpoint that spares the next start a walk.
    fn close(&self) -> Result<(), Error> {
        if self.memory_only {
            return self.appender.close(&self.site());
        }
        let written = self.write_all();
        // Also after a failure: recovery checks what is on disk.
        let closed = self.appender.close(&self.site());
        written.and(closed)
    }

    fn write_all(&self) -> Result<(), Error> {
        self.flush()?;
        if let Some(at) = self.appender.written_to(&self.site())? {
            lock(&self.journal).checkpoint(at.segment, at.bytes, at.end)?;
        }
        self.sync()?;
        Ok(())
    }
}

/// Removes what deleted topics left, and lists the others.
fn clean_and_list(disk: &dyn Disk, topics: &Path) -> Result<Vec<TopicName>, IoError> {
    let mut names = Vec::new();
    for entry in disk.list(topics).context("list", topics)? {
        if entry.ends_with(".deleted") {
            remove_tree(disk, &topics.join(&entry))?;
        } else if let Some(name) = entry.strip_suffix(".topic") {
            // What no topic can be called was not made by us, and is left alone.
            names.extend(TopicName::new(name).ok().filter(|name| !name.is_ephemeral()));
        }
    }
    names.sort();
    Ok(names)
}

fn remove_tree(disk: &dyn Disk, dir: &Path) -> Result<(), IoError> {
    for name in disk.list(dir).context("list", dir)? {
        let path = dir.join(name);
        disk.remove(&path).context("remove", &path)?;
    }
    disk.remove_dir(dir).context("remove directory", dir)
}

/// What the node file says; made from the segments, or anew, when it does not say anything.
fn find_node(
    disk: &dyn Disk,
    path: &Path,
    topics: &[PathBuf],
    report: &mut Vec<Notice>,
) -> Result<NodeState, OpenError> {
    let file = path.join("node");
    let bytes = read_file(disk, &file)?;
    match bytes.as_deref().map(NodeState::decode) {
        Some(Ok(state)) => return Ok(state),
        Some(Err(HeaderDefect::Version(found))) => {
            return Err(OpenError::Version { path: file, found, known: FORMAT_VERSION });
        }
        None | Some(Err(HeaderDefect::Damaged)) => {}
    }
    let known = newest_writer(disk, topics)?;
    if bytes.is_some() || !topics.is_empty() {
        report.push(Notice { path: file, event: Event::NodeRebuilt { id_kept: known.is_some() } });
    }
    let (id, incarnation) = match known {
        Some(known) => known,
        None => (disk.entropy().context("read", Path::new("random numbers"))?, 0),
    };
    // A lost file is no clean stop. Numbers may have been used by segments that are gone: leave a wide berth.
    let next = next_segment(disk, topics)?;
    let reserved = if known.is_some() { next.saturating_add(1 << 16) } else { next };
    Ok(NodeState { id, incarnation, clean: false, reserved })
}
