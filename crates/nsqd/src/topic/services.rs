//! The options, clock, log and background threads that all topics of a node share.

use std::sync::Arc;

use nsq_daemon::{
    log::{Limited, Logger},
    tls::ServerTls,
};

use super::bulk::BulkSlots;
use crate::{
    auth::AuthServers,
    chores::{deadlines::Deadlines, health::Health, queue::Queue},
    clock::Clock,
    latency::{Latencies, LatencyReport, LatencyWindow},
    meters::Meters,
    options::Options,
};

/// The options, clock, log and background work of a node.
pub(crate) struct Services {
    pub(crate) options: Options,
    /// The certificate, if there is one.
    pub(crate) tls: Option<ServerTls>,
    /// The servers that decide what clients may do, if any.
    pub(crate) auth: Option<Arc<AuthServers>>,
    pub(crate) clock: Clock,
    pub(crate) logger: Logger,
    /// For lines that clients cause by connecting, leaving or creating: so many a second from all of them together.
    pub(crate) clients_log: Limited,
    /// Bounds the large publishes at work.
    pub(crate) bulk: BulkSlots,
    pub(crate) deadlines: Deadlines,
    pub(crate) health: Health,
    pub(crate) meters: Meters,
    /// Writes journals.
    pub(crate) keeper: Arc<Queue>,
    /// Flushes files.
    pub(crate) syncer: Arc<Queue>,
    /// Deletes, replaces and retries: work that may take long and that nothing else waits for.
    pub(crate) tidier: Arc<Queue>,
}

impl Services {
    /// An empty window for the latencies of a channel; `None` when no percentiles are asked for.
    pub(super) fn latency_window(&self) -> Option<LatencyWindow> {
        let options = &self.options;
        let asked = !options.e2e_percentiles.as_slice().is_empty();
        asked.then(|| LatencyWindow::new(options.e2e_window, self.clock.now()))
    }

    /// The percentiles that are asked for.
    pub(super) fn latency_report(&self, latencies: Option<&Latencies>) -> LatencyReport {
        LatencyReport::new(latencies, self.options.e2e_percentiles.as_slice())
    }
}
