//! Opening a store: the lock, the node file, and the recovery of all topics in parallel.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use nsq_protocol::TopicName;

use super::{
    FailedTopic, Opened, Options, RecoveredTopic, Shared, Store, remove_tree,
    topics::{Topic, Topics},
};
use crate::{
    disk::{DirLock, Disk},
    error::{Context, Error, IoError, OpenError},
    lock,
    node::{Clocks, Node, NodeState},
    notice::{Event, Notice},
    open_files::OpenFiles,
    pool::Pool,
    read_budget::ReadBudget,
    recovery::{Recovered, newest_writer, next_segment, read_file, recover_topic},
    segment::{FORMAT_VERSION, HeaderDefect},
    space::Space,
    topic_log::topic_dir,
};

/// Unused buffers that the pool keeps.
const POOL_BYTES_MAX: usize = 16 << 20;
/// Topics are recovered by at most this many threads.
const RECOVERY_THREADS: usize = 8;

impl Store {
    /// Locks and opens the data folder at `path`, which must exist, and recovers its topics.
    ///
    /// # Errors
    /// When the folder is missing or in use, its own files cannot be read or written, or a file has an unknown
    /// version. Damage is no error: it is mended as well as possible and reported. An I/O error in the files of a
    /// topic fails that topic alone.
    pub fn open(
        path: &Path,
        disk: Arc<dyn Disk>,
        options: Options,
        clocks: Clocks,
    ) -> Result<Opened, OpenError> {
        let lock = disk.lock(path)?;
        Self::open_locked(path, lock, disk, options, clocks)
    }

    /// As [`Store::open`], with the folder locked already.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_locked(
        path: &Path,
        guard: DirLock,
        disk: Arc<dyn Disk>,
        options: Options,
        clocks: Clocks,
    ) -> Result<Opened, OpenError> {
        let topics_dir = path.join("topics");
        disk.create_dir(&topics_dir).context("create directory", &topics_dir)?;
        let names = clean_and_list(&*disk, &topics_dir)?;
        let dirs: Vec<_> = names.iter().map(|name| topic_dir(&topics_dir, name)).collect();
        let mut report = Vec::new();
        let found = find_node(&*disk, path, &dirs, &mut report)?;
        let unused = next_segment(&*disk, &dirs);
        let node = Node::start(Arc::clone(&disk), &path.join("node"), found, unused, dirs.len())?;
        let state = node.state();
        let shared = Arc::new(Shared {
            open_files: OpenFiles::new(Arc::clone(&disk), options.open_files_max),
            reads: ReadBudget::new(options.read_bytes_max),
            options,
            pool: Pool::new(POOL_BYTES_MAX),
            node_id: state.id,
            incarnation: state.incarnation,
            boot_id: clocks.boot_id,
            space: Space::start(Arc::clone(&disk), path),
            node,
            disk,
            ephemeral_bytes: Arc::default(),
        });
        let (mut topics, mut failed, mut latest_ns) = (Vec::new(), Vec::new(), 0);
        let recovered = recover_all(&shared, &names, &dirs, found.clean);
        for (name, recovered) in names.into_iter().zip(recovered) {
            match recovered {
                Ok(recovered) => {
                    report.extend(recovered.report);
                    latest_ns = latest_ns.max(recovered.time_ns);
                    let (log, state) = (Arc::new(recovered.log), recovered.state);
                    topics.push(RecoveredTopic { name, log, state });
                }
                Err(Error::Open(error)) => return Err(error),
                Err(error) => failed.push(FailedTopic { name, error }),
            }
        }
        let now_ns = shared.node.start_time(&clocks, latest_ns)?;
        let open = topics.iter().map(|it| (it.name.clone(), Topic::Open(Arc::clone(&it.log))));
        let broken = failed.iter().map(|it| (it.name.clone(), Topic::Failed(it.error.to_string())));
        let by_name = Topics::new(open.chain(broken));
        let deletions = AtomicU64::new(0);
        let store =
            Self { path: path.to_owned(), shared, topics: by_name, deletions, _lock: guard };
        Ok(Opened { store, topics, failed, report, now_ns })
    }
}

/// Recovers topics on several threads; the results are in the order of the names.
fn recover_all(
    shared: &Arc<Shared>,
    names: &[TopicName],
    dirs: &[PathBuf],
    clean: bool,
) -> Vec<Result<Recovered, Error>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(names.len()));
    let work = || {
        loop {
            let index = next.fetch_add(1, Relaxed);
            let Some((name, dir)) = names.get(index).zip(dirs.get(index)) else { return };
            let recovered = recover_topic(shared, name.clone(), dir.clone(), clean);
            lock(&results).push((index, recovered));
        }
    };
    thread::scope(|scope| {
        for _ in 1..RECOVERY_THREADS.min(names.len()) {
            scope.spawn(work);
        }
        work();
    });
    let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, recovered)| recovered).collect()
}

/// Removes the directories of deleted topics, and lists the others.
fn clean_and_list(disk: &dyn Disk, topics: &Path) -> Result<Vec<TopicName>, IoError> {
    let mut names = Vec::new();
    for entry in disk.list(topics).context("list", topics)? {
        if entry.ends_with(".deleted") {
            // Best effort: it does no harm.
            let _ = remove_tree(disk, &topics.join(&entry));
        } else if let Some(name) = entry.strip_suffix(".topic") {
            // Other directories were not made by us, and are left alone.
            names.extend(TopicName::new(name).ok().filter(|name| !name.is_ephemeral()));
        }
    }
    names.sort();
    Ok(names)
}

/// Reads the node file; makes its contents from the segments, or anew, if it is missing or damaged.
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
    let known = newest_writer(disk, topics);
    if bytes.is_some() || !topics.is_empty() {
        report.push(Notice { path: file, event: Event::NodeRebuilt { id_kept: known.is_some() } });
    }
    let (id, incarnation) = match known {
        Some(known) => known,
        None => (disk.entropy().context("read", Path::new("random numbers"))?, 0),
    };
    // Numbers may have been used by segments that are gone: leave a wide berth.
    let next = next_segment(disk, topics);
    let reserved = if known.is_some() { next.saturating_add(1 << 16) } else { next };
    Ok(NodeState::new(id, incarnation, reserved))
}
