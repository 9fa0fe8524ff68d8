//! `/pub` and `/mpub`.

use nsq_daemon::log::{Capture, Level, Logger};
use nsq_log::Durability;
use serde_json::json;

use crate::harness::TestNsqd;

fn small_limits(options: &mut nsqd::Options) {
    options.limits.message_bytes_max = 10;
    options.limits.body_bytes_max = 40;
}

/// A body in the form of MPUB: the number of messages, then each with its size.
fn counted(count: i32, messages: &[&str]) -> Vec<u8> {
    let mut body = count.to_be_bytes().to_vec();
    for message in messages {
        body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        body.extend(message.as_bytes());
    }
    body
}

#[tokio::test]
async fn a_published_body_is_one_message() {
    let nsqd = TestNsqd::start().await;
    let answer = nsqd.post("/pub?topic=t", "one\ntwo\r\n").await;
    assert_eq!(answer.brief(), (200, "OK"));
    assert_eq!(answer.header("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.header("X-Nsq-Content-Type"), Some("nsq; version=1.0"));
    assert_eq!(nsqd.drain("t", "c", 1).await, ["one\ntwo\r\n"]);
    nsqd.stop().await;
}

#[tokio::test]
async fn a_publish_is_refused_in_the_order_of_the_checks() {
    let nsqd = TestNsqd::start_with(small_limits).await;
    // Each request is wrong in all that follows as well.
    for (path, body, refusal) in [
        ("/pub?topic=%zz&defer=x", "12345678901", (413, "MSG_TOO_BIG")),
        ("/pub?topic=%zz&defer=x", "", (400, "MSG_EMPTY")),
        ("/pub?topic=%zz&defer=x", "b", (400, "INVALID_REQUEST")),
        ("/pub?topic=a;b", "b", (400, "INVALID_REQUEST")),
        ("/pub?Topic=t&defer=x", "b", (400, "MISSING_ARG_TOPIC")),
        ("/pub?topic=&defer=x", "b", (400, "INVALID_TOPIC")),
        ("/pub?topic=a%20b&topic=t&defer=x", "b", (400, "INVALID_TOPIC")),
    ] {
        assert_eq!(nsqd.post(path, body).await.refusal(), refusal, "{path} {body}");
    }
    assert_eq!(nsqd.stats("").await["topics"], json!([]));
    assert_eq!(nsqd.post("/pub?topic=t&defer=x", "b").await.refusal(), (400, "INVALID_DEFER"));
    assert_eq!(
        nsqd.stats("").await["topics"][0]["topic_name"],
        "t",
        "the topic is made before the delay is read"
    );
    nsqd.stop().await;
}

#[tokio::test]
async fn the_size_of_a_message_is_limited_with_and_without_chunks() {
    let nsqd = TestNsqd::start_with(small_limits).await;
    assert_eq!(nsqd.post("/pub?topic=t", "1234567890").await.brief(), (200, "OK"));
    let chunked = |chunks: &str| {
        format!(
            "POST /pub?topic=t HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
        )
    };
    let mut http = nsqd.send(chunked("5\r\nabcde\r\n5\r\nfghij\r\n")).await;
    assert_eq!(http.answer().await.brief(), (200, "OK"));
    let mut http = nsqd.send(chunked("5\r\nabcde\r\n6\r\nfghijk\r\n")).await;
    assert_eq!(http.answer().await.refusal(), (413, "MSG_TOO_BIG"));
    assert_eq!(nsqd.drain("t", "c", 2).await, ["1234567890", "abcdefghij"]);
    nsqd.stop().await;
}

#[tokio::test]
async fn a_body_that_ends_early_is_not_published() {
    let nsqd = TestNsqd::start().await;
    let mut http =
        nsqd.send("POST /pub?topic=t HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nshort").await;
    http.close_write().await;
    assert_eq!(http.answer().await.refusal(), (500, "INTERNAL_ERROR"));
    assert_eq!(nsqd.stats("").await["topics"], json!([]));
    nsqd.stop().await;
}

#[tokio::test]
async fn a_large_body_is_refused_before_it_is_sent() {
    let nsqd = TestNsqd::start().await;
    for (path, length, message) in [
        ("/pub?topic=t", (1 << 20) + 1, "MSG_TOO_BIG"),
        ("/mpub?topic=%zz", (5 << 20) + 1, "BODY_TOO_BIG"),
    ] {
        let expect = "Expect: 100-continue";
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{expect}\r\n\r\n"
        );
        let answer = nsqd.send(head).await.answer().await;
        assert_eq!(answer.refusal(), (413, message));
        assert_eq!(answer.header("Connection"), Some("close"));
    }
    nsqd.stop().await;
}

#[tokio::test]
async fn a_deferred_message_waits_at_the_channel() {
    let nsqd = TestNsqd::start().await;
    nsqd.post("/topic/create?topic=t", "").await;
    nsqd.post("/channel/create?topic=t&channel=c", "").await;
    for (defer, answer) in [
        ("3600000", (200, "OK")),
        ("%2B60000", (200, "OK")),
        ("0", (200, "OK")),
        ("-0", (200, "OK")),
        ("3600001", (400, r#"{"message":"INVALID_DEFER"}"#)),
        ("-1", (400, r#"{"message":"INVALID_DEFER"}"#)),
        ("", (400, r#"{"message":"INVALID_DEFER"}"#)),
        ("1.5", (400, r#"{"message":"INVALID_DEFER"}"#)),
        ("1_000", (400, r#"{"message":"INVALID_DEFER"}"#)),
        ("+5", (400, r#"{"message":"INVALID_DEFER"}"#)),
        ("99999999999999999999", (400, r#"{"message":"INVALID_DEFER"}"#)),
        ("9223372036854775807", (400, r#"{"message":"INVALID_DEFER"}"#)),
    ] {
        let path = format!("/pub?topic=t&defer={defer}");
        assert_eq!(nsqd.post(&path, defer).await.status, answer.0, "{defer}");
        if answer.0 != 200 {
            assert_eq!(nsqd.post(&path, "x").await.brief(), answer, "{defer}");
        }
    }
    let stats = nsqd.stats("").await;
    let channel = &stats["topics"][0]["channels"][0];
    assert_eq!((&channel["deferred_count"], &channel["depth"]), (&json!(2), &json!(2)));
    nsqd.stop().await;
}

#[tokio::test]
async fn every_line_that_is_not_empty_is_a_message() {
    let nsqd = TestNsqd::start().await;
    assert_eq!(nsqd.post("/mpub?topic=t", "\n\na\r\n\nb c\n\r\nlast").await.brief(), (200, "OK"));
    assert_eq!(
        nsqd.post("/mpub?topic=t&binary=false&defer=x", "more\n").await.brief(),
        (200, "OK")
    );
    assert_eq!(nsqd.drain("t", "c", 5).await, ["a\r", "b c", "\r", "last", "more"]);
    nsqd.stop().await;
}

#[tokio::test]
async fn a_batch_of_nothing_makes_the_topic_and_no_message() {
    let nsqd = TestNsqd::start().await;
    for body in ["", "\n", "\n\n\n"] {
        assert_eq!(nsqd.post("/mpub?topic=t", body).await.brief(), (200, "OK"));
    }
    let stats = nsqd.stats("").await;
    assert_eq!(
        (&stats["topics"][0]["topic_name"], &stats["topics"][0]["depth"]),
        (&json!("t"), &json!(0))
    );
    nsqd.stop().await;
}

#[tokio::test]
async fn a_batch_with_one_wrong_message_is_refused_as_a_whole() {
    let nsqd = TestNsqd::start_with(small_limits).await;
    let too_long = "x".repeat(41);
    for (path, body, refusal) in [
        ("/mpub?topic=t", b"good\n12345678901\ngood".to_vec(), (413, "MSG_TOO_BIG")),
        ("/mpub?topic=t", too_long.into_bytes(), (413, "BODY_TOO_BIG")),
        ("/mpub?topic=t&binary=true", Vec::new(), (413, "BAD_BODY")),
        ("/mpub?topic=t&binary=true", vec![0, 0, 1], (413, "BAD_BODY")),
        ("/mpub?topic=t&binary=true", counted(0, &[]), (413, "BAD_BODY")),
        ("/mpub?topic=t&binary=true", counted(-1, &["a"]), (413, "BAD_BODY")),
        // (40 - 4) / 5 is 7.
        ("/mpub?topic=t&binary=true", counted(8, &["a"]), (413, "BAD_BODY")),
        ("/mpub?topic=t&binary=true", counted(2, &["a"]), (413, "BAD_MESSAGE")),
        ("/mpub?topic=t&binary=true", counted(2, &["a", ""]), (413, "BAD_MESSAGE")),
        ("/mpub?topic=t&binary=true", counted(2, &["a", "12345678901"]), (413, "BAD_MESSAGE")),
        (
            "/mpub?topic=t&binary=true",
            [counted(2, &["a"]), vec![0, 0, 0, 9, b'x']].concat(),
            (413, "BAD_MESSAGE"),
        ),
        (
            "/mpub?topic=t&binary=true",
            [counted(1, &[]), vec![255; 5]].concat(),
            (413, "BAD_MESSAGE"),
        ),
    ] {
        assert_eq!(nsqd.post(path, &body).await.refusal(), refusal, "{path} {body:?}");
    }
    assert_eq!(nsqd.stats("").await["topics"][0]["message_count"], 0);
    nsqd.stop().await;
}

#[tokio::test]
async fn a_body_in_chunks_is_limited_in_total() {
    let nsqd = TestNsqd::start_with(small_limits).await;
    for params in ["", "&binary=true"] {
        let head = format!(
            "POST /mpub?topic=t{params} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let body = [counted(1, &["a"]), vec![b'\n'; 32]].concat();
        let mut http =
            nsqd.send([head.as_bytes(), b"29\r\n", &body, b"\r\n0\r\n\r\n"].concat()).await;
        assert_eq!(http.answer().await.refusal(), (413, "BODY_TOO_BIG"), "{params}");
    }
    nsqd.stop().await;
}

#[tokio::test]
async fn a_binary_body_is_what_any_value_but_false_says() {
    let log = Capture::new();
    let nsqd =
        TestNsqd::start_logging(|_| {}, Logger::with_sink("", Level::Warn, log.clone())).await;
    let body = [counted(2, &["a\nb", "c"]), b"rest".to_vec()].concat();
    for (index, params) in
        ["binary=true", "binary=1", "binary", "binary=no"].into_iter().enumerate()
    {
        let answer = nsqd.post(&format!("/mpub?topic=t{index}&{params}"), &body).await;
        assert_eq!(answer.brief(), (200, "OK"), "{params}");
        assert_eq!(nsqd.drain(&format!("t{index}"), "c", 2).await, ["a\nb", "c"], "{params}");
    }
    let warnings = ["", "no"]
        .map(|value| format!("WARNING: deprecated value '{value}' used for /mpub binary param"));
    assert_eq!(log.texts(), warnings);
    assert_eq!(nsqd.post("/mpub?topic=t&binary=0", "a\nb").await.brief(), (200, "OK"));
    assert_eq!(nsqd.drain("t", "c", 2).await, ["a", "b"]);
    nsqd.stop().await;
}

#[tokio::test]
async fn a_batch_is_refused_for_its_topic_before_its_body_is_read() {
    let nsqd = TestNsqd::start().await;
    for (path, refusal) in [
        ("/mpub?topic=%zz", (400, "INVALID_REQUEST")),
        ("/mpub", (400, "MISSING_ARG_TOPIC")),
        ("/mpub?topic=a%20b", (400, "INVALID_TOPIC")),
    ] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n");
        let mut http = nsqd.send(head).await;
        http.send("a\nb\nc").await;
        assert_eq!(http.answer().await.refusal(), refusal, "{path}");
    }
    nsqd.stop().await;
}

#[tokio::test]
async fn at_level_fsync_an_answer_waits_for_the_disk_and_comes() {
    let nsqd = TestNsqd::start_with(|options| options.durability = Durability::Fsync).await;
    assert_eq!(nsqd.post("/pub?topic=t", "a").await.brief(), (200, "OK"));
    assert_eq!(nsqd.post("/mpub?topic=t", "b\nc").await.brief(), (200, "OK"));
    assert_eq!(nsqd.drain("t", "c", 3).await, ["a", "b", "c"]);
    // There is nothing on the disk to wait for.
    assert_eq!(nsqd.post("/pub?topic=t%23ephemeral", "d").await.brief(), (200, "OK"));
    nsqd.stop().await;
}
