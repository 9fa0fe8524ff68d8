//! The options of nsqlookupd.

use std::{ops::RangeInclusive, time::Duration};

use nsq_broker::registry::Settings;
use nsq_daemon::net::host_name;
use nsq_options::{Table, option};

/// The bounds of `--max-answer-size`.
const ANSWER_BYTES: RangeInclusive<i64> = 64 << 10..=1 << 30;

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
    /// `--max-registrations`: topics and channels of all producers; 0 for no limit.
    pub registrations_max: usize,
    /// `--max-registrations-per-producer`: topics and channels of one producer; 0 for no limit.
    pub registrations_per_producer_max: usize,
    /// `--max-orphans`: topics and channels without producers that stay known; 0 for no limit.
    pub orphans_max: usize,
    /// `--identify-timeout`: the longest that a client may take to identify itself; 0 for no limit.
    pub identify_timeout: Duration,
    /// `--max-answer-size`: bytes of an answer over HTTP.
    pub answer_bytes_max: usize,
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
                option!(
                    Options.registrations_max,
                    "topics and channels that all producers may register; 0 for no limit",
                )
                .named("max-registrations"),
                option!(
                    Options.registrations_per_producer_max,
                    "topics and channels that one producer may register; 0 for no limit",
                )
                .named("max-registrations-per-producer"),
                option!(
                    Options.orphans_max,
                    "topics and channels without producers that stay listed; 0 for no limit",
                )
                .named("max-orphans"),
                option!(
                    Options.identify_timeout,
                    "time within which a client has to identify itself; 0 for no limit",
                ),
                option!(Options.answer_bytes_max, "bytes of an answer to an HTTP client")
                    .named("max-answer-size")
                    .in_bytes()
                    .within(ANSWER_BYTES),
            ],
        )
    }

    /// The settings of the registry.
    pub(crate) fn registry(&self) -> Settings {
        let limit = |max| if max == 0 { usize::MAX } else { max };
        Settings {
            inactive_timeout: self.inactive_producer_timeout,
            tombstone_lifetime: self.tombstone_lifetime,
            registrations_max: limit(self.registrations_max),
            registrations_per_producer_max: limit(self.registrations_per_producer_max),
            orphans_max: limit(self.orphans_max),
            ..Settings::default()
        }
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
            registrations_max: 2_000_000,
            registrations_per_producer_max: 500_000,
            orphans_max: 200_000,
            identify_timeout: Duration::from_secs(60),
            answer_bytes_max: 64 << 20,
        }
    }
}
