//! State shared by sessions and HTTP handlers.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use nsq_broker::{
    Time,
    registry::{ProducerId, Registry},
};
use nsq_daemon::log::{Limited, Logger};

use crate::{clock::Clock, metrics::Metrics, options::Options};

/// The registry and the means to serve it.
pub(crate) struct Directory {
    pub(crate) logger: Logger,
    /// For lines that clients cause: so many a second from all of them together.
    pub(crate) clients_log: Limited,
    pub(crate) metrics: Metrics,
    /// Sent to nsqd together with the ports.
    pub(crate) broadcast_address: String,
    pub(crate) tcp_port: u16,
    pub(crate) http_port: u16,
    clock: Clock,
    registry: Mutex<Registry>,
    next_producer: AtomicU64,
}

impl Directory {
    /// An empty directory, served at these ports.
    pub(crate) fn new(options: Options, logger: Logger, tcp_port: u16, http_port: u16) -> Self {
        let registry = Registry::new(options.inactive_producer_timeout, options.tombstone_lifetime);
        Self {
            clients_log: Limited::to_all(&logger, "clients"),
            logger,
            metrics: Metrics::default(),
            broadcast_address: options.broadcast_address,
            tcp_port,
            http_port,
            clock: Clock::start(),
            registry: Mutex::new(registry),
            next_producer: AtomicU64::new(0),
        }
    }

    /// Returns an unused producer id.
    pub(crate) fn next_producer_id(&self) -> ProducerId {
        ProducerId(self.next_producer.fetch_add(1, Ordering::Relaxed))
    }

    /// Reads or changes the registry under its lock. Format and log afterwards: all other clients wait.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Registry, Time) -> T) -> T {
        // A panic of another holder leaves the registry good enough to serve, and nsqd registers everything again.
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that time never goes back between two holders.
        let now = self.clock.now();
        work(&mut registry, now)
    }
}
