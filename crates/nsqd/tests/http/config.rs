//! `/config`: the values of options, and the two that can be changed.

use std::time::Duration;

use nsq_daemon::log::{Capture, Level, Logger};
use nsq_options::{Setting, Value};
use nsqd::{HttpConfig, Options};

use crate::harness::TestNsqd;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json; charset=utf-8";

/// Texts, shown as they are.
const TEXTS: &[(&str, &str)] = &[
    ("auth_http_request_method", "get"),
    ("broadcast_address", "here"),
    ("durability", "log"),
    ("http_address", "127.0.0.1:0"),
    ("https_address", "127.0.0.1:0"),
    ("log_prefix", "[prefix] "),
    ("log_format", "text"),
    ("tcp_address", "127.0.0.1:0"),
];

/// Options without a value: neither body nor type.
const EMPTY: &[&str] = &[
    "statsd_address",
    "tls_cert",
    "tls_client_auth_policy",
    "tls_key",
    "tls_root_ca_file",
    "topology_region",
    "topology_zone",
];

/// Numbers, of which durations are nanoseconds, truth values and lists.
const VALUES: &[(&str, &str)] = &[
    ("auth_http_addresses", "[]"),
    ("deflate", "true"),
    ("e2e_processing_latency_percentiles", "[]"),
    ("e2e_processing_latency_window_time", "600000000000"),
    ("enable_experiment", "[]"),
    ("http_client_connect_timeout", "2000000000"),
    ("http_client_request_timeout", "5000000000"),
    ("id", "77"),
    ("log_level", "2"),
    ("log_rate", "10"),
    ("max_body_size", "5242880"),
    ("max_bytes_per_file", "104857600"),
    ("max_channel_consumers", "0"),
    ("max_deflate_level", "6"),
    ("max_heartbeat_interval", "60000000000"),
    ("max_msg_size", "1048576"),
    ("max_msg_timeout", "900000000000"),
    ("max_output_buffer_size", "65536"),
    ("max_output_buffer_timeout", "30000000000"),
    ("max_rdy_count", "2500"),
    ("max_req_timeout", "3600000000000"),
    ("mem_queue_size", "10000"),
    ("min_output_buffer_timeout", "25000000"),
    ("msg_timeout", "60000000000"),
    ("nsqlookupd_tcp_addresses", "[]"),
    ("output_buffer_timeout", "250000000"),
    ("queue_scan_selection_count", "20"),
    ("queue_scan_worker_pool_max", "4"),
    ("requeue_on_disconnect", "false"),
    ("snappy", "true"),
    ("statsd_exclude_ephemeral", "false"),
    ("statsd_interval", "60000000000"),
    ("statsd_mem_stats", "true"),
    ("statsd_udp_packet_size", "508"),
    ("sync_every", "0"),
    ("sync_timeout", "2000000000"),
    ("tls_min_version", "769"),
    ("tls_required", "0"),
];

async fn configured() -> TestNsqd {
    let configure = |options: &mut Options| {
        options.node_id = 77;
        options.broadcast_address = "here".to_owned();
    };
    let logger = Logger::with_sink("[prefix] ", Level::Info, Capture::new());
    TestNsqd::start_logging(configure, logger).await
}

#[tokio::test]
async fn every_option_is_shown_by_its_key_in_the_configuration_file() {
    let nsqd = configured().await;
    let (folder, tcp, http) = (
        nsqd.folder.path().to_str().unwrap().to_owned(),
        nsqd.tcp.port().to_string(),
        nsqd.http.port().to_string(),
    );
    let texts = TEXTS.iter().copied().chain([("data_path", folder.as_str())]);
    let ports = [("broadcast_tcp_port", tcp.as_str()), ("broadcast_http_port", http.as_str())];
    let values = VALUES.iter().copied().chain(ports);
    let expected = texts.map(|(key, text)| (key, text, Some(TEXT)));
    let expected = expected.chain(values.map(|(key, value)| (key, value, Some(JSON))));
    let expected = expected.chain(EMPTY.iter().map(|key| (*key, "", None)));
    for (key, value, content_type) in expected {
        let answer = nsqd.get(&format!("/config/{key}")).await;
        assert_eq!(answer.brief(), (200, value), "{key}");
        assert_eq!(answer.header("Content-Type"), content_type, "{key}");
        assert_eq!(answer.header("X-Nsq-Content-Type"), Some("nsq; version=1.0"), "{key}");
    }
    nsqd.stop().await;
}

