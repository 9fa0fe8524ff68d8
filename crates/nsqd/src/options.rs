//! The options of nsqd.

mod auth;
mod descriptors;
mod metrics;
mod percentiles;
mod shares;
mod statsd;
mod table;
mod tls;

use std::{path::PathBuf, time::Duration};

use nsq_daemon::{http_client, net::host_name};
use nsq_log::Durability;
use nsq_options::{InvalidOption, Parsed, Table};
use nsq_protocol::Limits;

pub(crate) use self::descriptors::Descriptors;
pub use self::{
    auth::AuthMethod,
    metrics::{MetricsOptions, PerTopic},
    percentiles::Percentiles,
    shares::{HttpConfig, ShareOptions},
    statsd::StatsdOptions,
    tls::{TlsMinVersion, TlsOptions, TlsRequired},
};

/// The options of nsqd, checked and complete.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--data-path`: the folder that holds everything; it must exist.
    pub data_path: PathBuf,
    /// `--tcp-address`.
    pub tcp_address: String,
    /// `--http-address`; empty for no HTTP.
    pub http_address: String,
    /// `--https-address`; empty for no HTTPS, which needs a certificate too.
    pub https_address: String,
    /// `--broadcast-address`.
    pub broadcast_address: String,
    /// `--broadcast-tcp-port`; 0 for the port that is listened on.
    pub broadcast_tcp_port: u16,
    /// `--broadcast-http-port`; 0 for the port that is listened on.
    pub broadcast_http_port: u16,
    /// `--lookupd-tcp-address`: the nsqlookupds to announce topics and channels to.
    pub lookupd_tcp_addresses: Vec<String>,
    /// `--topology-region`: the region that this nsqd is in.
    pub topology_region: String,
    /// `--topology-zone`: the zone that this nsqd is in.
    pub topology_zone: String,
    /// `--enable-experiment`: the names of the experiments that are switched on; unknown ones have no effect.
    pub experiments: Vec<String>,
    /// `--auth-http-address`: the servers that decide what a client may do; anything is allowed without.
    pub auth_http_addresses: Vec<String>,
    /// `--auth-http-request-method`.
    pub auth_http_request_method: AuthMethod,
    /// The options of TLS.
    pub tls: TlsOptions,
    /// `--http-client-connect-timeout`: for requests that nsqd makes; zero for no limit.
    pub http_client_connect_timeout: Duration,
    /// `--http-client-request-timeout`: for requests that nsqd makes; zero for no limit.
    pub http_client_request_timeout: Duration,
    /// `--node-id`, shown in the log.
    pub node_id: u16,
    /// `--durability`: the promise that `OK` makes.
    pub durability: Durability,
    /// `--mem-queue-size`: messages kept in memory per topic, and the depth of an ephemeral channel.
    pub mem_queue_size: u64,
    /// `--mem-bytes`: bytes kept in memory per topic.
    pub mem_bytes: usize,
    /// `--max-bytes-per-file`: size of a segment of a log.
    pub max_bytes_per_file: u64,
    /// `--sync-every`: messages of a topic after which its log is flushed to disk; 0 leaves it to the interval.
    pub sync_every: u64,
    /// `--sync-timeout`: the longest a message waits for its flush.
    pub sync_timeout: Duration,
    /// `--queue-scan-worker-pool-max`, which has no effect.
    pub queue_scan_worker_pool_max: i64,
    /// `--queue-scan-selection-count`, which has no effect.
    pub queue_scan_selection_count: i64,
    /// `--shutdown-timeout`: the longest a stop may take before what is not flushed is left as it is.
    pub shutdown_timeout: Duration,
    /// `--msg-timeout`: how long a message may be in flight.
    pub msg_timeout: Duration,
    /// `--max-msg-timeout`: the longest a client may ask for.
    pub max_msg_timeout: Duration,
    /// `--max-req-timeout`: the longest delay of REQ and DPUB.
    pub max_req_timeout: Duration,
    /// `--max-heartbeat-interval`.
    pub max_heartbeat_interval: Duration,
    /// `--max-output-buffer-size`.
    pub max_output_buffer_size: i64,
    /// `--max-output-buffer-timeout`.
    pub max_output_buffer_timeout: Duration,
    /// `--min-output-buffer-timeout`.
    pub min_output_buffer_timeout: Duration,
    /// `--output-buffer-timeout`.
    pub output_buffer_timeout: Duration,
    /// `--deflate`: clients may ask for deflate.
    pub deflate: bool,
    /// `--snappy`: clients may ask for snappy.
    pub snappy: bool,
    /// `--max-deflate-level`: the highest level that a client gets.
    pub max_deflate_level: i64,
    /// `--max-channel-consumers`; 0 for no limit.
    pub max_channel_consumers: usize,
    /// `--requeue-on-disconnect`: messages in flight come back at once when their client disconnects, and not after
    /// their timeout.
    pub requeue_on_disconnect: bool,
    /// The limits that the decoder of commands enforces.
    pub limits: Limits,
    /// The limits on the share of one client, topic or address.
    pub shares: ShareOptions,
    /// The options of statsd.
    pub statsd: StatsdOptions,
    /// `--e2e-processing-latency-percentile`: the percentiles of the time from publish to FIN; none are kept without.
    pub e2e_percentiles: Percentiles,
    /// `--e2e-processing-latency-window-time`: the time that the percentiles are about.
    pub e2e_window: Duration,
    /// The options of `/metrics`.
    pub metrics: MetricsOptions,
}

