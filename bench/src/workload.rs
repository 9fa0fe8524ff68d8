//! A row of the table: the work done against a server, and how much of it.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{
    failure::Failure,
    ledger::Ledger,
    limit::Limit,
    sample::Sample,
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
    pub(crate) run: fn(&Run<'_>) -> Result<Sample, Failure>,
}

/// One run of a workload against one server.
pub(crate) struct Run<'a> {
    /// The server.
    pub(crate) target: &'a Target,
    /// When to give up.
    pub(crate) limit: &'a Limit,
    /// Messages, topics or connections.
    pub(crate) size: usize,
    /// Whether everything is made short.
    pub(crate) quick: bool,
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
