//! A row of the table: the work done against a server, and how much of it.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{
    failure::Failure,
    layer::Layer,
    ledger::Ledger,
    limit::Limit,
    sample::Sample,
    server::{Server, Spec},
    target::{Kind, Target},
};

/// One workload.
#[derive(Debug)]
pub(crate) struct Workload {
    /// Its name for `--only` and `load`.
    pub(crate) name: &'static str,
    /// A description of the work.
    pub(crate) title: &'static str,
    /// Messages, topics or connections, as the title says.
    pub(crate) size: usize,
    /// The size for `--quick`.
    pub(crate) size_quick: usize,
    /// The server's memory queue is made large enough for all messages.
    pub(crate) in_memory: bool,
    /// The null server can take part.
    pub(crate) null: bool,
    /// The layer that is spoken.
    pub(crate) layer: Layer,
    /// The work.
    pub(crate) work: Work,
}

/// The work of a row, by the server that it needs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// A running server.
    Load(fn(&Run<'_>) -> Result<Sample, Failure>),
    /// A server process that can be killed and restarted.
    Restart(fn(&mut Server, Job<'_>) -> Result<Sample, Failure>),
    /// This project's nsqd, running on a slow disk.
    SlowDisk(SlowDisk, fn(&Run<'_>) -> Result<Sample, Failure>),
}

/// A disk with slow flushes, and the nsqd on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlowDisk {
    /// The milliseconds that each flush takes in addition.
    pub(crate) flush_ms: u64,
    /// Flags for nsqd.
    pub(crate) args: &'static [&'static str],
}

/// The amount of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// A smoke test.
    Quick,
    /// The sizes of the table.
    Full,
    /// As `Full`, with much more work in rows that look for leaks.
    Soak,
}

impl Workload {
    /// Returns the size of the workload at `scale`.
    pub(crate) fn size_at(&self, scale: Scale) -> usize {
        if scale == Scale::Quick { self.size_quick } else { self.size }
    }

    /// Returns whether the server can take part.
    pub(crate) fn takes(&self, spec: &Spec) -> bool {
        match spec.kind {
            Kind::Null => self.null,
            Kind::Nsqd => spec.ours || !matches!(self.work, Work::SlowDisk(..)),
        }
    }
}

/// The parameters of a run other than the server.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    /// The time limit.
    pub(crate) limit: &'a Limit,
    /// Messages, topics or connections.
    pub(crate) size: usize,
    /// The amount of work.
    pub(crate) scale: Scale,
}

impl<'a> Job<'a> {
    /// Returns the run of this job on `target`.
    pub(crate) fn on(self, target: &'a Target) -> Run<'a> {
        let Job { limit, size, scale } = self;
        Run { target, limit, size, scale }
    }
}

/// One run of a workload against one server.
pub(crate) struct Run<'a> {
    /// The server.
    pub(crate) target: &'a Target,
    /// The time limit.
    pub(crate) limit: &'a Limit,
    /// Messages, topics or connections.
    pub(crate) size: usize,
    /// The amount of work.
    pub(crate) scale: Scale,
}

impl Run<'_> {
    /// Returns a new topic name.
    pub(crate) fn topic(&self) -> String {
        static TOPICS: AtomicUsize = AtomicUsize::new(0);
        format!("bench_{}_{}", std::process::id(), TOPICS.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the ledger for `self.size` messages. The null server delivers messages that were not
    /// published, so there they can only be counted.
    pub(crate) fn ledger(&self) -> Ledger {
        match self.target.kind {
            Kind::Nsqd => Ledger::new(self.size),
            Kind::Null => Ledger::counting(self.size),
        }
    }
}
