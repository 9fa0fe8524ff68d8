//! The options of NSQ that nsqd does not have yet.

use nsq_options::Absent::{self, Feature, Protection};

pub(super) const ABSENT: &[Absent] = &[
    Protection("auth_http_addresses"),
    Feature("auth_http_request_method"),
    Feature("deflate"),
    Feature("e2e_processing_latency_percentiles"),
    Feature("e2e_processing_latency_window_time"),
    Feature("enable_experiment"),
    Protection("https_address"),
    Feature("snappy"),
    Feature("statsd_address"),
    Feature("statsd_exclude_ephemeral"),
    Feature("statsd_interval"),
    Feature("statsd_mem_stats"),
    Feature("statsd_prefix"),
    Feature("statsd_udp_packet_size"),
    Protection("tls_cert"),
    Protection("tls_client_auth_policy"),
    Protection("tls_key"),
    Protection("tls_min_version"),
    Protection("tls_required"),
    Protection("tls_root_ca_file"),
    Feature("topology_region"),
    Feature("topology_zone"),
];
