//! A row of the table: the work done against a server, and how much of it.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{
    failure::Failure,
    ledger::Ledger,
    limit::Limit,
    sample::Sample,
    server::Server,
    target::{Kind, Target},
};

/// One workload.
#[derive(Debug)]
pub(crate) struct Workload {
    /// What `--only` and `load` call it.
    pub(crate) name: &'static str,
    /// What is done, for people.
    pub(crate) title: &'static str,
    /// Messages, topics or connections, as the title says.
    pub(crate) size: usize,
    /// The same for `--quick`.
    pub(crate) size_quick: usize,
    /// Whether the server's memory queue is made large enough for all messages.
    pub(crate) in_memory: bool,
    /// Whether the null server can take part.
    pub(crate) null: bool,
    /// Does it.
    pub(crate) work: Work,
}

/// The work of a row, by what it needs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// A server that answers.
    Load(fn(&Run<'_>) -> Result<Sample, Failure>),
    /// A server process of the bench's own, to be killed and started again.
    Restart(fn(&mut Server, Job<'_>) -> Result<Sample, Failure>),
}

/// How much of everything is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Little, as a smoke test.
    Quick,
    /// What the table is made of.
    Full,
    /// As `Full`, and much more where time brings faults to light.
    Soak,
}

impl Workload {
    /// Returns the size of the workload at `scale`.
    pub(crate) fn size_at(&self, scale: Scale) -> usize {
        if scale == Scale::Quick { self.size_quick } else { self.size }
    }
}

/// What a workload is told besides its server.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    /// When to give up.
    pub(crate) limit: &'a Limit,
    /// Messages, topics or connections.
    pub(crate) size: usize,
    /// How much is done beside that.
    pub(crate) scale: Scale,
}

impl<'a> Job<'a> {
    /// Gives the job a server.
    pub(crate) fn on(self, target: &'a Target) -> Run<'a> {
        let Job { limit, size, scale } = self;
        Run { target, limit, size, scale }
    }
}

/// One run of a workload against one server.
pub(crate) struct Run<'a> {
    /// The server.
    pub(crate) target: &'a Target,
    /// When to give up.
    pub(crate) limit: &'a Limit,
    /// Messages, topics or connections.
    pub(crate) size: usize,
    /// How much is done beside that.
    pub(crate) scale: Scale,
}

impl Run<'_> {
    /// Makes a topic name that this server has not seen from this process.
    pub(crate) fn topic(&self) -> String {
        static TOPICS: AtomicUsize = AtomicUsize::new(0);
        format!("bench_{}_{}", std::process::id(), TOPICS.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes the ledger for `self.size` messages. The null server delivers what nobody published,
    /// so there the messages can only be counted.
    pub(crate) fn ledger(&self) -> Ledger {
        match self.target.kind {
            Kind::Nsqd => Ledger::new(self.size),
            Kind::Null => Ledger::counting(self.size),
        }
    }
}
