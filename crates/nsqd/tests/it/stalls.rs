//! Clients that leave a command unfinished or output unread.

use std::time::Duration;

use nsq_daemon::log::{Capture, Level, Logger};
use nsqd::World;

use crate::support::{Client, Received, Server};

const NO_HEARTBEATS: &str = "{\"heartbeat_interval\":-1}";

/// An nsqd with a stall timeout of `ms`, and its log.
fn with_stall_timeout(ms: u64) -> (Server, Capture) {
    let log = Capture::new();
    let logger = Logger::with_sink("", Level::Info, log.clone());
    let folder = tempfile::tempdir().unwrap();
    let server = Server::logging_to(logger, World::default(), folder, |options| {
        options.shares.stall_timeout = Duration::from_millis(ms);
    });
    (server, log)
}

fn without_heartbeats(server: &Server) -> Client {
    let mut client = server.client();
    assert_eq!(client.identify(NO_HEARTBEATS), Received::Response("OK".to_owned()));
    client
}

#[test]
fn a_client_that_stops_within_a_command_is_closed_and_an_idle_one_is_not() {
    let (server, log) = with_stall_timeout(1000);
    let mut idle = [without_heartbeats(&server), server.client()];
    let cut_off = [&b""[..], b"  V", b"  V2PUB", b"  V2PUB t\n\0\0\0\x05ab", b"  V2IDENTIFY\n\0\0"];
    let mut stalled: Vec<_> = cut_off
        .into_iter()
        .map(|said| {
            let mut client = Client::silent(server.tcp);
            client.send_bytes(said);
            client
        })
        .collect();
    let mut half = without_heartbeats(&server);
    half.send_bytes(b"MPUB t\n\0\0\0\x40\0\0\0\x02\0\0\0\x01x");
    stalled.push(half);
    for client in &mut stalled {
        assert_eq!(client.receive(), Received::Closed);
    }
    assert_eq!(server.reached("stall-timeout"), 6);
    let complaint = "left a command unfinished for too long, closing";
    let complaints = log.texts().into_iter().filter(|text| text.contains(complaint));
    assert_eq!(complaints.count(), 4);
    // They have been idle for longer.
    for client in &mut idle {
        client.publish("t", b"x");
    }
    assert_eq!(server.topic_stats()["message_count"], 2);
}

#[test]
fn a_client_without_heartbeats_that_reads_nothing_is_closed() {
    let (server, log) = with_stall_timeout(1000);
    let mut deaf = without_heartbeats(&server);
    let bytes = b"PUB u\n\0\0\0\x01x".repeat(10_000);
    deaf.flood(&bytes, || server.reached("stall-timeout") == 1);
    assert!(log.texts().iter().any(|text| text.contains("left output unread for too long")));
    server.client().publish("t", b"x");
}

#[test]
fn a_slow_client_that_makes_progress_is_never_closed() {
    let (server, _log) = with_stall_timeout(3000);
    // Its heartbeats tell the seconds.
    let mut pace = server.client();
    pace.identify("{\"heartbeat_interval\":1000}");
    let mut slow = without_heartbeats(&server);
    let command = b"PUB t\n\0\0\0\x05hello";
    for part in command.chunks(2) {
        slow.send_bytes(part);
        assert_eq!(pace.frame(), Received::Response("_heartbeat_".to_owned()));
        pace.send_bytes(b"NOP\n");
    }
    assert_eq!(slow.receive(), Received::Response("OK".to_owned()));
    assert_eq!(server.reached("stall-timeout"), 0);
}

#[test]
fn a_stall_timeout_of_zero_is_none() {
    let (server, _log) = with_stall_timeout(0);
    let mut half = without_heartbeats(&server);
    half.send_bytes(b"PUB t\n\0\0\0\x05he");
    let mut pace = server.client();
    pace.identify("{\"heartbeat_interval\":1000}");
    while pace.frame() != Received::Closed {}
    half.send_bytes(b"llo");
    assert_eq!(half.receive(), Received::Response("OK".to_owned()));
}
