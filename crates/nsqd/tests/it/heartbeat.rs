//! Heartbeats, and closing of clients that do not answer them.
//!
//! A second is the shortest interval there is, so these tests take a few of them.

use std::time::{Duration, Instant};

use nsq_protocol::Command;

use crate::support::{Client, PATIENCE, Received, Server};

fn heartbeat() -> Received {
    Received::Response("_heartbeat_".to_owned())
}

fn with_interval(server: &Server, ms: i32) -> Client {
    let mut client = server.client();
    client.identify(&format!("{{\"heartbeat_interval\":{ms}}}"));
    client
}

#[expect(clippy::disallowed_methods, reason = "heartbeats are about real time")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn a_silent_client_is_asked_and_then_closed() {
    let server = Server::start();
    let start = now();
    // Before SUB and after it.
    let mut early = with_interval(&server, 1000);
    let mut late = with_interval(&server, 1000);
    late.subscribe("t", "c", 1);
    for client in [&mut early, &mut late] {
        assert_eq!(client.frame(), heartbeat());
        assert!(start.elapsed() >= Duration::from_millis(900), "asked too early");
        match client.frame() {
            Received::Response(data) if data == "_heartbeat_" => {
                assert_eq!(client.frame(), Received::Closed);
            }
            other => assert_eq!(other, Received::Closed),
        }
        assert!(start.elapsed() >= Duration::from_millis(1900), "closed too early");
    }
}

#[test]
fn any_command_is_a_sign_of_life() {
    let server = Server::start();
    let commands: [(&[u8], bool); 3] =
        [(b"NOP\n", false), (b"PUB t\n\0\0\0\x01x", true), (b"TOUCH 0123456789abcdef\n", true)];
    let mut clients: Vec<_> = commands
        .into_iter()
        .map(|(command, answered)| {
            let mut client = with_interval(&server, 1000);
            client.subscribe("u", "c", 0);
            (client, command, answered)
        })
        .collect();
    for _ in 0..3 {
        for (client, command, answered) in &mut clients {
            assert_eq!(client.frame(), heartbeat());
            client.send_bytes(command);
            if *answered {
                assert_ne!(client.receive(), Received::Closed);
            }
        }
    }
}

#[test]
fn a_client_that_switched_heartbeats_off_is_left_alone() {
    let server = Server::start();
    let mut quiet = with_interval(&server, -1);
    // Waits for two intervals of another client, which is closed then.
    let mut other = with_interval(&server, 1000);
    while other.frame() != Received::Closed {}
    // The answer is the first frame it gets.
    quiet.publish("t", b"x");
}

#[test]
fn heartbeats_come_amid_traffic() {
    let server = Server::start();
    let mut consumer = with_interval(&server, 1000);
    consumer.subscribe("t", "c", 2500);
    let mut producer = server.client();
    let bodies = vec![[b'x'; 100]; 500];
    producer.publish_all("t", &bodies);
    // Every message is published again, so that there is always one to deliver.
    let start = now();
    let mut heartbeats = 0;
    while heartbeats < 2 {
        assert!(start.elapsed() < PATIENCE, "{heartbeats} heartbeats");
        match consumer.frame() {
            Received::Message(message) => {
                let mut bytes = Vec::new();
                Command::Fin(message.id).encode(&mut bytes);
                Command::Pub { topic: "t", body: &message.body }.encode(&mut bytes);
                consumer.send_bytes(&bytes);
            }
            Received::Response(data) if data == "_heartbeat_" => {
                heartbeats += 1;
                consumer.send(Command::Nop);
            }
            other => assert_eq!(other, Received::Response("OK".to_owned())),
        }
    }
}

#[test]
fn messages_do_not_wait_for_a_buffer_to_fill() {
    let hour = Duration::from_secs(3600);
    let server = Server::with(|options| options.max_output_buffer_timeout = hour);
    let mut consumer = server.client();
    // A message that waited would not come at all.
    consumer.identify(r#"{"output_buffer_size":65536,"output_buffer_timeout":3600000}"#);
    consumer.subscribe("t", "c", 2500);
    let mut producer = server.client();
    for _ in 0..20 {
        producer.publish("t", b"x");
        assert_eq!(consumer.message().body, b"x");
    }
}
