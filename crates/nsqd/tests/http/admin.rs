//! `/topic/*` and `/channel/*`.

use nsq_daemon::log::Logger;
use nsq_protocol::Command;
use serde_json::{Value, json};

use crate::harness::TestNsqd;

/// The topics with their channels, such as `t[c d] u[]`.
async fn names(nsqd: &TestNsqd) -> String {
    let stats = nsqd.stats("").await;
    let list = |value: &Value| value.as_array().unwrap().clone();
    let name = |value: &Value, key: &str| value[key].as_str().unwrap().to_owned();
    let channels = |topic: &Value| {
        let channels = list(&topic["channels"]);
        channels.iter().map(|channel| name(channel, "channel_name")).collect::<Vec<_>>().join(" ")
    };
    let topics = list(&stats["topics"]);
    let topics =
        topics.iter().map(|topic| format!("{}[{}]", name(topic, "topic_name"), channels(topic)));
    topics.collect::<Vec<_>>().join(" ")
}

async fn with_channel() -> TestNsqd {
    let nsqd = TestNsqd::start().await;
    for path in ["/topic/create?topic=t", "/channel/create?topic=t&channel=c"] {
        let answer = nsqd.post(path, "").await;
        assert_eq!(answer.brief(), (200, ""), "{path}");
        assert_eq!(
            (answer.header("Content-Length"), answer.header("Content-Type")),
            (Some("0"), None)
        );
        assert_eq!(answer.header("X-Nsq-Content-Type"), Some("nsq; version=1.0"));
    }
    nsqd
}

#[tokio::test]
async fn topics_and_channels_are_created_once_and_deleted() {
    let nsqd = with_channel().await;
    for path in [
        "/topic/create?topic=t",
        "/channel/create?topic=t&channel=c",
        "/channel/create?topic=t&channel=d",
    ] {
        assert_eq!(nsqd.post(path, "ignored").await.brief(), (200, ""), "{path}");
    }
    assert_eq!(names(&nsqd).await, "t[c d]");
    assert_eq!(nsqd.post("/channel/delete?topic=t&channel=c", "").await.brief(), (200, ""));
    assert_eq!(names(&nsqd).await, "t[d]");
    assert_eq!(nsqd.post("/topic/delete?topic=t", "").await.brief(), (200, ""));
    assert_eq!(names(&nsqd).await, "");
    assert_eq!(nsqd.post("/topic/delete?topic=t", "").await.refusal(), (404, "TOPIC_NOT_FOUND"));
    nsqd.stop().await;
}

#[tokio::test]
async fn each_topic_call_has_its_own_words_for_what_is_wrong() {
    let nsqd = TestNsqd::start().await;
    for (path, refusal) in [
        ("/topic/create?topic=%zz", (400, "INVALID_REQUEST")),
        ("/topic/create", (400, "MISSING_ARG_TOPIC")),
        ("/topic/create?topic=a%20b", (400, "INVALID_TOPIC")),
        ("/topic/delete?a;b", (400, "INVALID_REQUEST")),
        ("/topic/delete", (400, "MISSING_ARG_TOPIC")),
        ("/topic/delete?topic=a%20b", (404, "TOPIC_NOT_FOUND")),
        ("/topic/empty?topic=%z", (400, "INVALID_REQUEST")),
        ("/topic/empty", (400, "MISSING_ARG_TOPIC")),
        ("/topic/empty?topic=a%20b", (400, "INVALID_TOPIC")),
        ("/topic/empty?topic=none", (404, "TOPIC_NOT_FOUND")),
        ("/topic/pause?topic=%z", (400, "INVALID_REQUEST")),
        ("/topic/pause", (400, "MISSING_ARG_TOPIC")),
        ("/topic/pause?topic=a%20b", (404, "TOPIC_NOT_FOUND")),
        ("/topic/unpause", (400, "MISSING_ARG_TOPIC")),
        ("/topic/unpause?topic=none", (404, "TOPIC_NOT_FOUND")),
    ] {
        assert_eq!(nsqd.post(path, "").await.refusal(), refusal, "{path}");
    }
    assert_eq!(names(&nsqd).await, "");
    nsqd.stop().await;
}

