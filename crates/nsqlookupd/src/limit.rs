//! The limits on what peers can make grow, and how often each was reached.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A limit that a peer can reach. `docs/limits.md` has all of them.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Connections,
    HttpConnections,
    OpenFiles,
}

impl Limit {
    pub(crate) const ALL: [Self; 3] = [Self::Connections, Self::HttpConnections, Self::OpenFiles];

    /// The name of the limit in metrics: that of its flag, if it has one.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "max-connections",
            Self::HttpConnections => "max-http-connections",
            Self::OpenFiles => "open-files",
        }
    }
}

/// How often each limit was reached.
#[derive(Debug, Default)]
pub(crate) struct Reached([AtomicU64; Limit::ALL.len()]);

impl Reached {
    /// Counts that a limit was reached `times` times.
    pub(crate) fn count(&self, limit: Limit, times: u64) {
        self.0[limit as usize].fetch_add(times, Relaxed);
    }

    /// How often each limit was reached.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (Limit, u64)> {
        Limit::ALL.into_iter().zip(self.0.iter().map(|count| count.load(Relaxed)))
    }
}
