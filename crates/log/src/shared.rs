//! The options of a store and the parts that its logs share.

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicUsize},
};

use crate::{
    disk::Disk,
    error::{Context, IoError},
    node::Node,
    open_files::OpenFiles,
    pool::Pool,
    read_budget::ReadBudget,
    space::Space,
};

/// The meaning of `OK` to a publish.
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
    /// Cold reads of all topics together hold about this many bytes; beyond it each reads little at once.
    pub read_bytes_max: usize,
    /// At most this many segment files of all topics are open, a quarter of them for cold reads.
    pub open_files_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 100 << 20,
            tail_messages: 10_000,
            tail_bytes: 32 << 20,
            durability: Durability::Log,
            read_bytes_max: 64 << 20,
            open_files_max: 256,
        }
    }
}

/// The parts that the logs of a store share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) options: Options,
    pub(crate) pool: Arc<Pool>,
    pub(crate) open_files: OpenFiles,
    pub(crate) reads: Arc<ReadBudget>,
    pub(crate) node_id: [u8; 16],
    pub(crate) incarnation: u32,
    pub(crate) boot_id: [u8; 16],
    pub(crate) node: Node,
    pub(crate) space: Space,
    /// The memory of the messages of all ephemeral topics.
    pub(crate) ephemeral_bytes: Arc<AtomicUsize>,
}

impl Shared {
    pub(crate) fn random(&self) -> Result<u64, IoError> {
        let bytes = self.disk.entropy().context("read", Path::new("random numbers"))?;
        Ok(crate::batch::u64_at(&bytes, 0))
    }
}
