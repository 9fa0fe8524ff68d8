//! The memory that connections hold together: input that is no whole command yet, and output that clients have not taken.
//!
//! Each connection counts its memory in steps, so that a turn of a session normally touches no memory that threads
//! share. While more than half of the budget is in use, sessions keep less for themselves; beyond the budget the
//! connection that holds most is closed, then the next. Whoever exceeds the budget does that, so nothing has to watch.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use super::Node;
use crate::{
    lock::lock,
    meters::Limit,
    options::ShareOptions,
    topic::client::{Client, Holders},
};

/// The part of `--max-network-memory` that is for the bodies of HTTP requests, which wait for room instead.
const BODIES_SHARE: usize = 8;

/// The budget of the connections of TCP clients.
#[derive(Debug)]
pub(crate) struct NetworkMemory {
    bytes_max: usize,
    bytes: AtomicUsize,
    /// Held while connections are chosen, so that two sessions do not close one too many.
    choice: Mutex<()>,
}

impl NetworkMemory {
    pub(super) fn new(options: &ShareOptions) -> Self {
        let bytes_max = options.network_bytes_limit().saturating_sub(bodies_bytes_max(options));
        Self { bytes_max, bytes: AtomicUsize::new(0), choice: Mutex::default() }
    }

    /// The bytes that all connections hold.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// Returns whether connections should hold no more than they need.
    pub(crate) fn is_tight(&self) -> bool {
        self.bytes() > self.bytes_max / 2
    }

    fn change(&self, from: usize, to: usize) -> usize {
        if to >= from {
            self.bytes.fetch_add(to - from, Relaxed) + (to - from)
        } else {
            self.bytes.fetch_sub(from - to, Relaxed) - (from - to)
        }
    }
}

/// The part of `--max-network-memory` that the bodies of HTTP requests may take.
pub(crate) fn bodies_bytes_max(options: &ShareOptions) -> usize {
    options.network_bytes_limit() / BODIES_SHARE
}

impl Node {
    /// Counts that `client` holds `bytes`. If that is too much for all together, the largest connections are closed.
    pub(crate) fn count_held(&self, client: &Client, bytes: usize) {
        let before = client.hold(bytes);
        if self.network.change(before, bytes) > self.network.bytes_max && bytes > before {
            self.close_largest();
        }
    }

    fn close_largest(&self) {
        let _choice = lock(&self.network.choice);
        let bytes_max = self.network.bytes_max;
        loop {
            let Holders { largest, leaving_bytes } = self.clients.holders();
            let staying_bytes = self.network.bytes().saturating_sub(leaving_bytes);
            let Some(client) = largest.filter(|_| staying_bytes > bytes_max) else { return };
            client.evict();
            self.services.meters.reached(Limit::NetworkMemory);
            let (remote, bytes) = (client.remote, client.held_bytes());
            let line = format_args!(
                "client({remote}) holds {bytes} of {bytes_max} bytes for all connections, closing"
            );
            self.services.clients_log.warn("large connections", line);
        }
    }
}