#[tokio::test]
async fn channel_calls_check_the_topic_then_the_channel_then_what_there_is() {
    let nsqd = with_channel().await;
    for call in ["create", "delete", "empty", "pause", "unpause"] {
        for (params, refusal) in [
            ("topic=%zz", (400, "INVALID_REQUEST")),
            ("channel=a%20b", (400, "MISSING_ARG_TOPIC")),
            ("topic=a%20b", (400, "INVALID_ARG_TOPIC")),
            ("topic=none", (400, "MISSING_ARG_CHANNEL")),
            ("topic=none&channel=a%20b", (400, "INVALID_ARG_CHANNEL")),
            ("topic=none&channel=none", (404, "TOPIC_NOT_FOUND")),
        ] {
            let path = format!("/channel/{call}?{params}");
            assert_eq!(nsqd.post(&path, "").await.refusal(), refusal, "{path}");
        }
        if call != "create" {
            let path = format!("/channel/{call}?topic=t&channel=none");
            assert_eq!(nsqd.post(&path, "").await.refusal(), (404, "CHANNEL_NOT_FOUND"));
        }
    }
    assert_eq!(names(&nsqd).await, "t[c]");
    nsqd.stop().await;
}

#[tokio::test]
async fn emptying_a_topic_drops_what_waits_at_it_and_not_what_its_channels_have() {
    let nsqd = with_channel().await;
    nsqd.post("/mpub?topic=t", "1\n2").await;
    nsqd.post("/topic/pause?topic=t", "").await;
    nsqd.post("/mpub?topic=t", "3\n4\n5").await;
    let depths = |stats: Value| {
        let topic = &stats["topics"][0];
        (topic["depth"].as_u64().unwrap(), topic["channels"][0]["depth"].as_u64().unwrap())
    };
    assert_eq!(depths(nsqd.stats("").await), (3, 2));
    assert_eq!(nsqd.post("/topic/empty?topic=t", "").await.brief(), (200, ""));
    assert_eq!(depths(nsqd.stats("").await), (0, 2));
    nsqd.stop().await;
}

#[tokio::test]
async fn emptying_a_channel_drops_what_is_ready_in_flight_and_deferred() {
    let nsqd = with_channel().await;
    nsqd.post("/mpub?topic=t", "1\n2\n3").await;
    nsqd.post("/pub?topic=t&defer=60000", "4").await;
    let mut consumer = nsqd.subscribe("t", "c").await;
    consumer.send(Command::Rdy(1)).await;
    let (id, _) = consumer.message().await;
    let figures = |stats: Value| {
        let channel = &stats["topics"][0]["channels"][0];
        ["depth", "in_flight_count", "deferred_count"].map(|key| channel[key].as_u64().unwrap())
    };
    assert_eq!(figures(nsqd.stats("").await), [2, 1, 1]);
    // Nothing more is handed out while this is looked at.
    consumer.send(Command::Rdy(0)).await;
    nsqd.stats_until("", |stats| {
        stats["topics"][0]["channels"][0]["clients"][0]["ready_count"] == 0
    })
    .await;
    assert_eq!(nsqd.post("/channel/empty?topic=t&channel=c", "").await.brief(), (200, ""));
    assert_eq!(figures(nsqd.stats("").await), [0, 0, 0]);
    consumer.send(Command::Fin(id)).await;
    assert!(consumer.response().await.starts_with("E_FIN_FAILED "));
    nsqd.stop().await;
}

