//! The data folder: all topics of a node, under one lock and one identity.

mod close;
mod open;
mod topics;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64, atomic::Ordering::Relaxed},
};

use nsq_protocol::TopicName;

use self::topics::Topics;
use crate::{
    appender::AppenderStart,
    disk::{DirLock, Disk},
    error::{Context, Error, IoError},
    journal::Journal,
    notice::Notice,
    pool::Pool,
    recovery::recover_topic,
    segments::Table,
    shared::{Options, Shared},
    state::TopicState,
    topic_log::{Start, TopicLog, topic_dir},
};

/// A data folder that is open, and locked against other processes.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    shared: Arc<Shared>,
    topics: Topics,
    deletions: AtomicU64,
    _lock: DirLock,
}

/// An opened store and its topics.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// The topics found, by name.
    pub topics: Vec<RecoveredTopic>,
    /// The topics that could not be recovered. Their files are as they were.
    pub failed: Vec<FailedTopic>,
    /// Damage and loss found.
    pub report: Vec<Notice>,
    /// Node time: nanoseconds since 1970 on an axis that never steps and goes on across restarts.
    pub now_ns: u64,
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

/// A topic that could not be recovered.
#[derive(Debug)]
pub struct FailedTopic {
    /// Its name.
    pub name: TopicName,
    /// Why not.
    pub error: Error,
}

/// The files of a topic that has been deleted.
#[derive(Debug)]
pub struct DeletedTopic {
    disk: Arc<dyn Disk>,
    dir: Option<PathBuf>,
}

impl DeletedTopic {
    /// Makes the deletion survive a power cut and removes the files. Blocks for as long as that takes.
    ///
    /// # Errors
    /// When files cannot be removed; the next start removes them.
    pub fn remove(self) -> Result<(), Error> {
        let Some(dir) = self.dir else { return Ok(()) };
        let parent = dir.parent().unwrap_or(&dir);
        self.disk.sync_dir(parent).context("sync directory", parent)?;
        Ok(remove_tree(&*self.disk, &dir)?)
    }
}

impl Store {
    /// Returns the log of a topic, which is created if there is none. That of an ephemeral topic is in memory only.
    ///
    /// # Errors
    /// When the topic's files cannot be created, the topic could not be recovered, or the store is closed.
    pub fn create_topic(&self, name: &TopicName) -> Result<Arc<TopicLog>, Error> {
        let claim = match self.topics.claim(name)? {
            Ok(log) => return Ok(log),
            Err(claim) => claim,
        };
        let dir = topic_dir(&self.path.join("topics"), name);
        let id = self.shared.random()?;
        let journal = Journal::new(Arc::clone(&self.shared.disk), &dir, id);
        if !name.is_ephemeral() {
            self.create_files(&dir, &journal)?;
        }
        let start = Start {
            id,
            end: 0,
            synced: 0,
            table: Table::default(),
            appender: AppenderStart { names_dirty: true, ..AppenderStart::default() },
            journal,
        };
        let log = Arc::new(TopicLog::new(name.clone(), dir, Arc::clone(&self.shared), start));
        claim.put(Arc::clone(&log));
        Ok(log)
    }

    /// Creates the directory of a topic and the first file in it.
    fn create_files(&self, dir: &Path, journal: &Journal) -> Result<(), Error> {
        let disk = &*self.shared.disk;
        let created = disk.create_dir(dir).context("create directory", dir);
        let created = created.map_err(Error::from).and_then(|()| journal.begin());
        if created.is_err() {
            // Best effort: the next start would take an empty directory for a topic.
            let _ = disk.remove_dir(dir);
        }
        created
    }

    /// Deletes a topic with all its messages. No-op when there is none.
    ///
    /// # Errors
    /// When its directory cannot be renamed; the topic is as before then. Or when the renamed directory cannot be
    /// removed; the topic is gone all the same, and the next start removes the directory.
    pub fn delete_topic(&self, name: &TopicName) -> Result<(), Error> {
        self.detach_topic(name)?.map_or(Ok(()), DeletedTopic::remove)
    }