impl Options {
    /// The option table.
    pub fn table() -> Table<Self> {
        table::table()
    }

    /// The options from a parsed command line and configuration file.
    ///
    /// # Errors
    /// When a value is out of its bounds.
    pub fn from_parsed(parsed: &Parsed) -> Result<Self, InvalidOption> {
        Self::table().resolve(parsed)
    }

    /// The time limits of requests that nsqd makes.
    pub(crate) fn http_client_limits(&self) -> http_client::Limits {
        let limit = |timeout: Duration| if timeout.is_zero() { Duration::MAX } else { timeout };
        http_client::Limits {
            connect: limit(self.http_client_connect_timeout),
            request: limit(self.http_client_request_timeout),
        }
    }

    /// Returns whether messages go to the nearest clients that wait.
    pub(crate) fn is_topology_aware(&self) -> bool {
        self.experiments.iter().any(|name| name == TOPOLOGY_AWARE)
    }

    /// Returns whether answers to publishes wait until the disk has flushed them.
    pub(crate) fn waits_for_sync(&self) -> bool {
        self.durability == Durability::Fsync
    }
}

impl Default for Options {
    /// The options of an nsqd without a command line.
    fn default() -> Self {
        Self {
            data_path: ".".into(),
            tcp_address: "0.0.0.0:4150".to_owned(),
            http_address: "0.0.0.0:4151".to_owned(),
            https_address: "0.0.0.0:4152".to_owned(),
            broadcast_address: host_name(),
            broadcast_tcp_port: 0,
            broadcast_http_port: 0,
            lookupd_tcp_addresses: Vec::new(),
            topology_region: String::new(),
            topology_zone: String::new(),
            experiments: Vec::new(),
            auth_http_addresses: Vec::new(),
            auth_http_request_method: AuthMethod::Get,
            tls: TlsOptions::default(),
            http_client_connect_timeout: Duration::from_secs(2),
            http_client_request_timeout: Duration::from_secs(5),
            node_id: node_id_of(&host_name()),
            durability: Durability::Log,
            mem_queue_size: 10_000,
            mem_bytes: 8 << 20,
            max_bytes_per_file: 100 << 20,
            sync_every: 0,
            sync_timeout: Duration::from_secs(2),
            queue_scan_worker_pool_max: 4,
            queue_scan_selection_count: 20,
            shutdown_timeout: Duration::from_secs(20),
            msg_timeout: Duration::from_secs(60),
            max_msg_timeout: Duration::from_secs(15 * 60),
            max_req_timeout: Duration::from_secs(60 * 60),
            max_heartbeat_interval: Duration::from_secs(60),
            max_output_buffer_size: 64 << 10,
            max_output_buffer_timeout: Duration::from_secs(30),
            min_output_buffer_timeout: Duration::from_millis(25),
            output_buffer_timeout: Duration::from_millis(250),
            deflate: true,
            snappy: true,
            max_deflate_level: 6,
            max_channel_consumers: 0,
            requeue_on_disconnect: false,
            limits: Limits::default(),
            shares: ShareOptions::default(),
            statsd: StatsdOptions::default(),
            e2e_percentiles: Percentiles::default(),
            e2e_window: Duration::from_secs(10 * 60),
            metrics: MetricsOptions::default(),
        }
    }
}

