//! The options of nsqlookupd.

use std::time::Duration;

use nsq_daemon::net::host_name;
use nsq_options::{Table, option};

/// The options of nsqlookupd, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `--tcp-address`: where nsqd announces itself.
    pub tcp_address: String,
    /// `--http-address`: where consumers and tools ask.
    pub http_address: String,
    /// `--broadcast-address`: told to nsqd, which asks there for the channels of a new topic.
    pub broadcast_address: String,
    /// `--inactive-producer-timeout`: a producer that has been silent for longer is hidden.
    pub inactive_producer_timeout: Duration,
    /// `--max-connections`: TCP clients at a time; 0 for as many as the descriptors allow.
    pub connections_max: usize,
    /// `--max-http-connections`: HTTP clients at a time; 0 for as many as the descriptors allow.
    pub http_connections_max: usize,
    /// `--tombstone-lifetime`: how long a tombstone hides a producer.
    pub tombstone_lifetime: Duration,
}

impl Options {
    /// The option table.
    pub fn table() -> Table<Self> {
        Table::new(
            "nsqlookupd",
            vec![
                option!(Options.tcp_address, "address to listen on for nsqd to announce itself"),
                option!(Options.http_address, "address to listen on for HTTP clients"),
                option!(
                    Options.broadcast_address,
                    "address that this nsqlookupd is known by to others",
                )
                .default_shown_as("the host name"),
                option!(
                    Options.inactive_producer_timeout,
                    "time without a sign of life after which a producer is hidden",
                ),
                option!(
                    Options.connections_max,
                    "TCP clients at a time (default: as many as the limit on open files allows)",
                )
                .named("max-connections"),
                option!(
                    Options.http_connections_max,
                    "HTTP clients at a time (default: as many as the limit on open files allows)",
                )
                .named("max-http-connections"),
                option!(
                    Options.tombstone_lifetime,
                    "time for which a tombstone hides a producer of a topic",
                ),
            ],
        )
    }
}

impl Default for Options {
    /// The options of an nsqlookupd without a command line.
    fn default() -> Self {
        Self {
            tcp_address: "0.0.0.0:4160".to_owned(),
            http_address: "0.0.0.0:4161".to_owned(),
            broadcast_address: host_name(),
            inactive_producer_timeout: Duration::from_secs(5 * 60),
            connections_max: 0,
            http_connections_max: 0,
            tombstone_lifetime: Duration::from_secs(45),
        }
    }
}