    /// The first step of deleting a topic: nothing is left of it but files under another name. `None` when there is no
    /// such topic.
    ///
    /// # Errors
    /// When its directory cannot be renamed. The topic is as before then.
    pub fn detach_topic(&self, name: &TopicName) -> Result<Option<DeletedTopic>, Error> {
        let Some((topic, claim)) = self.topics.claim_existing(name) else { return Ok(None) };
        let disk = Arc::clone(&self.shared.disk);
        if name.is_ephemeral() {
            topic.log().inspect(|log| drop(log.appender.begin_delete()));
            claim.clear();
            return Ok(Some(DeletedTopic { disk, dir: None }));
        }
        let number = self.deletions.fetch_add(1, Relaxed) + 1;
        let parent = self.path.join("topics");
        let doomed = parent.join(format!("{}-{number}.deleted", self.shared.incarnation));
        let dir = topic_dir(&parent, name);
        // One step that a crash cannot halve; the rest is tidying up.
        let rename = || Ok(disk.rename(&dir, &doomed).context("rename", &dir)?);
        match topic.log() {
            Some(log) => log.delete_with(rename),
            None => rename(),
        }?;
        claim.clear();
        Ok(Some(DeletedTopic { disk, dir: Some(doomed) }))
    }

    /// Tries again to recover a topic that failed when the store was opened. Returns it with the damage and loss
    /// found; `None` if no topic of that name has failed.
    ///
    /// # Errors
    /// When it still cannot be recovered.
    pub fn retry_topic(
        &self,
        name: &TopicName,
    ) -> Result<Option<(RecoveredTopic, Vec<Notice>)>, Error> {
        let Some(mut claim) = self.topics.claim_failed(name) else { return Ok(None) };
        let dir = topic_dir(&self.path.join("topics"), name);
        // The node runs: nothing vouches for the end of the newest segment.
        let recovered = recover_topic(&self.shared, name.clone(), dir, false);
        let recovered = recovered.inspect_err(|error| claim.set_reason(error.to_string()))?;
        let log = Arc::new(recovered.log);
        claim.put(Arc::clone(&log));
        let topic = RecoveredTopic { name: name.clone(), log, state: recovered.state };
        Ok(Some((topic, recovered.report)))
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

    /// Returns true if [`Store::reserve_segments`] should be called soon.
    pub fn segments_low(&self) -> bool {
        self.shared.node.is_low()
    }

    /// Reserves segment numbers ahead, so that no publisher waits for that. Blocks: call it on a background thread.
    ///
    /// # Errors
    /// When the node file cannot be written, or all numbers are used up.
    pub fn reserve_segments(&self) -> Result<(), Error> {
        Ok(self.shared.node.reserve()?)
    }

    /// The bytes that can still be written to the file system of the data folder.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn free_bytes(&self) -> Result<u64, Error> {
        let free = self.shared.disk.free_bytes(&self.path);
        Ok(free.context("measure the free space of", &self.path)?)
    }

    /// Ends a shortage of space if there is room again; returns true if there is none any more. While space is short,
    /// appends are refused at once, so that the last of it goes to journals.
    ///
    /// Call it every second while appends or journal writes fail: the first call gives up the space that was held
    /// back for this. Blocks: call it on a background thread.
    ///
    /// # Errors
    /// When the free space cannot be found out.
    pub fn recover_space(&self) -> Result<bool, Error> {
        Ok(self.shared.space.recover()?)
    }

    /// Records how far wall time is ahead of node time, which is where node time goes on after a reboot. Blocks
    /// if that has changed by more than a second: call it on a background thread.
    ///
    /// # Errors
    /// When the node file cannot be written.
    pub fn note_wall(&self, wall_minus_node_ns: i64) -> Result<(), Error> {
        Ok(self.shared.node.note_wall(wall_minus_node_ns)?)
    }
}

/// Removes a directory and the files in it.
fn remove_tree(disk: &dyn Disk, dir: &Path) -> Result<(), IoError> {
    for name in disk.list(dir).context("list", dir)? {
        let path = dir.join(name);
        disk.remove(&path).context("remove", &path)?;
    }
    disk.remove_dir(dir).context("remove directory", dir)
}
