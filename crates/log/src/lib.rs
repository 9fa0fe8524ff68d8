//! Append-only topic logs: segments, batches, memory tail, journals of acknowledgements, recovery.
//!
//! A topic is one log of messages with dense sequence numbers. Publishing appends a batch; reading takes a
//! range of sequence numbers and gives slices of bytes that are ready for the wire. The progress of channels
//! is kept in the topic's journal, which this crate stores and replays but does not interpret:
//! it knows bytes, and nothing of consumers, sockets or clocks.
//!
//! - [`Store`] is the data folder: it opens and recovers all topics.
//! - [`TopicLog`] is one topic: append, read, load, journal, release.
//! - [`BatchBuilder`] encodes messages before any lock is taken.
//! - [`import::Import`] takes over a data folder of the Go nsqd, [`diskqueue::QueueWriter`] writes one.
//! - [`Disk`] is the only way to the file system.
//!
//! Every byte on disk is described in `docs/design/log-format.md`.
//!
//! ```
//! use std::sync::Arc;
//! use nsq_log::{Append, BatchBuilder, Clocks, Options, Read, RealDisk, Store};
//! use nsq_protocol::TopicName;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let disk = Arc::new(RealDisk);
//! let opened = Store::open(folder.path(), disk, Options::default(), Clocks::default())?;
//! let log = opened.store.create_topic(&TopicName::new("orders")?)?;
//!
//! let mut batch = BatchBuilder::new(opened.store.pool().clone());
//! batch.push(b"first");
//! batch.push(b"second");
//! let range = log.append(&mut batch, Append { timestamp_ns: 1, defer: None })?;
//! assert_eq!(range, 0..2);
//!
//! let mut slices = Vec::new();
//! assert_eq!(log.read(range, 1 << 20, &mut slices), Read::Taken(2));
//! assert!(slices[0].bytes.ends_with(b"second"));
//! opened.store.close()?;
//! # Ok(())
//! # }
//! ```

use std::sync::{Mutex, MutexGuard, PoisonError};

mod appender;
mod batch;
mod chunk;
mod disk;
pub mod diskqueue;
mod error;
mod extent;
mod figures;
mod holes;
mod id;
pub mod import;
mod journal;
mod journaling;
mod load;
mod node;
mod notice;
mod open_files;
mod pool;
mod read_budget;
mod recovery;
mod reopen;
mod scan;
mod segment;
mod segments;
mod shared;
mod site;
mod slice;
mod space;
mod state;
mod store;
mod sync;
mod tail;
#[doc(hidden)]
pub mod testing;
mod topic_log;
mod usage;
mod walk;

pub use crate::{
    appender::Retired,
    batch::{BATCH_HEADER_BYTES, BatchBuilder, RECORD_HEAD_BYTES},
    chunk::Chunk,
    disk::{DirLock, Disk, File, RealDisk, replace_file},
    error::{AppendError, Error, IoError, LockError, OpenError, ReadError, SyncError},
    id::{IdParts, SEGMENT_MESSAGES_MAX, split_id},
    journal::JournalRecord,
    node::Clocks,
    notice::{Event, Notice},
    pool::Pool,
    reopen::Reopened,
    segment::{FORMAT_VERSION, SEGMENT_HEADER_BYTES, SegmentSpan},
    shared::{Durability, Options},
    site::Append,
    slice::Slice,
    state::{ChannelDelta, ChannelState, Outstanding, TopicState},
    store::{DeletedTopic, FailedTopic, Opened, RecoveredTopic, Store},
    tail::Read,
    topic_log::TopicLog,
    usage::EphemeralBytes,
};

/// Locks a mutex, also one that was poisoned: no code here leaves a lock's data half changed across a call that can
/// panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
