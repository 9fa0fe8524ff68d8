//! Hostile and broken clients.

use std::time::Duration;

use nsq_protocol::{LINE_BYTES_MAX, v1};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{TestLookupd, identity, soon};

#[tokio::test]
async fn an_impossible_body_size_is_refused_and_nothing_else_happens() {
    let lookupd = TestLookupd::start().await;
    let too_big = v1::IDENTIFY_BYTES_MAX + 1;
    for (size, text) in [
        (-1, "E_BAD_BODY IDENTIFY failed to read body size".to_owned()),
        (i32::MIN, "E_BAD_BODY IDENTIFY failed to read body size".to_owned()),
        (
            i32::try_from(too_big).unwrap(),
            format!("E_BAD_BODY IDENTIFY body too big {too_big} > {}", v1::IDENTIFY_BYTES_MAX),
        ),
    ] {
        let mut conn = lookupd.client().await;
        conn.send([b"IDENTIFY\n", &size.to_be_bytes()[..]].concat()).await;
        assert_eq!(conn.responses().await, [text]);
    }
    assert_eq!(lookupd.get("/ping").await.body, "OK");
    assert_eq!(lookupd.reached("command-size").await, 1);
}

#[tokio::test]
async fn a_line_without_an_end_is_refused() {
    let lookupd = TestLookupd::start().await;
    let mut conn = lookupd.client().await;
    // More than the limit is in flight when the connection is refused, and the response arrives nevertheless.
    conn.send(vec![b'x'; 3 * LINE_BYTES_MAX]).await;
    let text = format!("E_INVALID command line is longer than {LINE_BYTES_MAX} bytes");
    assert_eq!(conn.responses().await, [text]);
    assert_eq!(lookupd.reached("command-size").await, 1);
}

#[tokio::test]
async fn the_largest_identity_is_accepted() {
    let lookupd = TestLookupd::start().await;
    let mut conn = lookupd.client().await;
    let mut body = identity("a").into_bytes();
    body.resize(v1::IDENTIFY_BYTES_MAX, b' ');
    let answer = conn.command(v1::Command::Identify(&body)).await;
    assert!(answer.starts_with('{'), "{answer}");
}

#[tokio::test]
async fn bytes_that_are_no_text_are_echoed_only_on_the_wire() {
    let lookupd = TestLookupd::start().await;
    let mut conn = lookupd.client().await;
    conn.send(b"\xff\x1b[31m\0\n").await;
    assert_eq!(conn.rest().await, b"\0\0\0\x21E_INVALID invalid command \xff\x1b[31m\0");
    let who = conn.address();
    let line = format!("ERROR: [{who}] - E_INVALID invalid command \u{fffd}\\u{{1b}}[31m\\u{{0}}");
    lookupd.logged(&line).await;
}

#[tokio::test]
async fn a_client_that_takes_no_answers_does_not_hold_up_others() {
    let lookupd = TestLookupd::start().await;
    let mut deaf = lookupd.client().await;
    let pings = "PING\n".repeat(1000);
    // Until the buffers of both directions are full.
    let stuffed = async {
        loop {
            let sent = deaf.send(&pings);
            if tokio::time::timeout(Duration::from_millis(200), sent).await.is_err() {
                break;
            }
        }
    };
    soon(stuffed).await;
    let mut nsqd = lookupd.nsqd("a").await;
    nsqd.register("t", None).await;
    assert_eq!(lookupd.producers("t").await, ["a"]);
    lookupd.stop().await;
}

/// The clock is paused: time passes as soon as both sides are idle.
#[tokio::test(start_paused = true)]
async fn a_client_that_never_says_its_magic_is_given_up() {
    let lookupd = TestLookupd::start().await;
    let mut conn = lookupd.connect().await;
    conn.send("  ").await;
    let mut rest = Vec::new();
    conn.stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"");
    let line = "ERROR: failed to read protocol version - timed out".to_owned();
    assert!(lookupd.log.texts().contains(&line));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_inside_a_command_is_given_up_and_a_silent_one_is_not() {
    let lookupd = TestLookupd::start().await;
    let mut silent = lookupd.nsqd("a").await;
    let mut stuck = lookupd.client().await;
    stuck.send("PING\nREGIST").await;
    let mut rest = Vec::new();
    stuck.stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"\0\0\0\x02OK");
    let line = format!("ERROR: client({}) - timed out", stuck.address());
    assert!(lookupd.log.texts().contains(&line));
    assert_eq!(lookupd.reached("command-timeout").await, 1);
    tokio::time::advance(Duration::from_secs(3600)).await;
    silent.send("PING\n").await;
    let mut answer = [0; 6];
    silent.stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"\0\0\0\x02OK");
}

