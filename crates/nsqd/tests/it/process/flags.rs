//! The flags and keys of NSQ, all of them, as scripts and configuration files give them.

use std::{fs, path::Path, process::Command as Process};

use super::{Ended, run_on};
use crate::support::{NsqdProcess, http};

/// A flag of NSQ with a value that is not its default, how a file says the same, and what `/config` shows.
struct Flag {
    name: &'static str,
    value: &'static str,
    /// The key in the file, which is also the one of `/config`.
    key: &'static str,
    toml: &'static str,
    shown: &'static str,
}

const fn flag([name, value]: [&'static str; 2], [key, toml, shown]: [&'static str; 3]) -> Flag {
    Flag { name, value, key, toml, shown }
}

const FLAGS: &[Flag] = &[
    flag(["broadcast-address", "here"], ["broadcast_address", "'here'", "here"]),
    flag(["broadcast-http-port", "4251"], ["broadcast_http_port", "4251", "4251"]),
    flag(["broadcast-tcp-port", "0x109a"], ["broadcast_tcp_port", "'4250'", "4250"]),
    flag(
        ["auth-http-address", "http://127.0.0.1:1/auth"],
        ["auth_http_addresses", "['http://127.0.0.1:1/auth']", r#"["http://127.0.0.1:1/auth"]"#],
    ),
    flag(["auth-http-request-method", "post"], ["auth_http_request_method", "'post'", "post"]),
    flag(["deflate", "false"], ["deflate", "false", "false"]),
    flag(
        ["e2e-processing-latency-percentile", "0.5,0.99"],
        ["e2e_processing_latency_percentiles", "[0.99, 0.5]", "[0.99,0.5]"],
    ),
    flag(
        ["e2e-processing-latency-window-time", "1h30m"],
        ["e2e_processing_latency_window_time", "'90m'", "5400000000000"],
    ),
    flag(
        ["enable-experiment", "topology-aware-consumption"],
        [
            "enable_experiment",
            "['topology-aware-consumption']",
            r#"["topology-aware-consumption"]"#,
        ],
    ),
    flag(
        ["http-client-connect-timeout", "3s"],
        ["http_client_connect_timeout", "3000", "3000000000"],
    ),
    flag(
        ["http-client-request-timeout", "1.5s"],
        ["http_client_request_timeout", "'1.5s'", "1500000000"],
    ),
    flag(["https-address", "127.0.0.1:0"], ["https_address", "'127.0.0.1:0'", "127.0.0.1:0"]),
    flag(["log-level", "DEBUG"], ["log_level", "'Debug'", "1"]),
    flag(["log-prefix", "[x] "], ["log_prefix", "'[x] '", "[x] "]),
    flag(
        ["lookupd-tcp-address", "127.0.0.1:1"],
        ["nsqlookupd_tcp_addresses", "'127.0.0.1:1'", r#"["127.0.0.1:1"]"#],
    ),
    flag(["max-body-size", "1_000_000"], ["max_body_size", "1000000", "1000000"]),
    flag(["max-bytes-per-file", "65536"], ["max_bytes_per_file", "65536", "65536"]),
    flag(["max-channel-consumers", "5"], ["max_channel_consumers", "5", "5"]),
    flag(["max-deflate-level", "9"], ["max_deflate_level", "9", "9"]),
    flag(["max-heartbeat-interval", "2m"], ["max_heartbeat_interval", "'2m'", "120000000000"]),
    flag(["max-msg-size", "1000"], ["max_msg_size", "1000", "1000"]),
    flag(["max-msg-timeout", "20m"], ["max_msg_timeout", "'20m'", "1200000000000"]),
    flag(["max-output-buffer-size", "70000"], ["max_output_buffer_size", "70000", "70000"]),
    flag(
        ["max-output-buffer-timeout", "31s"],
        ["max_output_buffer_timeout", "31000", "31000000000"],
    ),
    flag(["max-rdy-count", "100"], ["max_rdy_count", "100", "100"]),
    flag(["max-req-timeout", "2h"], ["max_req_timeout", "'2h'", "7200000000000"]),
    flag(["mem-queue-size", "0"], ["mem_queue_size", "0", "0"]),
    flag(["min-output-buffer-timeout", "20ms"], ["min_output_buffer_timeout", "20", "20000000"]),
    flag(["msg-timeout", "1s"], ["msg_timeout", "1000", "1000000000"]),
    flag(["node-id", "1023"], ["id", "1023", "1023"]),
    flag(["output-buffer-timeout", "100ms"], ["output_buffer_timeout", "100", "100000000"]),
    flag(["queue-scan-selection-count", "30"], ["queue_scan_selection_count", "30", "30"]),
    flag(["queue-scan-worker-pool-max", "2"], ["queue_scan_worker_pool_max", "2", "2"]),
    flag(["snappy", "F"], ["snappy", "'F'", "false"]),
    flag(["statsd-address", "127.0.0.1:9"], ["statsd_address", "'127.0.0.1:9'", "127.0.0.1:9"]),
    flag(["statsd-exclude-ephemeral", "true"], ["statsd_exclude_ephemeral", "true", "true"]),
    flag(["statsd-interval", "30s"], ["statsd_interval", "30000", "30000000000"]),
    flag(["statsd-mem-stats", "0"], ["statsd_mem_stats", "'0'", "false"]),
    flag(["statsd-prefix", "mine."], ["statsd_prefix", "'mine.'", "mine."]),
    flag(["statsd-udp-packet-size", "1400"], ["statsd_udp_packet_size", "1400", "1400"]),
    flag(["sync-every", "10"], ["sync_every", "10", "10"]),
    flag(["sync-timeout", "500ms"], ["sync_timeout", "500", "500000000"]),
    flag(["tls-min-version", "TLS1.2"], ["tls_min_version", "'tls1.2'", "771"]),
    flag(["tls-required", "False"], ["tls_required", "0", "0"]),
    flag(["topology-region", "north"], ["topology_region", "'north'", "north"]),
    flag(["topology-zone", "north-1"], ["topology_zone", "'north-1'", "north-1"]),
];

/// Switches take a value only after an equals sign.
const SWITCHES: [&str; 5] =
    ["deflate", "snappy", "statsd-exclude-ephemeral", "statsd-mem-stats", "tls-required"];

fn expect_shown(nsqd: &NsqdProcess, key: &str, shown: &str) {
    let (status, body) = http(nsqd.http, "GET", &format!("/config/{key}"), b"");
    assert_eq!((status, String::from_utf8(body).unwrap().as_str()), (200, shown), "{key}");
}

fn write_config(folder: &Path, text: &str) -> String {
    let path = folder.join("nsqd.cfg");
    fs::write(&path, text).unwrap();
    format!("--config={}", path.display())
}

fn run_with(text: &str) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    run_on(folder.path(), &[&write_config(folder.path(), text)])
}

#[test]
fn every_flag_of_nsq_is_taken_with_one_dash_or_two() {
    for dashes in ["-", "--"] {
        let mut args = Vec::new();
        for flag in FLAGS {
            let name = format!("{dashes}{}", flag.name);
            if dashes == "-" || SWITCHES.contains(&flag.name) {
                args.push(format!("{name}={}", flag.value));
            } else {
                args.extend([name, flag.value.to_owned()]);
            }
        }
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let folder = tempfile::tempdir().unwrap();
        let nsqd = NsqdProcess::start(folder.path(), &args);
        for flag in FLAGS {
            expect_shown(&nsqd, flag.key, flag.shown);
        }
        assert_eq!(nsqd.stop().0, Some(0));
    }
}

#[test]
fn a_file_may_give_every_key_and_the_command_line_is_stronger() {
    let lines: Vec<_> = FLAGS.iter().map(|flag| format!("{} = {}", flag.key, flag.toml)).collect();
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), &lines.join("\n"));
    // Also where the flag gives the default.
    let args = [config.as_str(), "-max-rdy-count=7", "-msg-timeout=1m", "-topology-zone="];
    let nsqd = NsqdProcess::start(folder.path(), &args);
    let flags = [("max_rdy_count", "7"), ("msg_timeout", "60000000000"), ("topology_zone", "")];
    for flag in FLAGS {
        let stronger = flags.iter().find(|(key, _)| *key == flag.key);
        expect_shown(&nsqd, flag.key, stronger.map_or(flag.shown, |(_, shown)| shown));
    }
    let (code, log) = nsqd.stop();
    assert_eq!(code, Some(0));
    assert!(!log.contains("config file:"), "{log}");
}