#[tokio::test]
async fn a_paused_channel_delivers_nothing_until_it_is_unpaused() {
    let nsqd = with_channel().await;
    let mut consumer = nsqd.subscribe("t", "c").await;
    consumer.send(Command::Rdy(10)).await;
    assert_eq!(nsqd.post("/channel/pause?topic=t&channel=c", "").await.brief(), (200, ""));
    assert!(
        nsqd.metadata().contains(r#"{"name":"c","paused":true}"#),
        "it is written before the answer"
    );
    nsqd.post("/pub?topic=t", "late").await;
    let stats = nsqd.stats("").await;
    let channel = &stats["topics"][0]["channels"][0];
    assert_eq!((&channel["paused"], &channel["depth"]), (&json!(true), &json!(1)));
    assert_eq!(nsqd.post("/channel/unpause?topic=t&channel=c", "").await.brief(), (200, ""));
    assert!(nsqd.metadata().contains(r#"{"name":"c","paused":false}"#));
    assert_eq!(consumer.message().await.1, "late");
    nsqd.stop().await;
}

#[tokio::test]
async fn a_paused_topic_hands_nothing_to_its_channels_until_it_is_unpaused() {
    let nsqd = with_channel().await;
    assert_eq!(nsqd.post("/topic/pause?topic=t", "").await.brief(), (200, ""));
    assert!(
        nsqd.metadata().contains(r#"{"name":"t","paused":true"#),
        "it is written before the answer"
    );
    nsqd.post("/pub?topic=t", "late").await;
    let stats = nsqd.stats("").await;
    let topic = &stats["topics"][0];
    assert_eq!(
        (&topic["paused"], &topic["depth"], &topic["channels"][0]["depth"]),
        (&json!(true), &json!(1), &json!(0))
    );
    assert_eq!(nsqd.post("/topic/unpause?topic=t", "").await.brief(), (200, ""));
    assert!(nsqd.metadata().contains(r#"{"name":"t","paused":false"#));
    assert_eq!(nsqd.drain("t", "c", 1).await, ["late"]);
    nsqd.stop().await;
}

#[tokio::test]
async fn pauses_outlive_a_restart() {
    let nsqd = with_channel().await;
    nsqd.post("/topic/pause?topic=t", "").await;
    nsqd.post("/channel/pause?topic=t&channel=c", "").await;
    let folder = nsqd.stop().await;
    let nsqd = TestNsqd::start_in(folder, |_| {}, Logger::discard()).await;
    let stats = nsqd.stats("").await;
    let topic = &stats["topics"][0];
    assert_eq!((&topic["paused"], &topic["channels"][0]["paused"]), (&json!(true), &json!(true)));
    nsqd.stop().await;
}

#[tokio::test]
async fn deleting_a_channel_closes_its_consumers() {
    let nsqd = with_channel().await;
    let mut consumer = nsqd.subscribe("t", "c").await;
    assert_eq!(nsqd.post("/channel/delete?topic=t&channel=c", "").await.brief(), (200, ""));
    consumer.end().await;
    nsqd.post("/channel/create?topic=t&channel=c", "").await;
    assert_eq!(nsqd.stats("").await["topics"][0]["channels"][0]["client_count"], 0);
    nsqd.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_meanwhile_is_not_found_and_no_failure() {
    let nsqd = TestNsqd::start().await;
    let changes = [
        "/topic/empty?topic=t",
        "/topic/pause?topic=t",
        "/channel/create?topic=t&channel=d",
        "/channel/empty?topic=t&channel=c",
        "/channel/pause?topic=t&channel=c",
        "/channel/delete?topic=t&channel=c",
    ];
    for round in 0..60 {
        for path in ["/topic/create?topic=t", "/channel/create?topic=t&channel=c"] {
            assert_eq!(nsqd.post(path, "").await.status, 200);
        }
        nsqd.post("/mpub?topic=t", "a\nb\nc").await;
        let change = changes[round % changes.len()];
        let (changed, again, deleted) = tokio::join!(
            nsqd.post(change, ""),
            nsqd.post(change, ""),
            nsqd.post("/topic/delete?topic=t", "")
        );
        assert_eq!(deleted.status, 200);
        for answer in [changed, again] {
            assert!([200, 404].contains(&answer.status), "{change}: {answer:?}");
        }
    }
    nsqd.stop().await;
}
