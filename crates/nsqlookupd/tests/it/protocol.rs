//! The TCP protocol from nsqd's side.

use nsq_protocol::v1::Command;
use serde_json::{Value, json};

use crate::harness::{TestLookupd, identity};

/// Sends bytes and returns the responses until the connection is closed.
async fn told(bytes: impl AsRef<[u8]>) -> Vec<String> {
    let lookupd = TestLookupd::start().await;
    let mut conn = lookupd.connect().await;
    conn.send(bytes).await;
    conn.responses().await
}

fn after_identify(lines: &str) -> Vec<u8> {
    let mut bytes = b"  V1".to_vec();
    Command::Identify(identity("a").as_bytes()).encode(&mut bytes);
    bytes.extend_from_slice(lines.as_bytes());
    bytes
}

#[tokio::test]
async fn a_client_may_ping_before_it_identifies_itself() {
    let lookupd = TestLookupd::start().await;
    let mut conn = lookupd.client().await;
    conn.send("PING\nPING a b\n  PING  \r\n").await;
    for _ in 0..3 {
        assert_eq!(conn.response().await, "OK");
    }
    assert_eq!(lookupd.get("/nodes").await.body, "{\"producers\":[]}");
}

#[tokio::test]
async fn another_magic_is_answered_and_the_connection_closed() {
    for magic in ["  V2", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        assert_eq!(told(magic).await, ["E_BAD_PROTOCOL"]);
    }
}

#[tokio::test]
async fn a_magic_that_does_not_come_is_not_answered() {
    let lookupd = TestLookupd::start().await;
    let mut conn = lookupd.connect().await;
    conn.send("  V").await;
    conn.finish_sending().await;
    assert_eq!(conn.rest().await, b"");
    lookupd.logged("ERROR: failed to read protocol version - EOF").await;
}

#[tokio::test]
async fn the_answer_to_identify_says_where_to_ask() {
    let lookupd = TestLookupd::start().await;
    let mut conn = lookupd.client().await;
    let answer = conn.command(Command::Identify(identity("a").as_bytes())).await;
    let value: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(value["tcp_port"], lookupd.tcp.port());
    assert_eq!(value["http_port"], lookupd.http.port());
    assert!(!value["hostname"].as_str().unwrap().is_empty());
    let keys = ["broadcast_address", "hostname", "http_port", "tcp_port", "version"];
    let order = keys.map(|key| answer.find(&format!("\"{key}\":")).unwrap());
    assert!(order.is_sorted() && value.as_object().unwrap().len() == keys.len(), "{answer}");
    assert!(answer.starts_with("{\"broadcast_address\":\"lookup.example\","), "{answer}");
    assert!(answer.ends_with("\"version\":\"1.3.0\"}"), "{answer}");
}

#[tokio::test]
async fn an_identity_that_cannot_be_used_ends_the_connection() {
    for (body, text) in [
        ("{}", "E_BAD_BODY IDENTIFY missing fields"),
        ("null", "E_BAD_BODY IDENTIFY missing fields"),
        ("{", "E_BAD_BODY IDENTIFY failed to decode JSON body"),
        ("", "E_BAD_BODY IDENTIFY failed to decode JSON body"),
    ] {
        let mut bytes = b"  V1".to_vec();
        Command::Identify(body.as_bytes()).encode(&mut bytes);
        assert_eq!(told(&bytes).await, [text], "{body}");
    }
}

#[tokio::test]
async fn a_client_identifies_itself_once() {
    let mut bytes = after_identify("");
    bytes.extend_from_slice(&after_identify("")[4..]);
    let told = told(&bytes).await;
    assert_eq!(told[1..], ["E_INVALID cannot IDENTIFY again"]);
}

#[tokio::test]
async fn only_an_identified_client_registers() {
    for line in ["REGISTER t\n", "REGISTER\n", "UNREGISTER t c\n"] {
        let told = told(format!("  V1{line}")).await;
        assert_eq!(told, ["E_INVALID client must IDENTIFY"]);
    }
}