#[test]
fn flags_that_ask_for_nothing_new_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let args = [
        "-snappy=false",
        "-deflate=false",
        "-tls-required=false",
        "-tls-cert=",
        "-tls-key=",
        "-tls-client-auth-policy=",
        "-tls-root-ca-file=",
        "-tls-min-version=",
        "-https-address=",
        "-statsd-address=",
        "-statsd-interval=0s",
        "-http-client-connect-timeout=0",
        "-http-client-request-timeout=0",
        "-e2e-processing-latency-percentile=",
        "-enable-experiment=none-that-is-known",
        "-output-buffer-timeout=0",
        "-max-req-timeout=0",
        "-config=",
        "-verbose",
        "-worker-id",
        "a-word",
        "-no-such-flag",
    ];
    let nsqd = NsqdProcess::start(folder.path(), &args);
    let mut client = nsqd.client();
    client.publish("t", b"x");
    client.subscribe("t", "c", 5);
    assert_eq!(client.finish_next(1), [b"x"]);
    let (code, log) = nsqd.stop();
    assert_eq!(code, Some(0));
    assert!(!log.contains("WARNING") && !log.contains("ERROR"), "{log}");
}

#[test]
fn without_a_data_path_messages_are_kept_in_the_current_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Process::new(env!("CARGO_BIN_EXE_nsqd"));
    command.args(["-tcp-address=127.0.0.1:0", "-http-address=127.0.0.1:0", "-log-prefix=x "]);
    let nsqd = NsqdProcess::spawn(command.current_dir(folder.path()));
    nsqd.client().publish("t", b"x");
    let (code, log) = nsqd.stop();
    assert_eq!(code, Some(0));
    assert!(log.lines().all(|line| line.starts_with("x 20")), "{log}");
    assert!(folder.path().join("nsqd.dat").exists());
}

