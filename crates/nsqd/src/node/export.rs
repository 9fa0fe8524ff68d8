//! The way back: a data folder written out as the disk queues of the Go nsqd.

use std::{
    io::{self, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use nsq_broker::Time;
use nsq_log::{
    Chunk, Disk, IoError, LockError, Read, ReadError, RealDisk, RecoveredTopic, Store, TopicLog,
    diskqueue::{QueueWriter, WrittenQueue},
    import::is_pending,
};
use nsq_protocol::TopicName;

use super::{
    adopt::adopt_channels,
    metadata::{Catalog, CatalogChannel, CatalogTopic, Metadata, MetadataError},
};
use crate::clock::{Reading, SystemClocks};

/// The size of queue files, as the Go nsqd has it unless told otherwise.
const FILE_BYTES_MAX: u64 = 100 << 20;
/// The largest message that the Go nsqd reads unless told otherwise.
const GO_BODY_BYTES_MAX: usize = 1 << 20;
/// Messages are read in pieces of this size.
const READ_BYTES: usize = 1 << 20;

/// Why a data folder was not exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The data folder is missing or in use.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There are no logs in the data folder.
    #[error("{} is not a data folder of this nsqd", .0.display())]
    NoLogs(PathBuf),
    /// The data folder holds queue files already.
    #[error("{} holds queue files that are not imported yet: start nsqd on it once", .0.display())]
    NotImported(PathBuf),
    /// The target folder has something in it.
    #[error("{} is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// The target folder cannot be created or listed.
    #[error("{}: {source}", path.display())]
    Target {
        /// The target folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// `nsqd.dat` cannot be read.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The logs cannot be opened.
    #[error(transparent)]
    Open(#[from] nsq_log::OpenError),
    /// A topic cannot be recovered, or the logs not be closed.
    #[error(transparent)]
    Log(#[from] nsq_log::Error),
    /// Messages cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A queue file cannot be written.
    #[error(transparent)]
    Write(#[from] IoError),
    /// The data folder cannot be listed, or the report not be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes the topics and channels in `data` to the empty or missing folder `target` as files that the Go nsqd reads, and a
/// line about each to `out`. `data` keeps everything; no nsqd may run on it.
///
/// Messages that are in flight or deferred become ready: a disk queue has no place for due times.
///
/// # Errors
/// When a folder is not as it should be, or a file cannot be read or written. The target has no `nsqd.dat` then.
pub fn export(data: &Path, target: &Path, out: &mut dyn Write) -> Result<(), ExportError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let lock = disk.lock(data)?;
    if !disk.list(data)?.iter().any(|name| name == "topics") {
        return Err(ExportError::NoLogs(data.to_owned()));
    }
    if is_pending(&*disk, data)? {
        return Err(ExportError::NotImported(data.to_owned()));
    }
    let unusable = |source| ExportError::Target { path: target.to_owned(), source };
    disk.create_dir(target).map_err(unusable)?;
    if !disk.list(target).map_err(unusable)?.is_empty() {
        return Err(ExportError::NotEmpty(target.to_owned()));
    }
    let listed = Metadata::new(disk.clone(), data).read()?;
    let clocks = Reading::take(&SystemClocks).for_log();
    let options = nsq_log::Options::default();
    let mut opened = Store::open_locked(data, lock, disk.clone(), options, clocks)?;
    for notice in &opened.report {
        writeln!(out, "{notice}")?;
    }
    if let Some(failed) = opened.failed.into_iter().next() {
        return Err(failed.error.into());
    }
    adopt_channels(&mut opened.topics, &opened.report, &listed);
    let mut export = Export { disk: disk.clone(), target, out, body_bytes_max: 0 };
    for topic in &opened.topics {
        export.topic(topic)?;
    }
    export.finish()?;
    let now = Time(opened.now_ns);
    Metadata::new(disk, target).write(|| catalog(&opened.topics, listed), now)?;
    Ok(opened.store.close()?)
}

/// An export being written.
struct Export<'a> {
    disk: Arc<dyn Disk>,
    target: &'a Path,
    out: &'a mut dyn Write,
    body_bytes_max: usize,
}

impl Export<'_> {
    fn topic(&mut self, topic: &RecoveredTopic) -> Result<(), ExportError> {
        let RecoveredTopic { name, log, state } = topic;
        let waits = state.paused || state.channels.is_empty();
        let fanout = if waits { state.fanout } else { log.end() };
        let ends = state.channels.iter().map(|(_, channel)| channel.end);
        let shared = ends.fold(fanout, u64::max);
        for (channel, state) in &state.channels {
            let deferred = state.outstanding.iter().filter(|it| it.due_ns.is_some());
            let deferred = deferred.map(|it| it.range.end - it.range.start).sum();
            let queue = format!("{name}:{channel}");
            self.queue(queue, log, state.unfinished(shared), deferred)?;
        }
        let deferred = state.deferred.iter().map(|(range, _)| range.end - range.start.max(shared));
        let deferred = if waits { deferred.sum() } else { 0 };
        self.queue(name.to_string(), log, vec![(shared..log.end(), 0)], deferred)
    }

    fn queue(
        &mut self,
        queue: String,
        log: &TopicLog,
        messages: Vec<(Range<u64>, u16)>,
        deferred: u64,
    ) -> Result<(), ExportError> {
        let writer =
            QueueWriter::new(self.disk.clone(), self.target, queue.clone(), FILE_BYTES_MAX);
        let mut copy = Copy { log, writer, chunk: None, lost: 0 };
        for (range, attempts) in messages {
            copy.messages(range, attempts)?;
        }
        let Copy { writer, lost, .. } = copy;
        let WrittenQueue { messages, body_bytes_max } = writer.finish()?;
        self.body_bytes_max = self.body_bytes_max.max(body_bytes_max);
        write!(self.out, "{queue}: {messages} messages")?;
        if deferred > 0 {
            write!(self.out, ", of which {deferred} were deferred and are ready now")?;
        }
        if lost > 0 {
            write!(self.out, ", {lost} more were lost to damage")?;
        }
        writeln!(self.out)?;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), ExportError> {
        if self.body_bytes_max > GO_BODY_BYTES_MAX {
            writeln!(
                self.out,
                "start nsqd with --max-msg-size={} or more, or it takes its largest messages for damage",
                self.body_bytes_max
            )?;
        }
        Ok(())
    }
}

/// Copies messages from a log to a queue.
struct Copy<'a> {
    log: &'a TopicLog,
    writer: QueueWriter,
    chunk: Option<Chunk>,
    lost: u64,
}

impl Copy<'_> {
    fn messages(&mut self, range: Range<u64>, attempts: u16) -> Result<(), ExportError> {
        let mut seq = range.start;
        let mut slices = Vec::new();
        while seq < range.end {
            match self.read(seq..range.end, &mut slices) {
                Read::Taken(count) => seq += count,
                Read::Gone(count) => {
                    self.lost += count;
                    seq += count;
                }
                Read::Cold => self.chunk = Some(self.log.load(seq, READ_BYTES)?),
            }
            for slice in slices.drain(..) {
                self.writer.push_all(&slice.bytes, attempts)?;
            }
        }
        Ok(())
    }

    fn read(&self, range: Range<u64>, slices: &mut Vec<nsq_log::Slice>) -> Read {
        let cold = |chunk: &Chunk| chunk.read(range.clone(), READ_BYTES, slices);
        match self.chunk.as_ref().map_or(Read::Cold, cold) {
            Read::Cold => self.log.read(range, READ_BYTES, slices),
            read => read,
        }
    }
}

/// The topics that the logs know, and those that are only listed.
fn catalog(topics: &[RecoveredTopic], listed: Catalog) -> Catalog {
    let known = |name: &str| topics.iter().any(|topic| topic.name.as_str() == name);
    let is_durable = |name: &str| TopicName::new(name).is_ok_and(|name| !name.is_ephemeral());
    let listed = listed.topics.into_iter().flatten();
    let others = listed.filter(|topic| is_durable(&topic.name) && !known(&topic.name));
    Catalog::new(topics.iter().map(catalog_topic).chain(others).collect())
}

fn catalog_topic(topic: &RecoveredTopic) -> CatalogTopic {
    let channels = topic.state.channels.iter();
    let channels: Vec<_> = channels
        .map(|(name, state)| CatalogChannel { name: name.to_string(), paused: state.paused })
        .collect();
    CatalogTopic {
        name: topic.name.to_string(),
        paused: topic.state.paused,
        channels: (!channels.is_empty()).then_some(channels),
    }
}
