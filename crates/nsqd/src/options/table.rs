//! The option table of nsqd.

use std::time::Duration;

use nsq_log::Durability;
use nsq_options::{OptionDef, Table, option};

use super::{AuthMethod, HttpConfig, NODE_IDS, Options, PerTopic, Percentiles};

/// The durability levels by name.
const DURABILITIES: [(&str, Durability); 3] =
    [("memory", Durability::Memory), ("log", Durability::Log), ("fsync", Durability::Fsync)];

/// The size of a body is a signed number of 32 bits on the wire.
const BODY_BYTES_MAX: i64 = i32::MAX as i64;

pub(super) fn table() -> Table<Options> {
    let mut defs = addresses();
    defs.extend(topology());
    defs.extend(security());
    defs.extend(storage());
    defs.extend(messages());
    defs.extend(clients());
    defs.extend(shares());
    defs.extend(figures());
    Table::new("nsqd", defs)
}

fn addresses() -> Vec<OptionDef<Options>> {
    vec![
        option!(Options.node_id, "unique number of this nsqd, from 0 to 1023")
            .file_key("id")
            .within_shown(0..=i64::from(NODE_IDS) - 1, "[0,1024)")
            .default_shown_as("from the host name"),
        OptionDef::without_effect("worker-id", false, "[deprecated] has no effect, use --node-id")
            .not_in_file(),
        option!(Options.tcp_address, "address to listen on for TCP clients"),
        option!(Options.http_address, "address to listen on for HTTP clients; empty for none"),
        option!(
            Options.https_address,
            "address to listen on for HTTPS clients, if there is a certificate; empty for none",
        ),
        option!(Options.broadcast_address, "address that this nsqd is known by to others")
            .default_shown_as("the host name"),
        option!(
            Options.broadcast_tcp_port,
            "TCP port that this nsqd is known by (default: the port it listens on)",
        ),
        option!(
            Options.broadcast_http_port,
            "HTTP port that this nsqd is known by (default: the port it listens on)",
        ),
        option!(
            Options.lookupd_tcp_addresses,
            "nsqlookupd to announce topics and channels to (may be given multiple times)",
        )
        .named("lookupd-tcp-address")
        .file_key("nsqlookupd_tcp_addresses"),
        option!(
            Options.http_client_connect_timeout,
            "time to connect to an HTTP server; 0 for no limit",
        ),
        option!(Options.http_client_request_timeout, "time for an HTTP request; 0 for no limit"),
    ]
}

fn topology() -> Vec<OptionDef<Options>> {
    vec![
        option!(Options.topology_region, "region that this nsqd is in"),
        option!(Options.topology_zone, "zone that this nsqd is in"),
        option!(
            Options.experiments,
            "experiment to switch on: topology-aware-consumption (may be given multiple times)",
        )
        .named("enable-experiment"),
    ]
}

fn security() -> Vec<OptionDef<Options>> {
    vec![
        option!(
            Options.auth_http_addresses,
            "host:port or URL of a server that decides what a client may do (may be given multiple times)",
        )
        .named("auth-http-address")
        .file_key("auth_http_addresses"),
        OptionDef::choice(
            "auth-http-request-method",
            |options: &Options| options.auth_http_request_method,
            |options, method| options.auth_http_request_method = method,
            &AuthMethod::WORDS,
            "method of requests to that server: get or post",
        ),
        option!(Options.tls.cert, "file with the certificate chain, in PEM").named("tls-cert"),
        option!(Options.tls.key, "file with the private key, in PEM").named("tls-key"),
        option!(
            Options.tls.client_auth_policy,
            "certificates of clients: require, require-verify, or empty for none",
        )
        .named("tls-client-auth-policy"),
        option!(
            Options.tls.root_ca_file,
            "file with the authorities that sign certificates of clients, in PEM (default: those of the system)",
        )
        .named("tls-root-ca-file"),
        option!(
            Options.tls.required,
            "require TLS of clients: true, false, or tcp-https to leave plain HTTP open",
        )
        .named("tls-required"),
        option!(
            Options.tls.min_version,
            "oldest version of TLS: tls1.0, tls1.1, tls1.2 or tls1.3; those before tls1.2 mean tls1.2",
        )
        .named("tls-min-version"),
    ]
}

fn storage() -> Vec<OptionDef<Options>> {
    let no_scan = "[without effect] deadlines are exact, no queue is scanned";
    vec![
        option!(
            Options.data_path,
            "folder to keep messages in; it must exist (default: current folder)",
        )
        .default_shown_as(""),
        OptionDef::choice(
            "durability",
            |options: &Options| options.durability,
            |options, level| options.durability = level,
            &DURABILITIES,
            "what OK promises for a message: memory (it is in memory), log (it is written, and survives a kill of nsqd) or fsync (it is on the disk, and survives a loss of power)",
        ),
        option!(
            Options.mem_queue_size,
            "messages kept in memory per topic, and the depth of an ephemeral channel",
        ),
        option!(Options.mem_bytes, "bytes kept in memory per topic").in_bytes(),
        option!(Options.max_bytes_per_file, "bytes per file of a topic's log").in_bytes(),
        option!(
            Options.sync_every,
            "messages of a topic per flush to disk; 0 flushes by --sync-timeout only",
        ),
        option!(Options.sync_timeout, "time per flush to disk").positive(),
        option!(Options.queue_scan_worker_pool_max, no_scan),
        option!(Options.queue_scan_selection_count, no_scan),
        option!(
            Options.shutdown_timeout,
            "time to stop in; a disk that needs longer is left to recover at the next start",
        )
        .positive(),
    ]
}

