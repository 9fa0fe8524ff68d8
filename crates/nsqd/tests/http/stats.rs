//! `/stats`.

use nsq_protocol::Command;
use serde_json::{Value, json};

use crate::harness::{Consumer, TestNsqd};

const IDENTITY: &[u8] =
    br#"{"client_id":"me","hostname":"host","user_agent":"test/1.0","sample_rate":99,
    "topology_region":"r","topology_zone":"z"}"#;

async fn identified(nsqd: &TestNsqd) -> Consumer {
    let mut consumer = nsqd.connect().await;
    consumer.send(Command::Identify(IDENTITY)).await;
    assert_eq!(consumer.response().await, "OK");
    consumer
}

async fn publish(producer: &mut Consumer, topic: &str, body: &[u8]) {
    producer.send(Command::Pub { topic, body }).await;
    assert_eq!(producer.response().await, "OK");
}

/// Topics `b` and `a`; `a` has the channels `y` and `x` and three messages.
async fn two_topics() -> TestNsqd {
    let nsqd = TestNsqd::start().await;
    nsqd.post("/topic/create?topic=b", "").await;
    for channel in ["y", "x"] {
        nsqd.post("/topic/create?topic=a", "").await;
        nsqd.post(&format!("/channel/create?topic=a&channel={channel}"), "").await;
    }
    nsqd.post("/mpub?topic=a", "1\n22\n333").await;
    nsqd
}

/// The answer, with everything that differs from run to run replaced by letters.
fn normalized(body: &str, replace: &[(&str, &str)]) -> String {
    replace.iter().fold(body.to_owned(), |body, (what, by)| body.replace(what, by))
}