#[tokio::test]
async fn commands_in_one_piece_are_answered_in_order_until_one_is_refused() {
    let lines = "REGISTER t\nREGISTER t c\nUNREGISTER nope\nPING\nREGISTER t*\nPING\n";
    let told = told(after_identify(lines)).await;
    let refusal = "E_BAD_TOPIC REGISTER topic name 't*' is not valid";
    assert_eq!(told[1..], ["OK", "OK", "OK", "OK", refusal]);
}

#[tokio::test]
async fn commands_byte_by_byte_are_understood() {
    let lookupd = TestLookupd::start().await;
    let mut conn = lookupd.connect().await;
    for byte in after_identify("REGISTER t c\r\n") {
        conn.send([byte]).await;
    }
    assert!(conn.response().await.starts_with('{'));
    assert_eq!(conn.response().await, "OK");
    assert_eq!(lookupd.producers("t").await, ["a"]);
}

#[tokio::test]
async fn a_client_that_leaves_inside_a_body_is_told_what_is_missing() {
    for (bytes, expected) in [
        (&b"  V1IDENTIFY\n\0\0"[..], &["E_BAD_BODY IDENTIFY failed to read body size"][..]),
        (b"  V1IDENTIFY\n\0\0\0\x09{", &["E_BAD_BODY IDENTIFY failed to read body"]),
        (b"  V1PING\nPIN", &["OK"]),
    ] {
        let lookupd = TestLookupd::start().await;
        let mut conn = lookupd.connect().await;
        conn.send(bytes).await;
        conn.finish_sending().await;
        assert_eq!(conn.responses().await, expected);
    }
}

#[tokio::test]
async fn the_log_tells_the_life_of_a_client() {
    let lookupd = TestLookupd::start().await;
    let mut conn = lookupd.nsqd("a").await;
    let who = conn.address();
    conn.register("t", Some("c")).await;
    conn.unregister("t", None).await;
    assert_eq!(conn.command(Command::Ping).await, "OK");
    drop(conn);
    lookupd.logged(&format!("INFO: client({who}) - EOF")).await;
    let lines = lookupd.log.texts();
    let of_client: Vec<_> = lines
        .iter()
        .filter(|line| line.contains(&who.to_string()))
        .map(|line| line.replace(&who.to_string(), "X"))
        .map(|line| match line.find("(last ping ") {
            Some(at) => line[..at].to_owned(),
            None => line,
        })
        .collect();
    let expected = [
        "INFO: TCP: new client(X)",
        "INFO: CLIENT(X): desired protocol magic '  V1'",
        "INFO: CLIENT(X): IDENTIFY Address:a TCP:4150 HTTP:4151 Version:1.3.0",
        "INFO: DB: client(X) REGISTER category:client key: subkey:",
        "INFO: DB: client(X) REGISTER category:channel key:t subkey:c",
        "INFO: DB: client(X) REGISTER category:topic key:t subkey:",
        "WARNING: client(X) unexpected UNREGISTER category:channel key:t subkey:c",
        "INFO: DB: client(X) UNREGISTER category:topic key:t subkey:",
        "INFO: CLIENT(X): pinged ",
        "INFO: PROTOCOL(V1): [X] exiting ioloop",
        "INFO: DB: client(X) UNREGISTER category:client key: subkey:",
        "INFO: client(X) - EOF",
    ];
    assert_eq!(of_client, expected);
}

#[tokio::test]
async fn a_refusal_is_logged_and_ends_the_registrations() {
    let lookupd = TestLookupd::start().await;
    let mut conn = lookupd.nsqd("a").await;
    conn.register("t", None).await;
    conn.send("REGISTER a b c'\nnope\n").await;
    assert_eq!(conn.responses().await, ["OK", "E_INVALID invalid command nope"]);
    let who = conn.address();
    lookupd.logged(&format!("ERROR: [{who}] - E_INVALID invalid command nope")).await;
    assert_eq!(lookupd.json("/nodes").await, json!({"producers": []}));
    assert_eq!(lookupd.json("/topics").await, json!({"topics": ["a", "t"]}));
}
