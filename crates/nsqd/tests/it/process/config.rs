//! The configuration file, and what nsqd does not let it ask for.

use std::{fs, path::Path};

use super::{Ended, run_on};
use crate::support::NsqdProcess;

/// The options that a configuration file which came with NSQ sets, or mentions.
const STOCK: &str = r#"
log_level = "info"
id = 5
tcp_address = "127.0.0.1:0"
http_address = "127.0.0.1:0"
https_address = ""
auth_http_addresses = []
auth_http_request_method = "get"
nsqlookupd_tcp_addresses = []
mem_queue_size = 10000
max_bytes_per_file = 104857600
sync_every = 2500
sync_timeout = "2s"
queue_scan_worker_pool_max = 4
queue_scan_selection_count = 20
msg_timeout = "60s"
max_msg_timeout = "15m"
max_msg_size = 1048576
max_req_timeout = "1h"
max_body_size = 5123840
max_heartbeat_interval = "60s"
max_rdy_count = 2500
max_output_buffer_size = 65536
max_output_buffer_timeout = "1s"
statsd_address = ""
statsd_prefix = "nsq.%s"
statsd_interval = "60s"
statsd_mem_stats = true
statsd_udp_packet_size = 508
statsd_exclude_ephemeral = false
e2e_processing_latency_percentiles = [ 1.0, 0.99, 0.95 ]
e2e_processing_latency_window_time = "10m"
tls_cert = ""
tls_key = ""
tls_client_auth_policy = ""
tls_root_ca_file = ""
tls_required = false
tls_min_version = ""
deflate = true
max_deflate_level = 6
snappy = true
topology_region = ""
topology_zone = ""
enable_experiment = []
"#;

/// Runs nsqd on a folder with a configuration file of this text.
fn run_with(folder: &Path, text: &str) -> Ended {
    run_on(folder, &[&write(folder, text)])
}

fn write(folder: &Path, text: &str) -> String {
    let path = folder.join("nsqd.cfg");
    fs::write(&path, text).unwrap();
    format!("-config={}", path.display())
}

#[test]
fn a_file_that_asks_for_protection_is_refused_and_not_served_without_it() {
    let folder = tempfile::tempdir().unwrap();
    for line in [
        "tls_required = true",
        "tls_required = 'tcp-https'",
        "tls_client_auth_policy = 'require-verify'",
    ] {
        let ended = run_with(folder.path(), &format!("{line}\n"));
        assert!(ended.fatal().starts_with("failed to instantiate nsqd - "), "{line}");
    }
}

#[test]
fn a_file_that_came_with_nsq_is_taken_and_no_key_of_it_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let nsqd = NsqdProcess::start(folder.path(), &[&write(folder.path(), STOCK)]);
    nsqd.client().publish("t", b"x");
    let (code, log) = nsqd.stop();
    assert_eq!(code, Some(0));
    assert!(!log.contains("config file:"), "{log}");
}
