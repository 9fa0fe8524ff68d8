//! Deferred publishes.

use std::time::{Duration, Instant};

use nsq_protocol::Command;

use crate::support::{Client, Message, Server, eventually};

fn publish_later(client: &mut Client, delay_ms: u64, body: &[u8]) {
    client.ok(Command::DeferredPub { topic: "t", delay_ms, body });
}

#[expect(clippy::disallowed_methods, reason = "delays are about real time")]
fn now() -> Instant {
    Instant::now()
}

fn assert_about(elapsed: Duration, expected_ms: u64) {
    let expected = Duration::from_millis(expected_ms);
    // A machine that has much to do may be late, never early.
    let late = Duration::from_millis(1500);
    assert!(
        elapsed + Duration::from_millis(5) >= expected && elapsed < expected + late,
        "{elapsed:?}"
    );
}

#[test]
fn a_deferred_message_waits_for_its_time_in_every_channel() {
    let server = Server::start();
    let mut consumers = [server.consumer("t", "a", 5), server.consumer("t", "b", 5)];
    let mut producer = server.client();
    let start = now();
    publish_later(&mut producer, 300, b"later");
    producer.publish("t", b"at once");
    for channel in ["a", "b"] {
        let channel = server.channel_stats(channel);
        assert_eq!((&channel["deferred_count"], &channel["message_count"]), (&1.into(), &2.into()));
    }
    let mut received = Vec::new();
    for consumer in &mut consumers {
        assert_eq!(consumer.finish_next(1), [b"at once"]);
        received.push(consumer.message());
        assert_about(start.elapsed(), 300);
    }
    assert_eq!(received[0], received[1]);
    assert_eq!((&received[0].body[..], received[0].attempts), (&b"later"[..], 1));
    consumers[0].fin(received[0].id);
    consumers[0].settle();
    let channel = server.channel_stats("a");
    assert_eq!((&channel["deferred_count"], &channel["depth"]), (&0.into(), &0.into()));
}

#[test]
fn deferred_messages_come_in_the_order_of_their_times() {
    let server = Server::start();
    let mut consumer = server.consumer("t", "c", 5);
    let mut producer = server.client();
    for delay_ms in [400, 100, 300, 200] {
        publish_later(&mut producer, delay_ms, delay_ms.to_string().as_bytes());
    }
    assert_eq!(consumer.finish_next(4), [b"100", b"200", b"300", b"400"]);
}

#[test]
fn a_delay_of_0_is_no_delay() {
    let server = Server::start();
    publish_later(&mut server.client(), 0, b"x");
    assert_eq!(server.topic_stats()["depth"], 1);
    assert_eq!(server.consumer("t", "c", 1).message().body, b"x");
}

#[test]
fn without_a_channel_a_delay_begins_with_the_first_one() {
    let server = Server::start();
    let mut producer = server.client();
    publish_later(&mut producer, 300, b"later");
    publish_later(&mut producer, 3_600_000, b"much later");
    producer.publish("t", b"at once");
    assert_eq!(server.topic_stats()["depth"], 3);
    // Let the delay pass that does not count yet.
    let mut clock = server.consumer("clock", "c", 1);
    server.client().ok(Command::DeferredPub { topic: "clock", delay_ms: 320, body: b"x" });
    clock.message();
    let start = now();
    server.post("/topic/delete?topic=clock");
    let mut consumer = server.consumer("t", "c", 5);
    assert_eq!(consumer.finish_next(1), [b"at once"]);
    assert_eq!(server.channel_stats("c")["deferred_count"], 2);
    assert_eq!(consumer.finish_next(1), [b"later"]);
    assert_about(start.elapsed(), 300);
    assert_eq!(server.topic_stats()["depth"], 0);
}

#[test]
fn while_the_topic_is_paused_a_delay_does_not_begin() {
    let server = Server::start();
    let mut consumer = server.consumer("t", "c", 5);
    server.post("/topic/pause?topic=t");
    let mut producer = server.client();
    publish_later(&mut producer, 200, b"later");
    assert_eq!(server.topic_stats()["depth"], 1);
    assert_eq!(server.channel_stats("c")["deferred_count"], 0);
    let start = now();
    server.post("/topic/unpause?topic=t");
    assert_eq!(consumer.message().body, b"later");
    assert_about(start.elapsed(), 200);
}

#[test]
fn a_deferred_message_can_be_requeued_and_timed_out_like_any_other() {
    let server = Server::with(|options| options.msg_timeout = Duration::from_millis(200));
    publish_later(&mut server.client(), 50, b"x");
    let mut consumer = server.consumer("t", "c", 1);
    let first = consumer.message();
    consumer.req(first.id, 50);
    assert_eq!(consumer.message(), Message { attempts: 2, ..first.clone() });
    assert_eq!(consumer.message(), Message { attempts: 3, ..first.clone() });
    consumer.fin(first.id);
    consumer.settle();
    assert_eq!(server.channel_stats("c")["timeout_count"], 1);
}

#[test]
fn many_deferred_messages_among_others_all_come_once() {
    let server = Server::start();
    let mut producer = server.client();
    let mut consumer = server.consumer("t", "c", 2500);
    let mut bytes = Vec::new();
    for i in 0..1000_u32 {
        let body = &i.to_be_bytes();
        let delay_ms = u64::from(i % 5) * 20;
        Command::DeferredPub { topic: "t", delay_ms, body }.encode(&mut bytes);
    }
    producer.send_bytes(&bytes);
    let mut bodies = consumer.finish_next(1000);
    bodies.sort();
    let expected: Vec<_> = (0..1000_u32).map(|i| i.to_be_bytes().to_vec()).collect();
    assert!(bodies == expected);
    consumer.expect_nothing();
}

#[test]
fn emptying_a_channel_drops_what_is_deferred() {
    let server = Server::start();
    let mut consumer = server.consumer("t", "c", 1);
    let mut producer = server.client();
    publish_later(&mut producer, 100, b"dropped");
    server.post("/channel/empty?topic=t&channel=c");
    assert_eq!(server.channel_stats("c")["deferred_count"], 0);
    publish_later(&mut producer, 200, b"kept");
    assert_eq!(consumer.finish_next(1), [b"kept"]);
    eventually(|| server.channel_stats("c")["in_flight_count"] == 0);
    consumer.expect_nothing();
}
