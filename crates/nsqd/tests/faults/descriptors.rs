//! Few descriptors for many topics, and for clients that take all they can get.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command as Process,
};

use nsq_protocol::Command;

use crate::support::{Client, NsqdProcess, PATIENCE, Received, eventually, http};

const TOPICS: usize = 1000;

/// Starts an nsqd that may have this many files open.
fn start(descriptors: usize, folder: &Path, args: &[&str]) -> NsqdProcess {
    let with_few = format!(r#"ulimit -n {descriptors} && exec "$0" "$@""#);
    let mut command = Process::new("sh");
    command.args(["-c", &with_few, env!("CARGO_BIN_EXE_nsqd")]);
    NsqdProcess::spawn(command.args(NsqdProcess::args(folder, args)))
}

#[test]
fn a_thousand_topics_share_a_hundred_descriptors_with_their_clients() {
    let folder = tempfile::tempdir().unwrap();
    let topics: Vec<_> = (0..TOPICS).map(|number| format!("t{number}")).collect();
    let nsqd = start(128, folder.path(), &[]);
    let mut clients: Vec<_> = (0..20).map(|_| nsqd.client()).collect();
    for round in 0..2_u8 {
        for (topic, client) in topics.iter().zip((0..20).cycle()) {
            clients[client].publish(topic, &[round]);
        }
    }
    assert_eq!(http(nsqd.http, "GET", "/ping", b"").0, 200);
    let log = nsqd.kill();
    assert!(!log.contains("Too many open files"), "{log}");

    let nsqd = start(128, folder.path(), &[]);
    for topic in topics.iter().step_by(20) {
        let mut consumer = nsqd.consumer(topic, "c", 2);
        assert_eq!(consumer.finish_next(2), [[0], [1]]);
        consumer.settle();
    }
    let (code, log) = nsqd.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("Too many open files"), "{log}");
}

