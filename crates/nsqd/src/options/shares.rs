//! The options that bound the share of the node that one client, topic or address can take.

use std::time::Duration;

/// The limits on the share of one client, topic or address. All of them are in `docs/limits.md`.
#[derive(Copy, Clone, Debug)]
pub struct ShareOptions {
    /// `--max-connections`: TCP clients at a time; 0 for as many as the descriptors allow.
    pub connections_max: usize,
    /// `--max-http-connections`: HTTP and HTTPS clients at a time; 0 for as many as the descriptors allow.
    pub http_connections_max: usize,
    /// `--descriptor-reserve`: descriptors that clients leave to files and to connections of nsqd itself; 0 for three
    /// eighths of all, or some thousands where there are many.
    pub descriptor_reserve: u64,
    /// `--max-network-memory`: bytes of unfinished input and unsent output of all connections together; an eighth is for the
    /// bodies of HTTP requests; 0 for no limit.
    pub network_bytes_max: usize,
    /// `--stall-timeout`: the longest that a client may leave a command unfinished or output unread; zero for no limit.
    pub stall_timeout: Duration,
    /// `--max-topics`; 0 for no limit.
    pub topics_max: usize,
    /// `--max-channels-per-topic`; 0 for no limit.
    pub channels_per_topic_max: usize,
    /// `--max-ephemeral-memory`: bytes of the messages of all ephemeral topics together; 0 for no limit.
    pub ephemeral_bytes_max: usize,
    /// `--http-config`: the addresses from which `/config` takes changes.
    pub http_config: HttpConfig,
}

/// The addresses from which `/config` takes changes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum HttpConfig {
    /// All.
    On,
    /// Those of the machine itself, and unix sockets.
    Loopback,
    /// None.
    Off,
}

impl ShareOptions {
    /// The longest that a client may stall; `None` for no limit.
    pub(crate) fn stall_limit(&self) -> Option<Duration> {
        (!self.stall_timeout.is_zero()).then_some(self.stall_timeout)
    }
}

impl HttpConfig {
    /// The choices by name.
    pub(super) const WORDS: [(&'static str, Self); 3] =
        [("on", Self::On), ("loopback", Self::Loopback), ("off", Self::Off)];
}

impl ShareOptions {
    /// The number of topics that a node may have.
    pub(crate) fn topics_limit(&self) -> usize {
        or_no_limit(self.topics_max)
    }

    /// The number of channels that a topic may have.
    pub(crate) fn channels_limit(&self) -> usize {
        or_no_limit(self.channels_per_topic_max)
    }

    /// The bytes that all connections together may hold.
    pub(crate) fn network_bytes_limit(&self) -> usize {
        or_no_limit(self.network_bytes_max)
    }

    /// The bytes that the messages of all ephemeral topics together may take.
    pub(crate) fn ephemeral_bytes_limit(&self) -> usize {
        or_no_limit(self.ephemeral_bytes_max)
    }
}

fn or_no_limit(max: usize) -> usize {
    if max == 0 { usize::MAX } else { max }
}

impl Default for ShareOptions {
    fn default() -> Self {
        Self {
            connections_max: 0,
            http_connections_max: 0,
            descriptor_reserve: 0,
            network_bytes_max: 512 << 20,
            stall_timeout: Duration::from_secs(60),
            topics_max: 100_000,
            channels_per_topic_max: 10_000,
            ephemeral_bytes_max: 1 << 30,
            http_config: HttpConfig::On,
        }
    }
}