#[tokio::test]
async fn no_key_of_the_configuration_file_is_unknown() {
    let nsqd = configured().await;
    let table = Options::table();
    let keys: Vec<_> = table.defs().iter().filter_map(|def| def.key()).collect();
    assert!(keys.len() > 50, "{keys:?}");
    for key in keys {
        assert_eq!(nsqd.get(&format!("/config/{key}")).await.status, 200, "{key}");
    }
    for key in [
        "nope",
        "node_id",
        "node-id",
        "mem-queue-size",
        "verbose",
        "version",
        "config",
        "worker_id",
        "lookupd_tcp_address",
        "queue_scan_interval",
        "client_timeout",
    ] {
        let answer = nsqd.get(&format!("/config/{key}")).await;
        assert_eq!(answer.refusal(), (400, "INVALID_OPTION"), "{key}");
    }
    nsqd.stop().await;
}

#[tokio::test]
async fn lists_and_durations_that_were_set_keep_their_shape() {
    let nsqd = TestNsqd::start_with(|options| {
        options.experiments = vec!["topology-aware-consumption".to_owned(), "<x>".to_owned()];
        options.topology_zone = "z1".to_owned();
        options.msg_timeout = Duration::from_millis(1500);
        let shares = ["0.5", "0.99", "1"].map(str::to_owned).to_vec();
        options.e2e_percentiles = Setting::from_value(Value::List(shares)).unwrap();
        options.max_channel_consumers = 3;
    })
    .await;
    for (key, value) in [
        ("enable_experiment", r#"["topology-aware-consumption","\u003cx\u003e"]"#),
        ("topology_zone", "z1"),
        ("msg_timeout", "1500000000"),
        ("max_channel_consumers", "3"),
    ] {
        assert_eq!(nsqd.get(&format!("/config/{key}")).await.brief(), (200, value), "{key}");
    }
    let percentiles = nsqd.get("/config/e2e_processing_latency_percentiles").await.body;
    assert_eq!(serde_json::from_str::<Vec<f64>>(&percentiles).unwrap(), [1.0, 0.99, 0.5]);
    nsqd.stop().await;
}

#[tokio::test]
async fn the_log_level_can_be_changed_while_nsqd_runs() {
    let logger = Logger::with_sink("", Level::Info, Capture::new());
    let nsqd =
        TestNsqd::start_logging(|options| options.limits.message_bytes_max = 10, logger.clone())
            .await;
    assert_eq!(nsqd.get("/config/log_level").await.brief(), (200, "2"));
    for (text, number, level) in
        [("debug", "1", Level::Debug), ("FaTal", "5", Level::Fatal), ("warn", "3", Level::Warn)]
    {
        let answer = nsqd.put("/config/log_level", text).await;
        assert_eq!((answer.brief(), logger.level()), ((200, number), level));
        assert_eq!(answer.header("Content-Type"), Some("application/json; charset=utf-8"));
        assert_eq!(nsqd.get("/config/log_level").await.brief(), (200, number));
    }
    for (option, text, refusal) in [
        ("log_level", "", (413, "INVALID_VALUE")),
        ("log_level", "12345678901", (413, "INVALID_VALUE")),
        ("log_level", "warning", (400, "INVALID_VALUE")),
        ("log_level", "warn\n", (400, "INVALID_VALUE")),
        ("log_level", "\"warn\"", (400, "INVALID_VALUE")),
        ("log_level", "1", (400, "INVALID_VALUE")),
        ("msg_timeout", "1", (400, "INVALID_OPTION")),
        ("nope", "1", (400, "INVALID_OPTION")),
        ("nope", "", (413, "INVALID_VALUE")),
    ] {
        let answer = nsqd.put(&format!("/config/{option}"), text).await;
        assert_eq!(answer.refusal(), refusal, "{option} {text:?}");
    }
    assert_eq!(logger.level(), Level::Warn);
    nsqd.stop().await;
}

#[tokio::test]
async fn the_nsqlookupds_can_be_replaced_by_a_list_and_nothing_else() {
    let nsqd = TestNsqd::start().await;
    let path = "/config/nsqlookupd_tcp_addresses";
    for (body, value) in
        [(r#"[ "127.0.0.1:1" ]"#, r#"["127.0.0.1:1"]"#), ("[]", "[]"), ("null", "[]")]
    {
        let answer = nsqd.put(path, body).await;
        assert_eq!(answer.brief(), (200, value), "{body}");
        assert_eq!(answer.header("Content-Type"), Some(JSON));
        assert_eq!(nsqd.get(path).await.brief(), (200, value), "{body}");
    }
    for body in ["{}", "[1]", r#"["a"] x"#, r#""a:1""#, "a:1", "["] {
        assert_eq!(nsqd.put(path, body).await.refusal(), (400, "INVALID_VALUE"), "{body}");
    }
    assert_eq!(nsqd.put(path, "").await.refusal(), (413, "INVALID_VALUE"));
    assert_eq!(nsqd.get(path).await.brief(), (200, "[]"));
    nsqd.stop().await;
}

#[tokio::test]
async fn a_list_of_nsqlookupds_is_taken_as_a_whole_or_not_at_all() {
    let nsqd = TestNsqd::start().await;
    let path = "/config/nsqlookupd_tcp_addresses";
    let twice = r#"["127.0.0.1:1","/run/a.sock","[::1]:1","127.0.0.1:1"]"#;
    let once = r#"["127.0.0.1:1","/run/a.sock","[::1]:1"]"#;
    assert_eq!(nsqd.put(path, twice).await.brief(), (200, once));
    let list = |count: u16| {
        let addresses: Vec<_> = (1..=count).map(|port| format!("127.0.0.1:{port}")).collect();
        serde_json::to_string(&addresses).unwrap()
    };
    let bad = ["a", "", ":1", "a:", "a:0", "a:65536", "a:-1", "a:http", "a:1:2", "[::1]"];
    for bad in bad.map(|bad| format!(r#"["127.0.0.1:2","{bad}"]"#)).into_iter().chain([list(65)]) {
        assert_eq!(nsqd.put(path, &bad).await.refusal(), (400, "INVALID_VALUE"), "{bad}");
    }
    for large in [list(5_000), list(45_000)] {
        assert_eq!(nsqd.put(path, &large).await.refusal(), (413, "INVALID_VALUE"));
    }
    assert_eq!(nsqd.get(path).await.brief(), (200, once), "nothing has changed");
    let reached = r#"nsqd_limit_reached_total{limit="lookupds"} 1"#;
    assert!(nsqd.get("/metrics").await.body.contains(reached));
    assert_eq!(nsqd.put(path, "[]").await.brief(), (200, "[]"));
    nsqd.stop().await;
}

#[tokio::test]
async fn options_can_be_kept_from_change_over_http() {
    let with = |http_config| {
        TestNsqd::start_with(move |options: &mut Options| options.shares.http_config = http_config)
    };
    for (http_config, answer) in [
        (HttpConfig::On, (200, "3")),
        (HttpConfig::Loopback, (200, "3")),
        (HttpConfig::Off, (403, r#"{"message":"FORBIDDEN"}"#)),
    ] {
        let nsqd = with(http_config).await;
        assert_eq!(nsqd.put("/config/log_level", "warn").await.brief(), answer, "{http_config:?}");
        assert_eq!(nsqd.get("/config/log_level").await.status, 200);
        nsqd.stop().await;
    }
}
