//! The options of statsd.

use std::time::Duration;

/// The options of statsd.
#[derive(Clone, Debug)]
pub struct StatsdOptions {
    /// `--statsd-address`: the daemon that figures are sent to over UDP; empty for none.
    pub address: String,
    /// `--statsd-interval`: the time between two pushes; zero for none.
    pub interval: Duration,
    /// `--statsd-mem-stats`: figures of the memory are sent too.
    pub mem_stats: bool,
    /// `--statsd-prefix`: the beginning of every name; `%s` stands for the host.
    pub prefix: String,
    /// `--statsd-udp-packet-size`: the bytes of a packet.
    pub udp_packet_size: usize,
    /// `--statsd-exclude-ephemeral`: ephemeral topics and channels are left out.
    pub exclude_ephemeral: bool,
}

impl Default for StatsdOptions {
    fn default() -> Self {
        Self {
            address: String::new(),
            interval: Duration::from_secs(60),
            mem_stats: true,
            prefix: "nsq.%s".to_owned(),
            udp_packet_size: 508,
            exclude_ephemeral: false,
        }
    }
}