#[tokio::test]
async fn clients_over_a_limit_are_refused_and_counted_and_those_before_them_stay() {
    let lookupd = TestLookupd::start_with(|options| options.connections_max = 1).await;
    let mut first = lookupd.nsqd("first").await;
    let mut second = lookupd.connect().await;
    assert_eq!(second.responses().await, ["E_INVALID too many connections"]);
    let line = "WARNING: TCP: client({}) refused - the limit of 1 connections is reached";
    lookupd.logged(&line.replace("{}", &second.address().to_string())).await;
    first.register("t", None).await;
    assert_eq!(lookupd.producers("t").await, ["first"]);
    let metrics = lookupd.get("/metrics").await.body;
    let counted = r#"nsqlookupd_limit_reached_total{limit="max-connections"} 1"#;
    assert!(metrics.lines().any(|line| line == counted), "{metrics}");

    drop(first);
    let its_slot_is_free = async {
        loop {
            let mut next = lookupd.connect().await;
            next.send("  V1PING\n").await;
            if next.response().await == "OK" {
                return;
            }
        }
    };
    soon(its_slot_is_free).await;
}

#[tokio::test]
async fn http_clients_over_a_limit_are_refused_and_nsqds_are_not() {
    let lookupd = TestLookupd::start_with(|options| options.http_connections_max = 1).await;
    let mut first = TcpStream::connect(lookupd.http).await.unwrap();
    first.write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    first.readable().await.unwrap();
    let mut second = TcpStream::connect(lookupd.http).await.unwrap();
    let mut answer = String::new();
    second.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    lookupd.nsqd("served").await;
}

/// Each byte is progress, and yet the command is never complete.
#[tokio::test(start_paused = true)]
async fn a_client_that_sends_a_command_byte_by_byte_for_ever_is_given_up() {
    let lookupd = TestLookupd::start().await;
    let mut nsqd = lookupd.nsqd("a").await;
    let started = tokio::time::Instant::now();
    let end = async {
        loop {
            nsqd.send("x").await;
            let mut byte = [0];
            let read = nsqd.stream.read(&mut byte);
            if let Ok(read) = tokio::time::timeout(Duration::from_secs(7), read).await {
                break read;
            }
        }
    };
    assert!(matches!(end.await, Ok(0) | Err(_)));
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_identify_itself_is_given_up() {
    let lookupd = TestLookupd::start().await;
    let mut nsqd = lookupd.nsqd("a").await;
    let (mut silent, mut pinging) = (lookupd.client().await, lookupd.client().await);
    let started = tokio::time::Instant::now();
    for _ in 0..3 {
        tokio::time::advance(Duration::from_secs(15)).await;
        pinging.send("PING\n").await;
        assert_eq!(pinging.response().await, "OK");
    }
    for conn in [&mut silent, &mut pinging] {
        let mut rest = Vec::new();
        conn.stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"");
        let line = format!("ERROR: client({}) - no IDENTIFY within 1m0s", conn.address());
        assert!(lookupd.log.texts().contains(&line), "{:#?}", lookupd.log.texts());
    }
    assert_eq!(started.elapsed().as_secs(), 60);
    assert_eq!(lookupd.reached("identify-timeout").await, 2);
    nsqd.send("PING\n").await;
    let mut answer = [0; 6];
    nsqd.stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"\0\0\0\x02OK");
}

#[tokio::test]
async fn an_identity_that_would_fill_lookups_is_refused() {
    let lookupd = TestLookupd::start().await;
    let (long, empty) = ("x".repeat(257), String::new());
    for (address, port, text) in [
        (&long, "4151", "E_BAD_BODY IDENTIFY broadcast_address is longer than 256 bytes"),
        (&empty, "-1", "E_BAD_BODY IDENTIFY http_port is not a port: -1"),
        (&empty, "65536", "E_BAD_BODY IDENTIFY http_port is not a port: 65536"),
    ] {
        let mut conn = lookupd.client().await;
        let body = identity(&format!("a{address}")).replace("4151", port);
        let mut bytes = Vec::new();
        v1::Command::Identify(body.as_bytes()).encode(&mut bytes);
        conn.send(bytes).await;
        assert_eq!(conn.responses().await, [text]);
    }
    assert_eq!(lookupd.reached("field-size").await, 1);
    assert_eq!(lookupd.get("/nodes").await.body, "{\"producers\":[]}");
}

#[tokio::test]
async fn a_stranger_unregisters_nothing_however_often_it_tries() {
    let lookupd = TestLookupd::start().await;
    let (mut nsqd, mut stranger) = (lookupd.nsqd("a").await, lookupd.nsqd("b").await);
    let names: Vec<_> = (0..5_000).map(|i| ("t".to_owned(), Some(format!("c{i}")))).collect();
    nsqd.register_all(&names).await;
    let whole = v1::Command::Unregister { topic: "t", channel: None };
    let one = v1::Command::Unregister { topic: "t", channel: Some("c7") };
    stranger.all_ok(&[whole, one].repeat(2_500)).await;
    assert_eq!(lookupd.producers("t").await, ["a"]);
    assert_eq!(lookupd.figure("nsqlookupd_registrations").await, 5_001);
    assert_eq!(lookupd.figure("nsqlookupd_orphans").await, 0);
}