#[test]
fn values_that_cannot_work_are_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    for (arg, reason) in [
        ("-mem-queue-size=-1", "--mem-queue-size must not be negative: -1"),
        ("-max-rdy-count=-1", "--max-rdy-count must not be negative: -1"),
        ("-sync-timeout=0", "--sync-timeout must be positive"),
        ("-msg-timeout=0", "--msg-timeout must be positive"),
        ("-max-msg-size=0", "--max-msg-size must be from 1 to 2147483647: 0"),
        ("-max-body-size=4294967296", "--max-body-size must be from 1 to 2147483647: 4294967296"),
        ("-node-id=-1", "--node-id must be [0,1024)"),
        ("-max-deflate-level=10", "--max-deflate-level must be [1,9]"),
        (
            "-auth-http-request-method=PUT",
            "--auth-http-request-method must be post or get, not \"PUT\"",
        ),
    ] {
        let ended = run_on(folder.path(), &[arg]);
        assert_eq!(ended.fatal(), format!("failed to instantiate nsqd - {reason}"), "{arg}");
    }
}

#[test]
fn a_wrong_value_in_a_file_is_one_clear_line_with_its_key() {
    for (text, line) in [
        (
            "msg_timeout = 'soon'",
            "failed to coerce value soon for msg_timeout - time: invalid duration \"soon\"",
        ),
        (
            "max_rdy_count = 'many'",
            "failed to coerce value many for max_rdy_count - an integer is expected",
        ),
        // NSQ takes 1 for false.
        ("snappy = 1", "failed to coerce value 1 for snappy - true or false is expected"),
        (
            "e2e_processing_latency_percentiles = [2]",
            "failed to coerce value [2] for e2e_processing_latency_percentiles - invalid E2E processing latency percentile: 2",
        ),
        ("log_level = 'loud'", "failed parsing log_level loud - "),
        ("tls_required = 'perhaps'", "failed parsing tls_required perhaps - "),
        ("tls_min_version = 'ssl3.0'", "failed parsing tls_min_version ssl3.0 - "),
        ("id = 1024", "failed to instantiate nsqd - --node-id must be [0,1024)"),
        ("sync_timeout = 0", "failed to instantiate nsqd - --sync-timeout must be positive"),
    ] {
        let ended = run_with(text);
        assert!(ended.fatal().starts_with(line), "{text}: {}", ended.stderr);
    }
    let ended = run_with("id = 1\nid = 2\n");
    assert!(ended.fatal().starts_with("failed to load config file /"), "{}", ended.stderr);
    assert!(ended.fatal().contains(" - line 2: "), "{}", ended.stderr);
}

#[test]
fn integers_in_a_list_of_shares_are_shares() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), "e2e_processing_latency_percentiles = [0.5, 1]");
    let nsqd = NsqdProcess::start(folder.path(), &[&config]);
    expect_shown(&nsqd, "e2e_processing_latency_percentiles", "[1.0,0.5]");
    assert_eq!(nsqd.stop().0, Some(0));
}
