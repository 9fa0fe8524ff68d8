//! The memory that all connections may take together.

use std::io::{Read, Write};

use nsq_daemon::log::{Capture, Level, Logger};
use nsqd::World;

use crate::support::{Client, NsqdProcess, Received, Server, eventually, http};

const MIB: usize = 1 << 20;
/// The size of a publish that NSQ just takes.
const BODY_BYTES: usize = 5 * MIB - 100;
const HELD: &str = "nsqd_network_memory_bytes";
const PUBLISHED: &str = "nsqd_messages_published_total";

fn with_budget(mib: usize) -> (Server, Capture) {
    let log = Capture::new();
    let logger = Logger::with_sink("", Level::Warn, log.clone());
    let folder = tempfile::tempdir().unwrap();
    let server = Server::logging_to(logger, World::default(), folder, |options| {
        options.shares.network_bytes_max = mib * MIB;
    });
    (server, log)
}

/// The beginning of a publish of `announced` bytes: `sent` of them.
fn half_publish(announced: usize, sent: usize) -> Vec<u8> {
    let size = i32::try_from(announced).unwrap().to_be_bytes();
    let message = i32::try_from(announced / 5 - 4).unwrap().to_be_bytes();
    let mut bytes = [&b"MPUB big\n"[..], &size, &5_i32.to_be_bytes()].concat();
    let head = bytes.len();
    while bytes.len() < head + sent {
        bytes.extend(message);
        bytes.resize(bytes.len() + announced / 5 - 4, b'x');
    }
    bytes.truncate(head + sent);
    bytes
}

/// Sends bytes to an nsqd that may close the connection meanwhile.
fn try_send(client: &mut Client, bytes: &[u8]) {
    let _ = client.stream.write_all(bytes);
}

/// Returns whether nsqd has closed the connection, without waiting.
fn is_closed(client: &mut Client) -> bool {
    client.stream.set_nonblocking(true).unwrap();
    let read = client.stream.read(&mut [0]);
    client.stream.set_nonblocking(false).unwrap();
    !matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn the_connection_that_holds_most_is_closed_first() {
    let (server, log) = with_budget(16);
    let mut honest = server.client();
    let mut large = server.client();
    large.send_bytes(&half_publish(BODY_BYTES, 9 * MIB / 2));
    eventually(|| server.figure(HELD) >= 9 * MIB as u64 / 2);
    let mut others = Vec::new();
    while server.reached("max-network-memory") == 0 {
        let before = server.figure(HELD);
        let mut other = server.client();
        other.send_bytes(&half_publish(BODY_BYTES, MIB));
        others.push(other);
        let has_grown = || server.figure(HELD) >= before + MIB as u64;
        eventually(|| has_grown() || server.reached("max-network-memory") > 0);
    }
    assert_eq!(large.receive(), Received::Closed);
    assert!(!others.iter_mut().any(is_closed));
    honest.publish("t", b"x");
    assert_eq!(server.reached("max-network-memory"), 1);
    let complaint = format!("client({}) holds ", large.stream.local_addr().unwrap());
    assert!(log.texts().iter().any(|text| text.contains(&complaint)), "{:?}", log.texts());
}

#[test]
fn a_hundred_half_publishes_stay_within_the_budget_and_others_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let nsqd = NsqdProcess::start(folder.path(), &["-max-network-memory=33554432"]);
    let mut honest = nsqd.client();
    let half = half_publish(BODY_BYTES, 2 * MIB + MIB / 2);
    let mut senders: Vec<_> = (0..100).map(|_| nsqd.client()).collect();
    for (sent, sender) in senders.iter_mut().enumerate() {
        try_send(sender, &half);
        honest.publish("t", b"x");
        if sent % 10 == 0 {
            // Connections that are being closed count until they are.
            assert!(figure(&nsqd, HELD) <= 2 * 32 * MIB as u64);
        }
    }
    let reached = "nsqd_limit_reached_total{limit=\"max-network-memory\"}";
    // The budget has room for ten of them at most.
    eventually(|| figure(&nsqd, reached) >= 90);
    honest.publish("t", b"x");
    assert!(!is_closed(&mut honest));
    eventually(|| figure(&nsqd, HELD) <= 28 * MIB as u64);
    let peak = peak_memory(&nsqd);
    assert!(peak < 128 * MIB as u64, "{} MiB", peak >> 20);
}

fn figure(nsqd: &NsqdProcess, series: &str) -> u64 {
    let (status, page) = http(nsqd.http, "GET", "/metrics", b"");
    assert_eq!(status, 200);
    let page = String::from_utf8(page).unwrap();
    let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.unwrap().parse().unwrap()
}

fn peak_memory(nsqd: &NsqdProcess) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", nsqd.child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    1024 * peak.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap()
}

#[test]
fn deaf_clients_share_the_budget_and_others_are_served() {
    let (server, _log) = with_budget(4);
    let bytes = b"PUB u\n\0\0\0\x01x".repeat(10_000);
    let deaf = |_| {
        let mut client = server.client();
        client.identify("{\"heartbeat_interval\":-1}");
        // Publishes until nsqd has listened to nothing more for a while.
        let mut count = 0;
        client.flood(&bytes, || {
            let before = std::mem::replace(&mut count, server.figure(PUBLISHED));
            count > 0 && count == before
        });
        client
    };
    let _deaf: Vec<_> = (0..8).map(deaf).collect();
    // Each has a hundred kilobytes of answers or so, far less than a client may have usually.
    assert!(server.figure(HELD) <= 2 * MIB as u64, "{}", server.figure(HELD));
    assert_eq!(server.reached("max-network-memory"), 0);
    server.client().publish("t", b"x");
}

#[test]
fn the_memory_of_a_large_publish_is_given_back_within_seconds() {
    let (server, _log) = with_budget(64);
    let mut client = server.client();
    client.identify("{\"heartbeat_interval\":-1}");
    client.publish_all("t", &vec![vec![b'x'; MIB - 10]; 4]);
    // The beginning of the next command does not keep it.
    client.send_bytes(b"PUB t\n\0\0");
    // Less than the half minute between two visits of a connection without heartbeats.
    let mut pace = server.client();
    pace.identify("{\"heartbeat_interval\":1000}");
    let mut seconds = 0;
    while server.figure(HELD) > 1000 {
        assert!(seconds < 10, "{} bytes are still held", server.figure(HELD));
        assert_eq!(pace.frame(), Received::Response("_heartbeat_".to_owned()));
        pace.send_bytes(b"NOP\n");
        seconds += 1;
    }
    client.send_bytes(b"\0\x01x");
    assert_eq!(client.receive(), Received::Response("OK".to_owned()));
    assert_eq!(server.reached("max-network-memory"), 0);
}