#[tokio::test]
async fn the_json_has_every_key_in_order() {
    let nsqd = two_topics().await;
    let answer = nsqd.get("/stats?format=json&include_mem=false&include_clients=0").await;
    assert_eq!(answer.header("Content-Type"), Some("application/json; charset=utf-8"));
    let start_time = nsqd.stats("").await["start_time"].to_string();
    let latency = r#""e2e_processing_latency":{"count":0,"percentiles":null}"#;
    let channel = |name: &str| {
        let head =
            format!(r#"{{"channel_name":"{name}","depth":3,"backend_depth":0,"in_flight_count":0"#);
        let counts = r#""deferred_count":0,"message_count":3,"requeue_count":0,"timeout_count":0"#;
        format!(r#"{head},{counts},"client_count":0,"clients":null,"paused":false,{latency}}}"#)
    };
    let topic = |name: &str, channels: &str, messages: u64, bytes: u64| {
        let counts = format!(
            r#""depth":0,"backend_depth":0,"message_count":{messages},"message_bytes":{bytes}"#
        );
        format!(
            r#"{{"topic_name":"{name}","channels":[{channels}],{counts},"paused":false,{latency}}}"#
        )
    };
    let a = topic("a", &format!("{},{}", channel("x"), channel("y")), 3, 6);
    let head = format!(r#"{{"version":"1.3.0","health":"OK","start_time":{start_time}"#);
    assert_eq!(
        answer.body,
        format!(r#"{head},"topics":[{a},{}],"producers":null}}"#, topic("b", "", 0, 0))
    );
    nsqd.stop().await;
}

#[tokio::test]
async fn memory_has_the_known_keys_and_is_left_out_on_request() {
    let nsqd = TestNsqd::start().await;
    let body = nsqd.get("/stats?format=json").await.body;
    let keys = [
        "heap_objects",
        "heap_idle_bytes",
        "heap_in_use_bytes",
        "heap_released_bytes",
        "gc_pause_usec_100",
        "gc_pause_usec_99",
        "gc_pause_usec_95",
        "next_gc_bytes",
        "gc_total_runs",
    ];
    let places: Vec<_> = keys.map(|key| body.find(&format!("\"{key}\":")).expect(key)).into();
    assert!(places.is_sorted(), "{body}");
    let stats = nsqd.stats("").await;
    assert!(keys.iter().all(|key| stats["memory"][key].is_u64()), "{body}");
    assert!(stats["memory"]["heap_in_use_bytes"].as_u64().unwrap() > 4096, "{body}");
    for (params, included) in
        [("0", false), ("false", false), ("1", true), ("true", true), ("no", true), ("", true)]
    {
        let stats = nsqd.stats(&format!("include_mem={params}")).await;
        assert_eq!(stats.get("memory").is_some(), included, "{params}");
    }
    nsqd.stop().await;
}

#[tokio::test]
async fn topics_are_null_when_the_one_asked_for_is_unknown_and_empty_when_there_are_none() {
    let nsqd = TestNsqd::start().await;
    assert_eq!(nsqd.stats("").await["topics"], json!([]));
    assert_eq!(nsqd.stats("topic=&channel=").await["topics"], json!([]));
    assert_eq!(nsqd.stats("topic=t").await["topics"], Value::Null);
    nsqd.post("/topic/create?topic=t", "").await;
    assert_eq!(nsqd.stats("topic=t&channel=c").await["topics"], json!([]));
    assert_eq!(nsqd.stats("topic=u").await["topics"], Value::Null);
    assert_eq!(nsqd.get("/stats?topic=%zz").await.refusal(), (400, "INVALID_REQUEST"));
    nsqd.stop().await;
}

#[tokio::test]
async fn figures_are_filtered_by_topic_and_by_channel() {
    let nsqd = two_topics().await;
    nsqd.post("/channel/create?topic=b&channel=x", "").await;
    let names = |stats: &Value| -> String {
        let topics = stats["topics"].as_array().unwrap().iter();
        let channels = |topic: &Value| -> String {
            let channels = topic["channels"].as_array().unwrap().iter();
            channels.map(|channel| channel["channel_name"].as_str().unwrap()).collect()
        };
        topics
            .map(|topic| format!("{}:{} ", topic["topic_name"].as_str().unwrap(), channels(topic)))
            .collect()
    };
    for (params, expected) in [
        ("", "a:xy b:x "),
        ("topic=a", "a:xy "),
        ("channel=x", "a:x b:x "),
        ("channel=y", "a:y "),
        ("topic=b&channel=x", "b:x "),
        ("topic=b&channel=y", ""),
        ("topic=a&topic=b", "a:xy "),
    ] {
        assert_eq!(names(&nsqd.stats(params).await), expected, "{params}");
    }
    nsqd.stop().await;
}

#[tokio::test]
async fn a_consumer_is_shown_with_every_key_in_order() {
    let nsqd = two_topics().await;
    let mut consumer = identified(&nsqd).await;
    consumer.send(Command::Sub { topic: "a", channel: "x" }).await;
    assert_eq!(consumer.response().await, "OK");
    consumer.send(Command::Rdy(2)).await;
    let (first, _) = consumer.message().await;
    let (second, _) = consumer.message().await;
    consumer.send(Command::Rdy(0)).await;
    consumer.send(Command::Fin(first)).await;
    consumer.send(Command::Req { id: second, delay_ms: 0 }).await;
    let requeued = |stats: &Value| stats["topics"][0]["channels"][0]["requeue_count"] == 1;
    let stats = nsqd.stats_until("topic=a&channel=x", requeued).await;
    let channel = &stats["topics"][0]["channels"][0];
    assert_eq!((&channel["depth"], &channel["client_count"]), (&json!(2), &json!(1)));
    assert_eq!(channel["message_count"], 3, "a requeued message counts once");

    let client = &channel["clients"][0];
    let (remote, connected) =
        (client["remote_address"].as_str().unwrap(), client["connect_ts"].to_string());
    assert!(remote.starts_with("127.0.0.1:"), "{remote}");
    assert!(client["connect_ts"].as_u64() >= stats["start_time"].as_u64(), "{connected}");
    let body = nsqd.get("/stats?format=json&topic=a&channel=x").await.body;
    let expected = concat!(
        r#""clients":[{"client_id":"me","hostname":"host","version":"V2","remote_address":"REMOTE","state":3,"#,
        r#""ready_count":0,"in_flight_count":0,"message_count":2,"finish_count":1,"requeue_count":1,"#,
        r#""connect_ts":CONNECTED,"sample_rate":99,"deflate":false,"snappy":false,"user_agent":"test/1.0","#,
        r#""topology_zone":"z","topology_region":"r","tls":false,"tls_cipher_suite":"","tls_version":"","#,
        r#""tls_negotiated_protocol":"","tls_negotiated_protocol_is_mutual":false}]"#
    );
    let body = normalized(
        &body,
        &[(remote, "REMOTE"), (&format!("\"connect_ts\":{connected}"), "\"connect_ts\":CONNECTED")],
    );
    assert!(body.contains(expected), "{body}");
    nsqd.stop().await;
}

#[tokio::test]
async fn producers_are_the_connections_that_have_published() {
    let nsqd = TestNsqd::start().await;
    let _idle = identified(&nsqd).await;
    assert_eq!(nsqd.stats("").await["producers"], Value::Null);
    nsqd.post("/pub?topic=a", "by HTTP").await;
    assert_eq!(nsqd.stats("").await["producers"], Value::Null);

    let mut producer = identified(&nsqd).await;
    for topic in ["b", "a", "a"] {
        publish(&mut producer, topic, b"x").await;
    }
    let stats = nsqd.stats("").await;
    let producers = stats["producers"].as_array().unwrap();
    assert_eq!((producers.len(), &producers[0]["state"]), (1, &json!(0)));
    assert_eq!(
        producers[0]["pub_counts"],
        json!([{"topic": "a", "count": 2}, {"topic": "b", "count": 1}])
    );
    // Every producer is listed whatever the topic, with its figures for that topic.
    let stats = nsqd.stats("topic=b").await;
    assert_eq!(stats["producers"][0]["pub_counts"], json!([{"topic": "b", "count": 1}]));
    nsqd.post("/topic/create?topic=c", "").await;
    let stats = nsqd.stats("topic=c").await;
    assert_eq!(
        (&stats["producers"][0]["client_id"], stats["producers"][0].get("pub_counts")),
        (&json!("me"), None)
    );
    assert_eq!(nsqd.stats("topic=unknown").await["producers"], Value::Null);
    nsqd.stop().await;
}

#[tokio::test]
async fn a_consumer_that_publishes_is_in_both_lists_with_the_same_figures() {
    let nsqd = TestNsqd::start().await;
    let mut both = nsqd.subscribe("a", "c").await;
    both.send(Command::Rdy(7)).await;
    publish(&mut both, "b", b"x").await;
    let stats = nsqd.stats("").await;
    let (consumer, producer) =
        (&stats["topics"][0]["channels"][0]["clients"][0], &stats["producers"][0]);
    assert_eq!((consumer, &consumer["ready_count"]), (producer, &json!(7)));
    assert_eq!(nsqd.stats("topic=b").await["producers"][0], *producer);
    nsqd.stop().await;
}

#[tokio::test]
async fn clients_are_left_out_on_request_and_still_counted() {
    let nsqd = TestNsqd::start().await;
    let mut both = nsqd.subscribe("a", "c").await;
    publish(&mut both, "a", b"x").await;
    for (value, included) in
        [("false", false), ("0", false), ("true", true), ("1", true), ("no", true), ("", true)]
    {
        let stats = nsqd.stats(&format!("include_clients={value}")).await;
        let channel = &stats["topics"][0]["channels"][0];
        assert_eq!(channel["client_count"], 1, "{value}");
        assert_eq!(
            (channel["clients"].is_array(), stats["producers"].is_array()),
            (included, included),
            "{value}"
        );
        assert_eq!(
            (channel["clients"].is_null(), stats["producers"].is_null()),
            (!included, !included),
            "{value}"
        );
    }
    nsqd.stop().await;
}

#[tokio::test]
async fn a_message_is_counted_where_it_is() {
    let nsqd = TestNsqd::start().await;
    let mut consumer = nsqd.subscribe("a", "c").await;
    nsqd.post("/mpub?topic=a", "1\n2\n3").await;
    nsqd.post("/pub?topic=a&defer=60000", "4").await;
    consumer.send(Command::Rdy(2)).await;
    consumer.message().await;
    consumer.message().await;
    let stats = nsqd.stats("").await;
    let channel = &stats["topics"][0]["channels"][0];
    let figures = ["depth", "in_flight_count", "deferred_count", "message_count"];
    assert_eq!(figures.map(|key| channel[key].as_u64().unwrap()), [1, 2, 1, 4]);
    assert_eq!(
        (&channel["clients"][0]["in_flight_count"], &channel["clients"][0]["state"]),
        (&json!(2), &json!(3))
    );
    nsqd.stop().await;
}

#[tokio::test]
async fn depth_beyond_the_memory_is_backend_depth() {
    let nsqd = TestNsqd::start_with(|options| options.mem_queue_size = 2).await;
    // Memory is given back in blocks, so it takes more than a few small messages to see it.
    for _ in 0..10 {
        nsqd.post("/pub?topic=t", "x".repeat(200_000)).await;
    }
    let stats = nsqd.stats("").await;
    let topic = &stats["topics"][0];
    assert_eq!(topic["depth"], 10);
    let on_disk = topic["backend_depth"].as_u64().unwrap();
    assert!((1..=8).contains(&on_disk), "two messages stay in memory, not {}", 10 - on_disk);
    nsqd.post("/channel/create?topic=t&channel=c", "").await;
    let stats = nsqd.stats("").await;
    let channel = &stats["topics"][0]["channels"][0];
    assert_eq!((&channel["depth"], &channel["backend_depth"]), (&json!(10), &json!(on_disk)));
    assert_eq!(stats["topics"][0]["backend_depth"], 0);
    nsqd.stop().await;
}

#[tokio::test]
async fn the_text_is_aligned_in_columns() {
    let nsqd = two_topics().await;
    nsqd.post("/topic/pause?topic=b", "").await;
    nsqd.post("/channel/pause?topic=a&channel=y", "").await;
    let mut publisher = identified(&nsqd).await;
    publish(&mut publisher, "b", b"x").await;
    publish(&mut publisher, "a", b"x").await;
    let mut subscriber = identified(&nsqd).await;
    subscriber.send(Command::Sub { topic: "a", channel: "x" }).await;
    assert_eq!(subscriber.response().await, "OK");

    let stats = nsqd.stats("").await;
    let name = |client: &Value| {
        let (_, port) = client["remote_address"].as_str().unwrap().rsplit_once(':').unwrap();
        format!("host:{port} test/1.0")
    };
    let consumer = name(&stats["topics"][0]["channels"][0]["clients"][0]);
    let producer = name(&stats["producers"][0]);
    let answer = nsqd.get("/stats?include_mem=0").await;
    assert_eq!(answer.header("Content-Type"), Some("text/plain; charset=utf-8"));
    let (head, rest) = answer.body.split_once("\n\n").unwrap();
    let head: Vec<_> = head.lines().collect();
    assert_eq!(head[0], nsqd::version_line());
    assert!(head[1].starts_with("start_time 20") && head[1].contains('T'), "{}", head[1]);
    assert!(head[2].starts_with("uptime ") && head[2].ends_with('s'), "{}", head[2]);
    assert_eq!(head.len(), 3);
    let expected = format!(
        "Health: OK

Topics:
   [a              ] depth: 0     be-depth: 0     msgs: 4        e2e%: 
      [x                        ] depth: 4     be-depth: 0     inflt: 0    def: 0    re-q: 0     timeout: 0     msgs: 4        e2e%: 
        [V2 {consumer:<21}] state: 3 inflt: 0    rdy: 0    fin: 0        re-q: 0        msgs: 0        connected: 0s
   *P [y                        ] depth: 4     be-depth: 0     inflt: 0    def: 0    re-q: 0     timeout: 0     msgs: 4        e2e%: 

*P [b              ] depth: 1     be-depth: 0     msgs: 1        e2e%: 

Producers:
   [V2 {producer:<21}] msgs: 2        topics: a=1,b=1 connected: 0s
"
    );
    assert_eq!(seconds_hidden(rest), seconds_hidden(&expected));
    nsqd.stop().await;
}

/// The test may run for more than a second.
fn seconds_hidden(text: &str) -> String {
    let line = |line: &str| match line.split_once("connected: ") {
        Some((line, _)) => format!("{line}connected: "),
        None => line.to_owned(),
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_client_cannot_forge_lines_of_the_text_or_move_a_terminal() {
    let nsqd = TestNsqd::start().await;
    let mut producer = nsqd.connect().await;
    let identity = br#"{"hostname":"a\n   [V2 b","user_agent":"\u001b[2J\u009b\u202e\u2028"}"#;
    producer.send(Command::Identify(identity)).await;
    assert_eq!(producer.response().await, "OK");
    publish(&mut producer, "t", b"x").await;
    let text = nsqd.get("/stats").await.body;
    let shown = r"[V2 a\n   [V2 b:";
    let lines: Vec<_> = text.lines().filter(|line| line.contains(shown)).collect();
    let [line] = lines[..] else { panic!("{text}") };
    assert!(line.contains(r" \u{1b}[2J\u{9b}\u{202e}\u{2028}] msgs: 1 "), "{line}");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "{text}");
}

#[tokio::test]
async fn the_text_of_an_empty_node_says_none() {
    let nsqd = TestNsqd::start().await;
    for path in ["/stats?include_mem=false", "/stats?format=JSON&include_mem=0&topic=unknown"] {
        let body = nsqd.get(path).await.body;
        assert!(body.ends_with("\n\nHealth: OK\n\nTopics: None\n\nProducers: None\n"), "{body:?}");
    }
    let body = nsqd.get("/stats").await.body;
    assert!(body.contains("\n\nHealth: OK\n\nMemory:\n   heap_objects             \t0\n   heap_idle_bytes          \t"), "{body:?}");
    assert!(body.contains("\n   gc_total_runs            \t0\n\nTopics: None\n"), "{body:?}");
    nsqd.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_asks_for_the_figures_waits_and_everyone_sees_what_it_did_before() {
    let nsqd = TestNsqd::start().await;
    for number in 0..200 {
        nsqd.post(&format!("/topic/create?topic=t{number}%23ephemeral"), "").await;
    }
    let limit = r#"nsqd_limit_reached_total{limit="stats"} 0"#;
    let mut round = 0;
    while nsqd.get("/metrics").await.body.contains(limit) {
        round += 1;
        let ask = || nsqd.get("/stats?format=json");
        let created = async {
            let path = format!("/channel/create?topic=t0%23ephemeral&channel=c{round}%23ephemeral");
            assert_eq!(nsqd.post(&path, "").await.status, 200);
            let stats = nsqd.get("/stats?format=json").await.body;
            assert!(stats.contains(&format!("\"c{round}#ephemeral\"")), "{round}");
        };
        let (a, b, c, d, e, ()) = tokio::join!(ask(), ask(), ask(), ask(), ask(), created);
        assert!([a, b, c, d, e].iter().all(|answer| answer.status == 200));
    }
    nsqd.stop().await;
}
