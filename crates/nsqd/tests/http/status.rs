//! `/info`, and the rules for every path.

use nsq_daemon::log::{Capture, Level, Logger};
use nsqd::{Nsqd, Options};
use serde_json::Value;

use crate::harness::TestNsqd;

#[tokio::test]
async fn info_has_the_keys_that_tools_read_in_order() {
    let nsqd =
        TestNsqd::start_with(|options| options.broadcast_address = "here<\u{2028}>".to_owned())
            .await;
    let answer = nsqd.get("/info").await;
    assert_eq!(answer.header("Content-Type"), Some("application/json; charset=utf-8"));
    let info: Value = serde_json::from_str(&answer.body).unwrap();
    let hostname = info["hostname"].as_str().unwrap();
    assert_ne!(hostname, "");
    let data_id = info["data_id"].as_str().unwrap();
    assert!(
        data_id.len() == 32 && data_id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{data_id}"
    );
    let (start_time, http, tcp) =
        (info["start_time"].as_u64().unwrap(), nsqd.http.port(), nsqd.tcp.port());
    assert!(start_time > 1_700_000_000, "{start_time}");
    let expected = format!(
        concat!(
            r#"{{"version":"1.3.0","broadcast_address":"here\u003c\u2028\u003e","hostname":"{}","#,
            r#""http_port":{},"tcp_port":{},"start_time":{},"max_heartbeat_interval":60000000000,"#,
            r#""max_output_buffer_size":65536,"max_output_buffer_timeout":30000000000,"#,
            r#""max_deflate_level":6,"topology_zone":"","topology_region":"","#,
            r#""data_id":"{}","incarnation":1}}"#
        ),
        hostname, http, tcp, start_time, data_id
    );
    assert_eq!(answer.body, expected);
    nsqd.stop().await;
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused_with_the_marker() {
    let nsqd = TestNsqd::start().await;
    let answer = nsqd.get("/nope").await;
    assert_eq!(answer.refusal(), (404, "NOT_FOUND"));
    assert_eq!(answer.header("X-Nsq-Content-Type"), Some("nsq; version=1.0"));
    for (method, path, allow) in [
        ("POST", "/ping", "GET, OPTIONS"),
        ("GET", "/pub", "OPTIONS, POST"),
        ("GET", "/channel/unpause", "OPTIONS, POST"),
        ("DELETE", "/config/log_level", "GET, OPTIONS, PUT"),
    ] {
        let answer = nsqd.ask(method, path, "").await;
        assert_eq!(answer.refusal(), (405, "METHOD_NOT_ALLOWED"), "{method} {path}");
        assert_eq!(answer.header("Allow"), Some(allow), "{method} {path}");
    }
    let answer = nsqd.ask("OPTIONS", "/stats", "").await;
    assert_eq!((answer.brief(), answer.header("Allow")), ((200, ""), Some("GET, OPTIONS")));
    nsqd.stop().await;
}

#[tokio::test]
async fn a_path_that_is_nearly_right_is_redirected() {
    let nsqd = TestNsqd::start().await;
    let answer = nsqd.get("/Stats/?format=json").await;
    assert_eq!((answer.status, answer.header("Location")), (301, Some("/stats?format=json")));
    let answer = nsqd.post("//topic/create?topic=t", "").await;
    assert_eq!((answer.status, answer.header("Location")), (307, Some("/topic/create?topic=t")));
    nsqd.stop().await;
}

#[tokio::test]
async fn publishing_stays_out_of_the_access_log() {
    let log = Capture::new();
    let nsqd =
        TestNsqd::start_logging(|_| {}, Logger::with_sink("", Level::Info, log.clone())).await;
    nsqd.post("/pub?topic=t", "a").await;
    nsqd.post("/mpub?topic=t", "a").await;
    nsqd.post("/topic/pause?topic=t", "").await;
    nsqd.get("/ping").await;
    nsqd.get("/stats?topic=%zz").await;
    let access = log.texts().into_iter().filter(|text| text.contains(" (127.0.0.1:"));
    let access: Vec<_> = access.map(|text| text.split(" (").next().unwrap().to_owned()).collect();
    let expected = ["200 POST /topic/pause?topic=t", "200 GET /ping", "400 GET /stats?topic=%zz"];
    assert_eq!(access, expected.map(|text| format!("INFO: {text}")));
    nsqd.stop().await;
}

#[tokio::test]
async fn an_empty_address_disables_http() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        data_path: folder.path().to_owned(),
        tcp_address: "127.0.0.1:0".to_owned(),
        http_address: String::new(),
        ..Options::default()
    };
    let nsqd = Nsqd::start(options, Logger::discard()).await.unwrap();
    assert_eq!((nsqd.http_address(), nsqd.https_address()), (None, None));
    nsqd.run(async {}).await.unwrap();
}
