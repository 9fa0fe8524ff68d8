//! Errors, divided by what a caller can do about them.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::io::Errno;

/// An I/O error with the operation and the file.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}: {source}", path.display())]
pub struct IoError {
    /// The operation, as a verb.
    pub operation: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// The operating system's error.
    pub source: io::Error,
}

impl IoError {
    pub(crate) fn new(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self { operation, path: path.to_owned(), source }
    }

    /// Returns true for a shortage (of disk, quota, descriptors or memory) that may pass by itself.
    pub fn is_temporary(&self) -> bool {
        is_shortage(&self.source)
    }
}

pub(crate) trait Context<T> {
    fn context(self, operation: &'static str, path: &Path) -> Result<T, IoError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, operation: &'static str, path: &Path) -> Result<T, IoError> {
        self.map_err(|source| IoError::new(operation, path, source))
    }
}

/// Why the data directory could not be locked. The texts are those that nsqd's users know.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The directory cannot be opened.
    #[error("failed to lock data-path: open {}: {}", path.display(), plain(source))]
    Open {
        /// The data directory.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// Another process holds the lock, or the file system has no locks.
    #[error(
        "failed to lock data-path: cannot flock directory {} - {} (possibly in use by another instance of nsqd)",
        path.display(), plain(source)
    )]
    Flock {
        /// The data directory.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory is missing or in use.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A file was written by a later version of this program.
    #[error("{} has format version {found}, this program knows {known}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// The newest version that can be read.
        known: u16,
    },
}

/// Why an operation on the store, or on a topic's journal, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A file has an unknown version.
    #[error(transparent)]
    Open(OpenError),
    /// The records are kept in memory until [`retry_journal`](crate::TopicLog::retry_journal) succeeds.
    #[error("the journal of topic {topic} is behind after a failed write: {reason}")]
    JournalBehind {
        /// The topic.
        topic: String,
        /// The failed write.
        #[source]
        reason: Arc<IoError>,
    },
    /// The topic's files could not be recovered; [`retry_topic`](crate::Store::retry_topic) tries again.
    #[error("topic {topic} could not be recovered: {reason}")]
    Failed {
        /// The topic.
        topic: String,
        /// The error that recovery ended with.
        reason: String,
    },
    /// The topic has been deleted.
    #[error("topic {0} has been deleted")]
    Deleted(String),
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
    /// The topic takes no appends.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A topic could not be flushed.
    #[error(transparent)]
    Sync(#[from] SyncError),
}

/// Why a topic could not be flushed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The topic takes no appends, or the batches gathered at level `memory` cannot be written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A file or directory could not be opened. If that is for lack of descriptors, the same flush may succeed later.
    #[error(transparent)]
    Open(Arc<IoError>),
    /// A flush failed: nothing that was written since the last one can be relied on.
    #[error(transparent)]
    Flush(Arc<IoError>),
}

impl SyncError {
    pub(crate) fn open(error: IoError) -> Self {
        Self::Open(Arc::new(error))
    }

    /// The error of a call that flushes. A directory is opened for that: without a descriptor nothing was tried.
    pub(crate) fn flush(error: IoError) -> Self {
        if is_out_of_descriptors(&error.source) {
            Self::open(error)
        } else {
            Self::Flush(Arc::new(error))
        }
    }

    /// The error after which the topic has to stop, if this is one.
    pub(crate) fn stops(&self) -> Option<&Arc<IoError>> {
        match self {
            Self::Append(_) => None,
            Self::Open(error) => (!error.is_temporary()).then_some(error),
            Self::Flush(error) => Some(error),
        }
    }
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Io(error) => Self::Io(error),
            other => Self::Open(other),
        }
    }
}

/// Why a batch was not appended. The batch is still in its builder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Out of disk space, quota or descriptors: the same append may succeed later.
    #[error("cannot append for lack of resources: {0}")]
    Temporary(#[source] IoError),
    /// The topic takes no appends until [`reopen`](crate::TopicLog::reopen) succeeds. Reading goes on.
    #[error("topic {topic} is stopped: {reason}")]
    Stopped {
        /// The topic.
        topic: String,
        /// The error that stopped it.
        reason: Arc<IoError>,
    },
    /// The batch is larger than a batch may be: 4 GiB or 2^22 messages.
    #[error("a batch of {count} messages and {bytes} bytes is too large")]
    TooLarge {
        /// Messages in the batch.
        count: usize,
        /// Bytes of its records.
        bytes: usize,
    },
    /// The topic has been deleted.
    #[error("topic {0} has been deleted")]
    Deleted(String),
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

/// Why messages could not be read back from disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The position is at or behind the end of the messages on disk.
    #[error("sequence {first} is not before the end {end} of what is on disk")]
    Beyond {
        /// The position.
        first: u64,
        /// The end of the messages on disk.
        end: u64,
    },
    /// The file could not be read.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl ReadError {
    /// Returns true for a shortage (of descriptors or memory) that may pass by itself.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Io(error) if error.is_temporary())
    }
}

/// Returns true if a file system or quota is full.
pub(crate) fn is_out_of_space(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOSPC | Errno::DQUOT))
        || matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Returns true if the process or the machine has too many open files.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Shortages that pass by themselves or by freeing space, as opposed to a device that fails.
fn is_shortage(error: &io::Error) -> bool {
    is_out_of_space(error)
        || is_out_of_descriptors(error)
        || Errno::from_io_error(error) == Some(Errno::NOMEM)
}

/// The error's text as C programs print it: lower case, without the number that Rust appends.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_ascii_lowercase().to_string() + chars.as_str())
}