/// Connects to the HTTP port until a client is refused, which is answered before it has asked; returns the others.
fn occupy_http(nsqd: &NsqdProcess) -> Vec<TcpStream> {
    let mut open = Vec::new();
    loop {
        let mut stream = TcpStream::connect(nsqd.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // A client that is refused may be gone before it can say anything.
        let _ = stream.write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        if status == *b"HTTP/1.1 503" {
            return open;
        }
        open.push(stream);
        assert!(open.len() < 1000, "nothing is ever refused");
    }
}

/// Connects to the TCP port until a client is refused with an error. Each client that is served has had an answer.
fn occupy_tcp(nsqd: &NsqdProcess) -> Vec<Client> {
    let mut open = Vec::new();
    loop {
        let mut client = Client::silent(nsqd.tcp);
        // A client that is refused may be gone before it can say anything.
        let _ = client.stream.write_all(b"  V2IDENTIFY\n\0\0\0\x02{}");
        match client.frame() {
            Received::Response(ok) => assert_eq!(ok, "OK"),
            Received::Error(error) => {
                assert_eq!(error, "E_INVALID too many connections");
                client.expect_closed();
                return open;
            }
            other => panic!("{other:?}"),
        }
        open.push(client);
        assert!(open.len() < 1000, "nothing is ever refused");
    }
}

fn metric(nsqd: &NsqdProcess, sample: &str) -> u64 {
    let (status, page) = http(nsqd.http, "GET", "/metrics", b"");
    assert_eq!(status, 200);
    let page = String::from_utf8(page).unwrap();
    let value = page.lines().find_map(|line| line.strip_prefix(sample)).unwrap();
    value.trim().parse().unwrap()
}

#[test]
fn idle_clients_up_to_the_limit_leave_all_that_topics_need() {
    let folder = tempfile::tempdir().unwrap();
    let nsqd = start(256, folder.path(), &["-max-bytes-per-file=100000", "-sync-timeout=10ms"]);
    let mut publisher = nsqd.client();
    let mut consumer = nsqd.consumer("old", "c", 100);
    publisher.publish("old", b"first");
    assert_eq!(consumer.finish_next(1), [b"first"]);

    let idle = occupy_tcp(&nsqd);
    assert!(idle.len() > 60, "{}", idle.len());
    // Segments are begun and deleted, journals are written and compacted, topics are created.
    for round in 0..2000_u32 {
        publisher.publish("old", &round.to_be_bytes().repeat(256));
        assert_eq!(consumer.finish_next(1).len(), 1);
        if round % 100 == 0 {
            publisher.publish(&format!("new{round}"), b"x");
        }
    }
    consumer.settle();
    assert_eq!(http(nsqd.http, "GET", "/ping", b""), (200, b"OK".to_vec()));
    assert!(metric(&nsqd, r#"nsqd_limit_reached_total{limit="descriptor-reserve"}"#) > 0);

    drop(idle);
    eventually(|| {
        let mut client = Client::silent(nsqd.tcp);
        let mut bytes = b"  V2".to_vec();
        Command::Pub { topic: "old", body: b"y" }.encode(&mut bytes);
        let sent = client.stream.write_all(&bytes);
        sent.is_ok() && client.frame() == Received::Response("OK".to_owned())
    });
    let (code, log) = nsqd.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("Too many open files"), "{log}");
    assert!(
        log.contains(") refused - the limit on open files leaves no more connections"),
        "{log}"
    );
}

#[test]
fn clients_of_one_port_cannot_lock_out_those_of_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let nsqd = start(256, folder.path(), &[]);
    let over_http = occupy_http(&nsqd);
    assert!(over_http.len() > 60, "{}", over_http.len());
    let idle = occupy_tcp(&nsqd);
    assert!(idle.len() > 20, "{}", idle.len());
    drop(over_http);
    let mut more = Vec::new();
    // Their slots are free once nsqd has seen that they are gone.
    eventually(|| {
        more.extend(occupy_tcp(&nsqd));
        more.len() > 40
    });
    assert_eq!(http(nsqd.http, "GET", "/ping", b"").0, 200);
}

#[test]
fn a_limit_on_clients_holds_for_each_port_by_itself_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["-max-connections=3", "-max-http-connections=2"];
    let nsqd = NsqdProcess::start(folder.path(), &args);
    let mut clients = occupy_tcp(&nsqd);
    assert_eq!(clients.len(), 3);
    clients[0].publish("t", b"served all the same");
    assert_eq!(metric(&nsqd, r#"nsqd_limit_reached_total{limit="max-connections"}"#), 1);
    // The request for the figures may still hold a slot of HTTP.
    assert!((1..=2).contains(&occupy_http(&nsqd).len()));
    // The slots of those that were served are free soon.
    eventually(|| http(nsqd.http, "GET", "/ping", b"").0 == 200);
    eventually(|| {
        let (_, page) = http(nsqd.http, "GET", "/metrics", b"");
        String::from_utf8_lossy(&page).lines().any(|line| {
            let count =
                line.strip_prefix(r#"nsqd_limit_reached_total{limit="max-http-connections"} "#);
            count.is_some_and(|count| count != "0")
        })
    });
    clients.pop();
    eventually(|| {
        let mut next = nsqd.client();
        next.stream.write_all(b"IDENTIFY\n\0\0\0\x02{}").is_ok()
            && next.frame() == Received::Response("OK".to_owned())
    });
    let (_, log) = nsqd.stop();
    assert!(log.contains(") refused - the limit of 3 connections is reached"), "{log}");
}

#[test]
fn sixty_descriptors_are_enough_to_serve_those_who_came_first() {
    let folder = tempfile::tempdir().unwrap();
    let nsqd = start(60, folder.path(), &["-max-bytes-per-file=10000"]);
    let (mut publisher, mut early) = (nsqd.client(), nsqd.consumer("t", "c", 10));
    let crowd = occupy_tcp(&nsqd);
    assert!(crowd.len() > 5, "{}", crowd.len());
    for _ in 0..50 {
        publisher.publish("t", &[0; 1000]);
        assert_eq!(early.finish_next(1).len(), 1);
    }
    let (code, log) = nsqd.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("Too many open files"), "{log}");
}