fn messages() -> Vec<OptionDef<Options>> {
    vec![
        option!(
            Options.msg_timeout,
            "time a message may be in flight before it is delivered again",
        )
        .positive(),
        option!(Options.max_msg_timeout, "the longest such time a client may ask for").positive(),
        option!(Options.limits.message_bytes_max, "bytes of one message")
            .named("max-msg-size")
            .in_bytes()
            .within(1..=BODY_BYTES_MAX),
        OptionDef::new(
            "max-req-timeout",
            |options: &Options| options.max_req_timeout,
            |options, delay: Duration| {
                options.max_req_timeout = delay;
                options.limits.req_timeout_ms_max =
                    u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            },
            "the longest delay of a message",
        ),
        option!(Options.limits.body_bytes_max, "bytes of one command")
            .named("max-body-size")
            .in_bytes()
            .within(1..=BODY_BYTES_MAX),
        option!(
            Options.requeue_on_disconnect,
            "give messages in flight back at once when their client goes away",
        ),
    ]
}

fn clients() -> Vec<OptionDef<Options>> {
    vec![
        option!(
            Options.max_heartbeat_interval,
            "the longest interval of heartbeats a client may ask for",
        )
        .positive(),
        option!(Options.limits.rdy_count_max, "messages a client may have in flight")
            .named("max-rdy-count"),
        option!(Options.max_output_buffer_size, "bytes of output buffer a client may ask for"),
        option!(
            Options.max_output_buffer_timeout,
            "the longest flush interval a client may ask for",
        ),
        option!(
            Options.min_output_buffer_timeout,
            "the shortest flush interval a client may ask for",
        ),
        option!(Options.output_buffer_timeout, "upper bound of the time output waits in a buffer",),
        option!(Options.deflate, "let clients ask for deflate"),
        option!(Options.snappy, "let clients ask for snappy"),
        option!(Options.max_deflate_level, "compression level a client may ask for")
            .within_shown(1..=9, "[1,9]"),
        option!(Options.max_channel_consumers, "consumers per channel; 0 for no limit"),
    ]
}

fn shares() -> Vec<OptionDef<Options>> {
    vec![
        option!(
            Options.shares.connections_max,
            "TCP clients at a time (default: as many as the limit on open files allows)",
        )
        .named("max-connections"),
        option!(
            Options.shares.http_connections_max,
            "HTTP and HTTPS clients at a time (default: as many as the limit on open files allows)",
        )
        .named("max-http-connections"),
        option!(
            Options.shares.descriptor_reserve,
            "open files that clients leave to topics and to nsqd itself (default: by the limit on open files)",
        )
        .named("descriptor-reserve"),
        option!(
            Options.shares.network_bytes_max,
            "bytes of unfinished input and unsent output of all connections together; 0 for no limit",
        )
        .named("max-network-memory")
        .in_bytes(),
        option!(
            Options.shares.stall_timeout,
            "time that a client may leave a command unfinished or output unread; 0 for no limit",
        )
        .named("stall-timeout"),
        option!(Options.limits.identify_bytes_max, "bytes of the body of IDENTIFY or AUTH")
            .named("max-identify-size")
            .in_bytes()
            .within(1..=BODY_BYTES_MAX),
        option!(Options.shares.topics_max, "topics; 0 for no limit").named("max-topics"),
        option!(Options.shares.channels_per_topic_max, "channels of a topic; 0 for no limit")
            .named("max-channels-per-topic"),
        option!(
            Options.shares.ephemeral_bytes_max,
            "bytes of the messages of all ephemeral topics together; 0 for no limit",
        )
        .named("max-ephemeral-memory")
        .in_bytes(),
        OptionDef::choice(
            "http-config",
            |options: &Options| options.shares.http_config,
            |options, from| options.shares.http_config = from,
            &HttpConfig::WORDS,
            "clients whose changes /config takes: on (all), loopback (of this machine) or off (none)",
        ),
    ]
}

fn figures() -> Vec<OptionDef<Options>> {
    vec![
        option!(Options.statsd.address, "UDP address of a statsd daemon; empty for none")
            .named("statsd-address"),
        option!(Options.statsd.interval, "time between two pushes to statsd; 0 for no pushes")
            .named("statsd-interval"),
        option!(Options.statsd.mem_stats, "push figures of the memory too")
            .named("statsd-mem-stats"),
        option!(
            Options.statsd.prefix,
            "beginning of every name; %s stands for the broadcast address and HTTP port",
        )
        .named("statsd-prefix"),
        option!(Options.statsd.udp_packet_size, "bytes of a packet").named("statsd-udp-packet-size"),
        option!(Options.statsd.exclude_ephemeral, "leave out ephemeral topics and channels")
            .named("statsd-exclude-ephemeral"),
        option!(
            Options.e2e_percentiles,
            "percentile of the time from publish to FIN, above 0 and up to 1 (may be given multiple times or with commas)",
        )
        .named("e2e-processing-latency-percentile")
        .file_key("e2e_processing_latency_percentiles")
        .checked(<Percentiles as nsq_options::Setting>::check),
        option!(Options.e2e_window, "time that the percentiles are about")
            .named("e2e-processing-latency-window-time")
            .positive(),
        OptionDef::choice(
            "metrics-per-topic",
            |options: &Options| options.metrics.per_topic,
            |options, per_topic| options.metrics.per_topic = per_topic,
            &PerTopic::WORDS,
            "topics and channels with series of their own in /metrics: none, durable or all",
        ),
        option!(
            Options.metrics.series_max,
            "series of topics and channels in /metrics; the oldest ones have theirs first",
        )
        .named("metrics-series-max"),
    ]
}
