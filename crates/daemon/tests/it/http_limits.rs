//! The limits of bodies and heads.

use crate::harness::{BODY_BYTES_MAX, TestServer};

#[tokio::test]
async fn a_body_of_the_limit_is_taken_and_one_byte_more_is_not() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    let body = "x".repeat(BODY_BYTES_MAX);
    client
        .send(format!("POST /pub?topic=t HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY_BYTES_MAX}\r\n\r\n{body}"))
        .await;
    assert_eq!(client.answer().await.body, format!("t:{body}"));

    let length = BODY_BYTES_MAX + 1;
    client
        .send(format!(
            "POST /pub?topic=t HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}y"
        ))
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.status_line, "HTTP/1.1 413 Request Entity Too Large");
    assert_eq!(answer.body, r#"{"message":"MSG_TOO_BIG"}"#);
    // So little was left that it was read away.
    assert_eq!(answer.header("Connection"), None);
    client.send("GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.body, "OK");
}

#[tokio::test]
async fn a_chunked_body_is_held_to_the_same_limit() {
    let server = TestServer::start().await;
    let head = "POST /pub?topic=t HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let half = BODY_BYTES_MAX / 2;
    let chunk = format!("{half:x}\r\n{}\r\n", "x".repeat(half));
    let mut client = server.connect().await;
    client.send(format!("{head}{chunk}{chunk}0\r\n\r\n")).await;
    assert_eq!(client.answer().await.body, format!("t:{}", "x".repeat(BODY_BYTES_MAX)));
    client.send(format!("{head}{chunk}{chunk}1\r\ny\r\n0\r\n\r\n")).await;
    assert_eq!(client.answer().await.status_line, "HTTP/1.1 413 Request Entity Too Large");
    client.send("GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.body, "OK");
}

#[tokio::test]
async fn the_refusal_of_a_huge_body_reaches_a_client_that_goes_on_sending() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    client.send("POST /pub?topic=t HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n").await;
    client.send(vec![b'x'; 100_000]).await;
    let answer = client.answer().await;
    assert_eq!(answer.status_line, "HTTP/1.1 413 Request Entity Too Large");
    assert_eq!(answer.header("Connection").map(str::to_lowercase).as_deref(), Some("close"));
    assert_eq!(answer.body, r#"{"message":"MSG_TOO_BIG"}"#);
    assert_eq!(client.read_to_end().await, "");
}

#[tokio::test]
async fn a_client_is_told_to_go_on_only_when_its_body_is_wanted() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    client
        .send("POST /pub?topic=t HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status_line, "HTTP/1.1 100 Continue");
    client.send("hi").await;
    assert_eq!(client.answer().await.body, "t:hi");

    client
        .send("POST /pub?topic=t HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9999\r\n\r\n")
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.status_line, "HTTP/1.1 413 Request Entity Too Large");
    assert_eq!(answer.header("Connection").map(str::to_lowercase).as_deref(), Some("close"));
    assert_eq!(client.read_to_end().await, "");

    let answer = server
        .ask("POST /pub?topic=t HTTP/1.1\r\nHost: x\r\nExpect: more\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(answer.status_line, "HTTP/1.1 417 Expectation Failed");
}

#[tokio::test]
async fn a_body_that_ends_early_is_a_failed_read() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    client.send("POST /pub?topic=t HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nshort").await;
    client.close_write().await;
    let answer = client.answer().await;
    assert_eq!(answer.status_line, "HTTP/1.1 500 Internal Server Error");
    assert_eq!(answer.body, r#"{"message":"INTERNAL_ERROR"}"#);
}

#[tokio::test]
async fn a_head_without_bounds_is_refused() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    let long = "x".repeat(nsq_daemon::http::HEAD_BYTES_MAX);
    client.send(format!("GET /ping HTTP/1.1\r\nHost: x\r\nLong: {long}\r\n\r\n")).await;
    let answer = client.answer().await;
    assert_eq!(answer.status_line, "HTTP/1.1 431 Request Header Fields Too Large");
    assert_eq!(answer.body, "431 Request Header Fields Too Large");
    assert_eq!(client.read_to_end().await, "");

    let mut client = server.connect().await;
    let many = "A: b\r\n".repeat(nsq_daemon::http::HEADERS_MAX + 1);
    client.send(format!("GET /ping HTTP/1.1\r\nHost: x\r\n{many}\r\n")).await;
    let answer = client.answer().await;
    assert_eq!(answer.status_line, "HTTP/1.1 431 Request Header Fields Too Large");
}
