//! Prometheus metrics.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use nsq_broker::registry::Counts;

/// The names of the commands that are counted.
const COMMANDS: [&str; 4] = ["IDENTIFY", "PING", "REGISTER", "UNREGISTER"];

/// Counters since the start.
#[derive(Default)]
pub(crate) struct Metrics {
    connections_opened: AtomicU64,
    connections_closed: AtomicU64,
    /// In the order of [`COMMANDS`].
    commands: [AtomicU64; 4],
    pub(crate) refusals: AtomicU64,
    /// By path.
    requests: Mutex<BTreeMap<&'static str, Arc<AtomicU64>>>,
}

impl Metrics {
    /// Counts a connection as opened, and as closed when the guard is dropped.
    pub(crate) fn connection(&self) -> impl Drop + '_ {
        self.connections_opened.fetch_add(1, Relaxed);
        Closing(&self.connections_closed)
    }

    /// Counts a command by its name.
    pub(crate) fn command(&self, name: &str) {
        if let Some(at) = COMMANDS.iter().position(|command| *command == name) {
            self.commands[at].fetch_add(1, Relaxed);
        }
    }

    /// The request counter of a path.
    pub(crate) fn requests(&self, path: &'static str) -> Arc<AtomicU64> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(requests.entry(path).or_default())
    }

    /// Renders all metrics in the text format of Prometheus.
    pub(crate) fn page(&self, counts: &Counts) -> String {
        let mut page = String::with_capacity(2048);
        // Writing to a String cannot fail.
        let _ = self.write(counts, &mut page);
        page
    }

    fn write(&self, counts: &Counts, page: &mut String) -> fmt::Result {
        let family = |page: &mut String, name: &str, kind: &str, help: &str| {
            write!(page, "# HELP nsqlookupd_{name} {help}\n# TYPE nsqlookupd_{name} {kind}\n")
        };
        for (name, help, value) in [
            ("topics", "Topics that are registered, with or without producers.", counts.topics),
            (
                "channels",
                "Channels that are registered, with or without producers.",
                counts.channels,
            ),
            ("tombstones", "Tombstones in force.", counts.tombstones),
        ] {
            family(page, name, "gauge", help)?;
            writeln!(page, "nsqlookupd_{name} {value}")?;
        }
        family(page, "producers", "gauge", "Identified connections of nsqd, by sign of life.")?;
        let (active, inactive) = (counts.producers_active, counts.producers_inactive);
        writeln!(page, "nsqlookupd_producers{{state=\"active\"}} {active}")?;
        writeln!(page, "nsqlookupd_producers{{state=\"inactive\"}} {inactive}")?;

        // In this order: a connection opened in between must not make the difference negative.
        let closed = self.connections_closed.load(Relaxed);
        let opened = self.connections_opened.load(Relaxed);
        family(page, "connections", "gauge", "Open TCP connections.")?;
        writeln!(page, "nsqlookupd_connections {}", opened.saturating_sub(closed))?;
        family(page, "connections_total", "counter", "TCP connections accepted.")?;
        writeln!(page, "nsqlookupd_connections_total {opened}")?;
        family(page, "commands_total", "counter", "Commands served.")?;
        for (name, count) in COMMANDS.iter().zip(&self.commands) {
            let count = count.load(Relaxed);
            writeln!(page, "nsqlookupd_commands_total{{command=\"{name}\"}} {count}")?;
        }
        family(page, "refusals_total", "counter", "Connections ended for a protocol error.")?;
        writeln!(page, "nsqlookupd_refusals_total {}", self.refusals.load(Relaxed))?;
        family(page, "http_requests_total", "counter", "HTTP requests, by path.")?;
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        for (path, count) in &*requests {
            let count = count.load(Relaxed);
            writeln!(page, "nsqlookupd_http_requests_total{{path=\"{path}\"}} {count}")?;
        }
        Ok(())
    }
}

struct Closing<'a>(&'a AtomicU64);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}