/// The node id that NSQ derives from a host name. Nothing here depends on it: message ids are kept apart by the data
/// folder's own random id.
fn node_id_of(host: &str) -> u16 {
    let hash = crc32fast::hash(&*md5::compute(host));
    u16::try_from(hash % NODE_IDS).unwrap_or_default()
}

/// The experiment of [`Options::is_topology_aware`].
const TOPOLOGY_AWARE: &str = "topology-aware-consumption";

/// Node ids are below this number.
const NODE_IDS: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, InvalidOption> {
        Options::from_parsed(&Options::table().parse(args.iter().copied()).unwrap())
    }

    #[test]
    fn the_defaults_are_valid_and_agree_with_the_decoder() {
        let options = parse(&[]).unwrap();
        assert_eq!(format!("{options:?}"), format!("{:?}", Options::default()));
        assert_eq!(options.limits, Limits::default());
    }

    #[test]
    fn the_longest_delay_bounds_the_decoder_too() {
        assert_eq!(parse(&["-max-req-timeout=1m"]).unwrap().limits.req_timeout_ms_max, 60_000);
    }

    #[test]
    fn the_node_id_of_a_host_is_the_one_that_nsq_gives_it() {
        for (host, id) in [("vm", 617), ("localhost", 16), ("host1", 84)] {
            assert_eq!(node_id_of(host), id, "{host}");
        }
    }

    #[test]
    fn percentiles_may_stand_in_one_word_and_are_sorted() {
        let name = "--e2e-processing-latency-percentile";
        let options = parse(&[name, "0.5,0.99", name, "1"]).unwrap();
        assert_eq!(options.e2e_percentiles.as_slice(), [1.0, 0.99, 0.5]);
    }

    #[test]
    fn a_timeout_of_zero_is_no_limit() {
        let limits = parse(&["-http-client-connect-timeout=0"]).unwrap().http_client_limits();
        assert_eq!((limits.connect, limits.request), (Duration::MAX, Duration::from_secs(5)));
    }

    #[test]
    fn tls_is_required_as_the_flag_says() {
        for (flag, required) in [
            ("-tls-required", TlsRequired::Yes),
            ("-tls-required=true", TlsRequired::Yes),
            ("-tls-required=0", TlsRequired::No),
            ("-tls-required=tcp-https", TlsRequired::ExceptHttp),
            ("-tls-required=TCP-HTTPS", TlsRequired::ExceptHttp),
            ("-tls-required=FALSE", TlsRequired::No),
        ] {
            assert_eq!(parse(&[flag]).unwrap().tls.required, required, "{flag}");
        }
    }

    #[test]
    fn an_empty_tls_version_is_the_default() {
        let version = |flag| parse(&[flag]).unwrap().tls.min_version;
        assert_eq!(version("-tls-min-version="), TlsMinVersion::Tls10);
        assert_eq!(version("-tls-min-version=tls1.3").number(), 772);
        assert!(Options::table().parse(["-tls-min-version=ssl3.0"]).is_err());
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        for (args, text) in [
            (["-max-deflate-level", "10"], "--max-deflate-level must be [1,9]"),
            (["-node-id", "1024"], "--node-id must be [0,1024)"),
            (
                ["-auth-http-request-method", "put"],
                "--auth-http-request-method must be post or get, not \"put\"",
            ),
            (["-durability", "disk"], "--durability must be memory, log or fsync, not \"disk\""),
            (["-mem-queue-size", "-1"], "--mem-queue-size must not be negative: -1"),
            (["-sync-timeout", "0"], "--sync-timeout must be positive"),
            (["-max-msg-size", "0"], "--max-msg-size must be from 1 to 2147483647: 0"),
            (
                ["-broadcast-tcp-port", "65536"],
                "--broadcast-tcp-port must be from 0 to 65535: 65536",
            ),
        ] {
            assert_eq!(parse(&args).unwrap_err().to_string(), text);
        }
    }
}
