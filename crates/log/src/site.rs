//! The state that the parts of a topic's log share: its positions, and the place of its files.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Acquire},
    },
    time::Duration,
};

use nsq_protocol::TopicName;

use crate::{
    segment::{Segment, segment_path},
    segments::Segments,
    shared::Shared,
};

/// The time of an append, and the delay of its messages.
#[derive(Copy, Clone, Debug, Default)]
pub struct Append {
    /// The time of the publish, ns since 1970; becomes the timestamp of every message of the batch.
    pub timestamp_ns: i64,
    /// The time that the messages wait before they are delivered.
    pub defer: Option<Duration>,
}

/// Positions that can be read without a lock. None of them ever goes back.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    pub(crate) end: AtomicU64,
    pub(crate) written: AtomicU64,
    pub(crate) synced: AtomicU64,
    /// Bytes of batches written to segments in this run.
    pub(crate) appended_bytes: AtomicU64,
    /// The active segment is nearly full, and the next one has not been created.
    pub(crate) filling: AtomicBool,
}

impl Marks {
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Acquire)
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Acquire)
    }

    pub(crate) fn synced(&self) -> u64 {
        self.synced.load(Acquire)
    }
}

/// The surroundings of an appender: the topic it writes for and where its files are.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Site<'a> {
    pub(crate) name: &'a TopicName,
    pub(crate) id: u64,
    pub(crate) dir: &'a Path,
    pub(crate) shared: &'a Shared,
    pub(crate) memory_only: bool,
    pub(crate) segments: &'a Segments,
    pub(crate) marks: &'a Marks,
}

impl Site<'_> {
    /// Removes the files of segments that are no longer in the table.
    pub(crate) fn remove_files(&self, segments: &[Arc<Segment>]) {
        for segment in segments {
            // A file that cannot be removed is found again at the next start, and released again.
            let _ = self.shared.disk.remove(&segment_path(self.dir, segment.number));
        }
    }
}
