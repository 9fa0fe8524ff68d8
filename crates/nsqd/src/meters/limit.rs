//! The limits that bound the share of one client, topic or address, and how often each was reached.

use super::Counter;

/// A limit that a peer can reach. `docs/limits.md` has all of them.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Connections,
    HttpConnections,
    Descriptors,
    NetworkMemory,
    StallTimeout,
    IdentifySize,
    Topics,
    ChannelsPerTopic,
    EphemeralMemory,
    /// Counted by the logger.
    LogRate,
    Lookupds,
    Stats,
    AuthQueries,
    BulkPublishes,
}

impl Limit {
    pub(crate) const ALL: [Self; 14] = [
        Self::Connections,
        Self::HttpConnections,
        Self::Descriptors,
        Self::NetworkMemory,
        Self::StallTimeout,
        Self::IdentifySize,
        Self::Topics,
        Self::ChannelsPerTopic,
        Self::EphemeralMemory,
        Self::LogRate,
        Self::Lookupds,
        Self::Stats,
        Self::AuthQueries,
        Self::BulkPublishes,
    ];

    /// The name of the limit in metrics: that of its flag, if it has one.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "max-connections",
            Self::HttpConnections => "max-http-connections",
            Self::Descriptors => "descriptor-reserve",
            Self::NetworkMemory => "max-network-memory",
            Self::StallTimeout => "stall-timeout",
            Self::IdentifySize => "max-identify-size",
            Self::Topics => "max-topics",
            Self::ChannelsPerTopic => "max-channels-per-topic",
            Self::EphemeralMemory => "max-ephemeral-memory",
            Self::LogRate => "log-rate",
            Self::Lookupds => "lookupds",
            Self::Stats => "stats",
            Self::AuthQueries => "auth-queries",
            Self::BulkPublishes => "bulk-publishes",
        }
    }
}

/// How often each limit was reached.
#[derive(Debug, Default)]
pub(crate) struct Reached([Counter; Limit::ALL.len()]);

impl Reached {
    /// Counts that a limit was reached.
    pub(crate) fn count(&self, limit: Limit) {
        self.0[limit as usize].add(1);
    }

    /// How often each limit was reached.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (Limit, u64)> {
        Limit::ALL.into_iter().zip(self.0.iter().map(Counter::get))
    }
}
