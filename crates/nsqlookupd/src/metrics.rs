//! Prometheus metrics.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use nsq_broker::registry::Counts;
use nsq_daemon::{
    log::Logger,
    metrics::{Family, Labels, Page, write_process},
};

use crate::limit::Reached;

const TOPICS: Family =
    Family::gauge("nsqlookupd_topics", "Topics that are registered, with or without producers.");
const CHANNELS: Family = Family::gauge(
    "nsqlookupd_channels",
    "Channels that are registered, with or without producers.",
);
const ORPHANS: Family =
    Family::gauge("nsqlookupd_orphans", "Topics and channels that have no producers.");
const REGISTRATIONS: Family =
    Family::gauge("nsqlookupd_registrations", "Topics and channels of all producers together.");
const TOMBSTONES: Family = Family::gauge("nsqlookupd_tombstones", "Tombstones in force.");
const PRODUCERS: Family =
    Family::gauge("nsqlookupd_producers", "Identified connections of nsqd, by sign of life.");
const CONNECTIONS: Family = Family::gauge("nsqlookupd_connections", "Open TCP connections.");
const CONNECTIONS_TOTAL: Family =
    Family::counter("nsqlookupd_connections_total", "TCP connections accepted.");
const COMMANDS_TOTAL: Family = Family::counter("nsqlookupd_commands_total", "Commands served.");
const REFUSALS_TOTAL: Family =
    Family::counter("nsqlookupd_refusals_total", "Connections ended for a protocol error.");
const LOG_DROPPED_TOTAL: Family = Family::counter(
    "nsqlookupd_log_lines_dropped_total",
    "Lines of the log that were not read from stderr in time, or could not be written.",
);
const LOG_SUPPRESSED_TOTAL: Family = Family::counter(
    "nsqlookupd_log_lines_suppressed_total",
    "Lines of the log that --log-rate has left out; the log tells how many of which kind.",
);
const HTTP_REQUESTS_TOTAL: Family =
    Family::counter("nsqlookupd_http_requests_total", "HTTP requests, by path.");
const LIMIT_REACHED_TOTAL: Family =
    Family::counter("nsqlookupd_limit_reached_total", "Times that a limit was reached.");

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
    pub(crate) reached: Reached,
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

    /// Writes everything that is counted.
    pub(crate) fn page(&self, counts: &Counts, logger: &Logger) -> Page {
        let mut page = Page::with_capacity(4096);
        write_registrations(&mut page, counts);
        self.write_connections(&mut page);
        page.single(&LOG_DROPPED_TOTAL, logger.dropped());
        page.single(&LOG_SUPPRESSED_TOTAL, logger.suppressed());
        self.write_requests(&mut page);
        self.write_limits(&mut page);
        write_process(&mut page);
        page
    }

    fn write_connections(&self, page: &mut Page) {
        // In this order: a connection opened in between must not make the difference negative.
        let closed = self.connections_closed.load(Relaxed);
        let opened = self.connections_opened.load(Relaxed);
        page.single(&CONNECTIONS, opened.saturating_sub(closed));
        page.single(&CONNECTIONS_TOTAL, opened);
        let mut commands = page.family(&COMMANDS_TOTAL);
        for (name, count) in COMMANDS.iter().zip(&self.commands) {
            commands.add(&Labels::new("command", name), count.load(Relaxed));
        }
        page.single(&REFUSALS_TOTAL, self.refusals.load(Relaxed));
    }

    fn write_requests(&self, page: &mut Page) {
        let mut samples = page.family(&HTTP_REQUESTS_TOTAL);
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        for (path, count) in &*requests {
            samples.add(&Labels::new("path", path), count.load(Relaxed));
        }
    }

    fn write_limits(&self, page: &mut Page) {
        let mut samples = page.family(&LIMIT_REACHED_TOTAL);
        for (limit, count) in self.reached.counts() {
            samples.add(&Labels::new("limit", limit.as_str()), count);
        }
    }
}

fn write_registrations(page: &mut Page, counts: &Counts) {
    page.single(&TOPICS, counts.topics);
    page.single(&CHANNELS, counts.channels);
    page.single(&ORPHANS, counts.orphans);
    page.single(&REGISTRATIONS, counts.registrations);
    page.single(&TOMBSTONES, counts.tombstones);
    page.family(&PRODUCERS)
        .add(&Labels::new("state", "active"), counts.producers_active)
        .add(&Labels::new("state", "inactive"), counts.producers_inactive);
}

struct Closing<'a>(&'a AtomicU64);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}
