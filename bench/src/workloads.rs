//! The rows of the table: what is done to a server, and what is measured while it is done.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use crate::{
    failure::Failure,
    ledger::Ledger,
    limit::Limit,
    measure::Spent,
    target::{Kind, Target},
};

mod backlog;
mod both;
mod channels;
mod consume;
mod idle;
mod latency;
mod publish;

pub(crate) use consume::preload;

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

/// Every workload, in the order of the table.
pub(crate) const ALL: &[Workload] = &[
    publish::MPUB200,
    consume::SUBFIN,
    both::BOTH,
    consume::RDY1,
    publish::PUB1,
    publish::PIPE,
    backlog::BACKLOG,
    latency::LATENCY,
    channels::CHANNELS8,
    idle::TOPICS2000,
    idle::CONNS2000,
];

/// Finds a workload by name.
pub(crate) fn find(name: &str) -> Option<&'static Workload> {
    ALL.iter().find(|workload| workload.name == name)
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

/// What a number counts, which says how it is printed and what is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Messages in a second; more is better.
    PerSecond,
    /// Microseconds.
    Micros,
    /// Bytes.
    Bytes,
    /// Percent of one core.
    Percent,
    /// A ratio of two numbers of the same server.
    Times,
}

/// One number of one run.
#[derive(Clone, Debug)]
pub(crate) struct Metric {
    /// What is measured.
    pub(crate) name: &'static str,
    /// What it counts.
    pub(crate) unit: Unit,
    /// How much.
    pub(crate) value: f64,
    /// Whether it is in the table without `--all`.
    pub(crate) main: bool,
}

/// The numbers of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// In the order of the table.
    pub(crate) metrics: Vec<Metric>,
    /// Messages that came more than once.
    pub(crate) duplicates: usize,
}

impl Sample {
    /// Adds a number of the table.
    pub(crate) fn add(&mut self, name: &'static str, unit: Unit, value: f64) {
        self.metrics.push(Metric { name, unit, value, main: true });
    }

    /// Adds a number that is only in the long table and in the JSON file.
    pub(crate) fn add_detail(&mut self, name: &'static str, unit: Unit, value: f64) {
        self.metrics.push(Metric { name, unit, value, main: false });
    }

    /// Adds `messages` per second between two moments.
    pub(crate) fn add_rate(
        &mut self,
        name: &'static str,
        messages: usize,
        start: Instant,
        end: Instant,
    ) {
        self.add(name, Unit::PerSecond, messages as f64 / (end - start).as_secs_f64());
    }

    /// Adds the server's CPU for each of `messages`, if it is known.
    pub(crate) fn add_cpu(&mut self, name: &'static str, spent: &Spent, messages: usize) {
        if let Some(server) = spent.server {
            self.add(name, Unit::Micros, server.as_secs_f64() * 1e6 / messages as f64);
        }
    }

    /// Adds the server's CPU for each of `messages`, if it is known, as a detail.
    pub(crate) fn add_detail_cpu(&mut self, name: &'static str, spent: &Spent, messages: usize) {
        if let Some(server) = spent.server {
            self.add_detail(name, Unit::Micros, server.as_secs_f64() * 1e6 / messages as f64);
        }
    }

    /// Adds what the server has used so far and what the load itself used, as far as it is known.
    ///
    /// # Errors
    /// The system's refusal.
    pub(crate) fn add_footprint(
        &mut self,
        run: &Run<'_>,
        spent: &Spent,
        messages: usize,
    ) -> Result<(), Failure> {
        if let Some(memory) = run.target.memory()? {
            self.add("peak memory", Unit::Bytes, memory.peak as f64);
        }
        if let Some(bytes) = run.target.disk_bytes()? {
            self.add_detail("on disk", Unit::Bytes, bytes as f64);
        }
        let load = spent.load.as_secs_f64() * 1e6 / messages as f64;
        self.add_detail("CPU of the load/msg", Unit::Micros, load);
        Ok(())
    }
}

/// The middle of some numbers; of an even count, the mean of the middle two.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_is_found_by_its_own_name() {
        for workload in ALL {
            assert_eq!(find(workload.name).map(|found| found.title), Some(workload.title));
            assert!(workload.size_quick < workload.size);
        }
    }

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(&[1.0, 2.0, 9.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[1.0, 2.0, 4.0, 9.0]) - 3.0).abs() < 1e-9);
    }
}
