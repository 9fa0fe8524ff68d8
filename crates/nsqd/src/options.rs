//! What nsqd can be told on its command line.

use std::{path::PathBuf, time::Duration};

use nsq_daemon::{
    log::Level,
    options::{OptionDef, Parsed},
};
use nsq_log::Durability;
use nsq_protocol::Limits;

/// The options of nsqd, checked and complete.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--data-path`: the folder that holds everything; it must exist.
    pub data_path: PathBuf,
    /// `--tcp-address`.
    pub tcp_address: String,
    /// `--http-address`; empty for no HTTP.
    pub http_address: String,
    /// `--broadcast-address`.
    pub broadcast_address: String,
    /// `--broadcast-tcp-port`; 0 for the port that is listened on.
    pub broadcast_tcp_port: u16,
    /// `--broadcast-http-port`; 0 for the port that is listened on.
    pub broadcast_http_port: u16,
    /// `--lookupd-tcp-address`: the nsqlookupds to announce topics and channels to.
    pub lookupd_tcp_addresses: Vec<String>,
    /// `--http-client-connect-timeout`: for requests that nsqd makes.
    pub http_client_connect_timeout: Duration,
    /// `--http-client-request-timeout`: for requests that nsqd makes.
    pub http_client_request_timeout: Duration,
    /// `--node-id`, shown in the log.
    pub node_id: u16,
    /// `--durability`: what `OK` promises.
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
    /// `--max-deflate-level`, reported to clients.
    pub max_deflate_level: i64,
    /// `--max-channel-consumers`; 0 for no limit.
    pub max_channel_consumers: usize,
    /// `--requeue-on-disconnect`: messages in flight come back at once when their client goes away, and not after
    /// their timeout.
    pub requeue_on_disconnect: bool,
    /// What the decoder of commands holds clients to.
    pub limits: Limits,
}

/// The durability levels by name.
const DURABILITIES: [(&str, Durability); 3] =
    [("memory", Durability::Memory), ("log", Durability::Log), ("fsync", Durability::Fsync)];

/// A value of an option that nsqd cannot work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidOption(String);

impl Options {
    /// Every option nsqd knows.
    pub fn definitions() -> Vec<OptionDef> {
        let mut all = Self::place_definitions();
        all.extend(Self::queue_definitions());
        all.extend(Self::client_definitions());
        all
    }

    fn place_definitions() -> Vec<OptionDef> {
        vec![
            OptionDef::config_file(),
            OptionDef::bool("version", false, "print version string").not_in_config(),
            OptionDef::custom("log-level", "info", "debug, info, warn, error or fatal")
                .checked(|text| text.parse::<Level>().map(drop).map_err(|error| error.to_string())),
            OptionDef::string("log-prefix", "[nsqd] ", "what every line of the log begins with"),
            OptionDef::bool("verbose", false, "[deprecated] has no effect, use --log-level")
                .not_in_config(),
            OptionDef::int(
                "node-id",
                default_node_id(),
                "unique number of this nsqd, from 0 to 1023",
            )
            .config_key("id")
            .default_shown_as("from the host name"),
            OptionDef::bool("worker-id", false, "[deprecated] has no effect, use --node-id")
                .not_in_config(),
            OptionDef::address(
                "tcp-address",
                "0.0.0.0:4150",
                "address to listen on for TCP clients",
            ),
            OptionDef::address(
                "http-address",
                "0.0.0.0:4151",
                "address to listen on for HTTP clients; empty for none",
            ),
            OptionDef::string(
                "broadcast-address",
                host_name(),
                "address that this nsqd is known by to others",
            )
            .default_shown_as("the host name"),
            OptionDef::int(
                "broadcast-tcp-port",
                0,
                "TCP port that this nsqd is known by (default: the port it listens on)",
            ),
            OptionDef::int(
                "broadcast-http-port",
                0,
                "HTTP port that this nsqd is known by (default: the port it listens on)",
            ),
            OptionDef::list(
                "lookupd-tcp-address",
                "nsqlookupd to announce topics and channels to (may be given multiple times)",
            )
            .config_key("nsqlookupd_tcp_addresses"),
            OptionDef::duration(
                "http-client-connect-timeout",
                "2s",
                "time to connect to an HTTP server",
            ),
            OptionDef::duration("http-client-request-timeout", "5s", "time for an HTTP request"),
            OptionDef::string(
                "data-path",
                "",
                "folder to keep messages in; it must exist (default: current folder)",
            ),
        ]
    }

    fn queue_definitions() -> Vec<OptionDef> {
        vec![
            OptionDef::string(
                "durability",
                "log",
                "what OK promises for a message: memory (it is in memory), log (it is written, and survives a kill of nsqd) or fsync (it is on the disk, and survives a loss of power)",
            ),
            OptionDef::int(
                "mem-queue-size",
                10000,
                "messages kept in memory per topic, and the depth of an ephemeral channel",
            ),
            OptionDef::bytes("mem-bytes", 8 << 20, "bytes kept in memory per topic"),
            OptionDef::bytes("max-bytes-per-file", 100 << 20, "bytes per file of a topic's log"),
            OptionDef::int(
                "sync-every",
                0,
                "messages of a topic per flush to disk; 0 flushes by --sync-timeout only",
            ),
            OptionDef::duration("sync-timeout", "2s", "time per flush to disk"),
            OptionDef::bool(
                "requeue-on-disconnect",
                false,
                "give messages in flight back at once when their client goes away",
            ),
            OptionDef::int(
                "queue-scan-worker-pool-max",
                4,
                "[without effect] deadlines are exact, no queue is scanned",
            ),
            OptionDef::int(
                "queue-scan-selection-count",
                20,
                "[without effect] deadlines are exact, no queue is scanned",
            ),
        ]
    }

    fn client_definitions() -> Vec<OptionDef> {
        vec![
            OptionDef::duration(
                "msg-timeout",
                "1m",
                "time a message may be in flight before it is delivered again",
            ),
            OptionDef::duration(
                "max-msg-timeout",
                "15m",
                "the longest such time a client may ask for",
            ),
            OptionDef::bytes("max-msg-size", 1 << 20, "bytes of one message"),
            OptionDef::duration("max-req-timeout", "1h", "the longest delay of a message"),
            OptionDef::bytes("max-body-size", 5 << 20, "bytes of one command"),
            OptionDef::duration(
                "max-heartbeat-interval",
                "1m",
                "the longest interval of heartbeats a client may ask for",
            ),
            OptionDef::int("max-rdy-count", 2500, "messages a client may have in flight"),
            OptionDef::int(
                "max-output-buffer-size",
                64 << 10,
                "bytes of output buffer a client may ask for",
            ),
            OptionDef::duration(
                "max-output-buffer-timeout",
                "30s",
                "the longest flush interval a client may ask for",
            ),
            OptionDef::duration(
                "min-output-buffer-timeout",
                "25ms",
                "the shortest flush interval a client may ask for",
            ),
            OptionDef::duration(
                "output-buffer-timeout",
                "250ms",
                "upper bound of the time output waits in a buffer",
            ),
            OptionDef::int("max-deflate-level", 6, "compression level a client may ask for"),
            OptionDef::int("max-channel-consumers", 0, "consumers per channel; 0 for no limit"),
        ]
    }

    /// The options from a parsed command line.
    ///
    /// # Errors
    /// When a value is out of its range; the text names it.
    pub fn from_parsed(parsed: &Parsed) -> Result<Self, InvalidOption> {
        let level = parsed.int("max-deflate-level");
        if !(1..=9).contains(&level) {
            return Err(InvalidOption("--max-deflate-level must be [1,9]".to_owned()));
        }
        let node_id = u16::try_from(parsed.int("node-id")).ok().filter(|id| *id < 1024);
        let data_path = match parsed.string("data-path") {
            "" => ".",
            path => path,
        };
        Ok(Self {
            data_path: data_path.into(),
            tcp_address: parsed.string("tcp-address").to_owned(),
            http_address: parsed.string("http-address").to_owned(),
            broadcast_address: parsed.string("broadcast-address").to_owned(),
            broadcast_tcp_port: port(parsed, "broadcast-tcp-port")?,
            broadcast_http_port: port(parsed, "broadcast-http-port")?,
            lookupd_tcp_addresses: parsed.list("lookupd-tcp-address").to_vec(),
            http_client_connect_timeout: positive(parsed, "http-client-connect-timeout")?,
            http_client_request_timeout: positive(parsed, "http-client-request-timeout")?,
            node_id: node_id
                .ok_or_else(|| InvalidOption("--node-id must be [0,1024)".to_owned()))?,
            durability: durability(parsed.string("durability"))?,
            mem_queue_size: count(parsed, "mem-queue-size")?,
            mem_bytes: usize::try_from(parsed.bytes("mem-bytes")).unwrap_or(usize::MAX),
            max_bytes_per_file: parsed.bytes("max-bytes-per-file"),
            sync_every: count(parsed, "sync-every")?,
            sync_timeout: positive(parsed, "sync-timeout")?,
            msg_timeout: positive(parsed, "msg-timeout")?,
            max_msg_timeout: positive(parsed, "max-msg-timeout")?,
            max_req_timeout: parsed.duration("max-req-timeout"),
            max_heartbeat_interval: positive(parsed, "max-heartbeat-interval")?,
            max_output_buffer_size: parsed.int("max-output-buffer-size"),
            max_output_buffer_timeout: parsed.duration("max-output-buffer-timeout"),
            min_output_buffer_timeout: parsed.duration("min-output-buffer-timeout"),
            output_buffer_timeout: parsed.duration("output-buffer-timeout"),
            max_deflate_level: level,
            max_channel_consumers: usize::try_from(count(parsed, "max-channel-consumers")?)
                .unwrap_or(usize::MAX),
            requeue_on_disconnect: parsed.bool("requeue-on-disconnect"),
            limits: Limits {
                body_bytes_max: body_bytes(parsed, "max-body-size")?,
                message_bytes_max: body_bytes(parsed, "max-msg-size")?,
                rdy_count_max: count(parsed, "max-rdy-count")?,
                req_timeout_ms_max: u64::try_from(parsed.duration("max-req-timeout").as_millis())
                    .unwrap_or(u64::MAX),
            },
        })
    }

    /// Whether answers to publishes wait until the disk has flushed them.
    pub(crate) fn waits_for_sync(&self) -> bool {
        self.durability == Durability::Fsync
    }
}

impl Default for Options {
    /// What nsqd does without any option.
    ///
    /// # Panics
    /// Never: the defaults are valid, which a test holds.
    fn default() -> Self {
        let options = nsq_daemon::options::Options::new("nsqd", Self::definitions());
        let parsed = options.parse(Vec::<String>::new()).expect("no argument is no mistake");
        Self::from_parsed(&parsed).expect("the defaults are within their ranges")
    }
}

fn durability(name: &str) -> Result<Durability, InvalidOption> {
    let found = DURABILITIES.iter().find(|(known, _)| *known == name);
    found.map(|(_, durability)| *durability).ok_or_else(|| {
        InvalidOption(format!("--durability must be memory, log or fsync, not {name:?}"))
    })
}

fn count(parsed: &Parsed, name: &str) -> Result<u64, InvalidOption> {
    let value = parsed.int(name);
    u64::try_from(value)
        .map_err(|_| InvalidOption(format!("--{name} must not be negative: {value}")))
}

fn port(parsed: &Parsed, name: &str) -> Result<u16, InvalidOption> {
    let value = parsed.int(name);
    u16::try_from(value)
        .map_err(|_| InvalidOption(format!("--{name} must be from 0 to 65535: {value}")))
}

fn positive(parsed: &Parsed, name: &str) -> Result<Duration, InvalidOption> {
    let value = parsed.duration(name);
    if value.is_zero() {
        return Err(InvalidOption(format!("--{name} must be positive")));
    }
    Ok(value)
}

/// The size of a body stands in a signed number of 32 bits on the wire.
fn body_bytes(parsed: &Parsed, name: &str) -> Result<u32, InvalidOption> {
    let value = parsed.bytes(name);
    match i32::try_from(value) {
        Ok(bytes) if bytes > 0 => Ok(bytes.unsigned_abs()),
        _ => Err(InvalidOption(format!("--{name} must be from 1 to {}: {value}", i32::MAX))),
    }
}

/// The name the operating system gives this host.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A number for this host. The original derives it from its name too, by another function; nothing depends on
/// the value, since message ids are kept apart by the data folder's own random id.
fn default_node_id() -> i64 {
    let fold = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    i64::from(host_name().bytes().fold(0x811c_9dc5, fold) % 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, InvalidOption> {
        let options = nsq_daemon::options::Options::new("nsqd", Options::definitions());
        Options::from_parsed(&options.parse(args.iter().copied()).unwrap())
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Options::default().limits, Limits::default());
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        for (args, text) in [
            (["-max-deflate-level", "10"], "--max-deflate-level must be [1,9]"),
            (["-node-id", "1024"], "--node-id must be [0,1024)"),
            (["-durability", "disk"], "--durability must be memory, log or fsync, not \"disk\""),
            (["-mem-queue-size", "-1"], "--mem-queue-size must not be negative: -1"),
            (["-sync-timeout", "0"], "--sync-timeout must be positive"),
            (["-max-msg-size", "0"], "--max-msg-size must be from 1 to 2147483647: 0"),
        ] {
            assert_eq!(parse(&args).unwrap_err().to_string(), text);
        }
    }
}
