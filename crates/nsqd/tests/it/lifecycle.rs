//! Pausing, emptying and deleting; the life of ephemeral topics and channels.

use nsq_protocol::Command;
use serde_json::Value;

use crate::support::{Client, Received, Server, eventually, http};

fn topics(server: &Server) -> Vec<String> {
    let stats = server.stats();
    let name = |topic: &Value| topic["topic_name"].as_str().unwrap().to_owned();
    stats["topics"].as_array().unwrap().iter().map(name).collect()
}

fn channels(server: &Server) -> Vec<String> {
    let topic = server.topic_stats();
    let name = |channel: &Value| channel["channel_name"].as_str().unwrap().to_owned();
    topic["channels"].as_array().unwrap().iter().map(name).collect()
}

fn depth(server: &Server, channel: &str) -> u64 {
    server.channel_stats(channel)["depth"].as_u64().unwrap()
}

#[test]
fn a_paused_channel_delivers_nothing_and_all_else_goes_on() {
    let server = Server::start();
    let mut producer = server.client();
    let mut consumer = server.consumer("t", "c", 3);
    let mut other = server.consumer("t", "other", 10);
    producer.publish_all("t", &["a", "b"]);
    let held = consumer.messages(2);
    // Pausing twice is pausing.
    server.post("/channel/pause?topic=t&channel=c");
    server.post("/channel/pause?topic=t&channel=c");
    producer.publish("t", b"c");
    assert_eq!(other.finish_next(3).len(), 3);
    consumer.fin(held[0].id);
    consumer.req(held[1].id, 0);
    consumer.expect_nothing();
    let mut newcomer = server.consumer("t", "c", 1);
    newcomer.expect_nothing();
    let stats = server.channel_stats("c");
    assert_eq!((&stats["paused"], &stats["depth"]), (&true.into(), &2.into()));
    assert_eq!((&stats["in_flight_count"], &stats["requeue_count"]), (&0.into(), &1.into()));
    // Or it might be given one of the messages before nsqd notices that it has gone.
    newcomer.send(Command::Rdy(0));
    newcomer.settle();
    server.post("/channel/unpause?topic=t&channel=c");
    let mut rest = consumer.finish_next(2);
    rest.sort();
    assert_eq!(rest, [b"b", b"c"]);
}

#[test]
fn a_paused_topic_keeps_what_is_published_while_its_channels_drain() {
    let server = Server::start();
    let mut producer = server.client();
    let mut consumer = server.consumer("t", "c", 0);
    producer.publish_all("t", &["a", "b"]);
    server.post("/topic/pause?topic=t");
    producer.publish_all("t", &["c", "d"]);
    let topic = server.topic_stats();
    assert_eq!((&topic["paused"], &topic["depth"]), (&true.into(), &2.into()));
    assert_eq!(depth(&server, "c"), 2);
    consumer.send(Command::Rdy(10));
    assert_eq!(consumer.finish_next(2), [b"a", b"b"]);
    consumer.expect_nothing();
    // A channel that is created now gets what waits at the topic, like the others.
    let mut late = server.consumer("t", "late", 10);
    late.expect_nothing();
    server.post("/topic/unpause?topic=t");
    assert_eq!(consumer.finish_next(2), [b"c", b"d"]);
    assert_eq!(late.finish_next(2), [b"c", b"d"]);
}

#[test]
fn an_emptied_channel_has_nothing_and_keeps_its_clients() {
    let server = Server::start();
    let mut producer = server.client();
    let mut consumer = server.consumer("t", "c", 3);
    let mut other = server.consumer("t", "other", 0);
    producer.publish_all("t", &["a", "b", "c", "d", "e", "f"]);
    let held = consumer.messages(3);
    consumer.req(held[2].id, 60_000);
    let fourth = consumer.message();
    server.post("/channel/empty?topic=t&channel=c");
    let stats = server.channel_stats("c");
    for (figure, expected) in [
        ("depth", 0),
        ("in_flight_count", 0),
        ("deferred_count", 0),
        ("message_count", 6),
        ("requeue_count", 1),
        ("client_count", 1),
    ] {
        assert_eq!(stats[figure], expected, "{figure}");
    }
    assert_eq!(stats["clients"][0]["in_flight_count"], 0);
    for message in [&held[0], &held[1], &held[2], &fourth] {
        consumer.fin(message.id);
        let expected = format!("E_FIN_FAILED FIN {} failed ID not in flight", message.id);
        assert_eq!(consumer.error(), expected);
    }
    // It goes on as usual, and the other channel never noticed.
    producer.publish_all("t", &["g", "h", "i"]);
    assert_eq!(consumer.finish_next(3), [b"g", b"h", b"i"]);
    other.send(Command::Rdy(100));
    assert_eq!(other.finish_next(9).len(), 9);
}

#[test]
fn an_emptied_topic_drops_what_waits_at_the_topic_only() {
    let server = Server::start();
    let mut producer = server.client();
    producer.publish_all("t", &["a", "b"]);
    let mut consumer = server.consumer("t", "c", 0);
    server.post("/topic/pause?topic=t");
    producer.publish_all("t", &["c", "d"]);
    server.post("/topic/empty?topic=t");
    assert_eq!(server.topic_stats()["depth"], 0);
    server.post("/topic/unpause?topic=t");
    producer.publish("t", b"e");
    consumer.send(Command::Rdy(10));
    assert_eq!(consumer.finish_next(3), [b"a", b"b", b"e"]);
}

#[test]
fn deleting_a_channel_closes_its_consumers_and_no_others() {
    let server = Server::start();
    let mut producer = server.client();
    let mut closed = [server.consumer("t", "c", 1), server.consumer("t", "c", 0)];
    let mut other = server.consumer("t", "other", 1);
    producer.publish_all("t", &["a", "b"]);
    closed[0].message();
    server.post("/channel/delete?topic=t&channel=c");
    for consumer in &mut closed {
        consumer.expect_closed();
    }
    assert_eq!(channels(&server), ["other"]);
    assert_eq!(other.finish_next(2), [b"a", b"b"]);
    assert_eq!(http(server.http, "POST", "/channel/delete?topic=t&channel=c", b"").0, 404);
    // A channel of the same name is a new one.
    let mut again = server.consumer("t", "c", 10);
    again.expect_nothing();
    producer.publish("t", b"c");
    assert_eq!(again.finish_next(1), [b"c"]);
}

#[test]
fn deleting_a_topic_closes_its_consumers_and_not_its_producers() {
    let server = Server::start();
    let mut producer = server.client();
    producer.publish_all("t", &["a", "b"]);
    let mut consumers = [server.consumer("t", "c", 1), server.consumer("t", "d", 1)];
    server.post("/topic/delete?topic=t");
    for consumer in &mut consumers {
        while consumer.receive() != Received::Closed {}
    }
    assert!(topics(&server).is_empty());
    // A topic of the same name is a new one.
    producer.publish("t", b"c");
    assert_eq!(server.topic_stats()["message_count"], 1);
    assert_eq!(server.consumer("t", "c", 10).finish_next(1), [b"c"]);
}

#[test]
fn after_its_last_channel_was_deleted_a_topic_keeps_messages_again() {
    let server = Server::start();
    let mut producer = server.client();
    producer.publish("t", b"a");
    server.consumer("t", "c", 1).finish_next(1);
    server.post("/channel/delete?topic=t&channel=c");
    producer.publish_all("t", &["b", "c"]);
    assert_eq!(server.topic_stats()["depth"], 2);
    assert_eq!(server.consumer("t", "d", 10).finish_next(2), [b"b", b"c"]);
}

#[test]
fn an_ephemeral_channel_goes_with_its_last_client() {
    let server = Server::start();
    let mut producer = server.client();
    let first = server.consumer("t", "c#ephemeral", 1);
    let mut second = server.consumer("t", "c#ephemeral", 1);
    let mut durable = server.consumer("t", "d", 10);
    drop(first);
    eventually(|| server.channel_stats("c#ephemeral")["client_count"] == 1);
    producer.publish_all("t", &["a", "b"]);
    second.message();
    drop(second);
    eventually(|| channels(&server) == ["d"]);
    assert_eq!(durable.finish_next(2), [b"a", b"b"]);
    // The next one starts with messages published from then on.
    let mut third = server.consumer("t", "c#ephemeral", 10);
    producer.publish("t", b"c");
    assert_eq!(third.finish_next(1), [b"c"]);
}

#[test]
fn an_ephemeral_channel_made_by_hand_waits_for_its_first_client() {
    let server = Server::start();
    server.post("/topic/create?topic=t");
    server.post("/channel/create?topic=t&channel=c%23ephemeral");
    server.client().publish("t", b"x");
    assert_eq!(channels(&server), ["c#ephemeral"]);
    assert_eq!(server.consumer("t", "c#ephemeral", 1).finish_next(1), [b"x"]);
    eventually(|| channels(&server).is_empty());
}

#[test]
fn an_ephemeral_topic_goes_with_its_last_channel() {
    let server = Server::start();
    let mut producer = server.client();
    producer.publish("t#ephemeral", b"a");
    assert_eq!(topics(&server), ["t#ephemeral"]);
    let mut first = server.consumer("t#ephemeral", "c#ephemeral", 1);
    assert_eq!(first.finish_next(1), [b"a"]);
    let second = server.consumer("t#ephemeral", "d#ephemeral", 1);
    drop(first);
    eventually(|| channels(&server) == ["d#ephemeral"]);
    drop(second);
    eventually(|| topics(&server).is_empty());
    // The producer does not have to know.
    producer.publish("t#ephemeral", b"b");
    assert_eq!(server.consumer("t#ephemeral", "c", 1).finish_next(1), [b"b"]);
    // A durable channel keeps the topic until it is deleted.
    eventually(|| server.channel_stats("c")["client_count"] == 0);
    assert_eq!(topics(&server), ["t#ephemeral"]);
    server.post("/channel/delete?topic=t%23ephemeral&channel=c");
    assert!(topics(&server).is_empty());
}

/// Publishes ten messages where there is room for five; each is answered with `OK`.
fn overflow(client: &mut Client, topic: &str) {
    client.publish_all(topic, &["0", "1", "2"]);
    for body in ["3", "4", "5", "6"] {
        client.publish(topic, body.as_bytes());
    }
    client.publish_all(topic, &["7", "8", "9"]);
}

#[test]
fn what_an_ephemeral_channel_has_no_room_for_is_dropped() {
    let server = Server::with(|options| options.mem_queue_size = 5);
    let mut consumer = server.consumer("t", "c#ephemeral", 0);
    let mut durable = server.consumer("t", "d", 0);
    overflow(&mut server.client(), "t");
    assert_eq!(depth(&server, "c#ephemeral"), 5);
    assert_eq!(server.channel_stats("c#ephemeral")["message_count"], 10);
    assert_eq!(depth(&server, "d"), 10);
    consumer.send(Command::Rdy(100));
    assert_eq!(consumer.finish_next(5), [b"0", b"1", b"2", b"3", b"4"]);
    consumer.expect_nothing();
    durable.send(Command::Rdy(100));
    assert_eq!(durable.finish_next(10).len(), 10);
}

#[test]
fn what_an_ephemeral_topic_has_no_room_for_is_dropped() {
    let server = Server::with(|options| options.mem_queue_size = 5);
    let mut producer = server.client();
    overflow(&mut producer, "t#ephemeral");
    let topic = server.topic_stats();
    assert_eq!((&topic["depth"], &topic["message_count"]), (&5.into(), &10.into()));
    let mut consumer = server.consumer("t#ephemeral", "c", 100);
    assert_eq!(consumer.finish_next(5), [b"0", b"1", b"2", b"3", b"4"]);
    consumer.expect_nothing();
    server.post("/topic/pause?topic=t%23ephemeral");
    overflow(&mut producer, "t#ephemeral");
    assert_eq!(server.topic_stats()["depth"], 5);
    server.post("/topic/unpause?topic=t%23ephemeral");
    assert_eq!(consumer.finish_next(5).len(), 5);
    consumer.expect_nothing();
    // With room again, nothing is dropped.
    producer.publish_all("t#ephemeral", &["a", "b"]);
    assert_eq!(consumer.finish_next(2), [b"a", b"b"]);
}

#[test]
fn without_room_an_ephemeral_topic_serves_those_who_wait() {
    let server = Server::with(|options| options.mem_queue_size = 0);
    let mut consumer = server.consumer("t#ephemeral", "c", 5);
    consumer.settle();
    let mut producer = server.client();
    for _ in 0..10 {
        producer.publish("t#ephemeral", b"x");
        assert_eq!(consumer.finish_next(1), [b"x"]);
        consumer.settle();
    }
    consumer.send(Command::Rdy(0));
    consumer.settle();
    producer.publish("t#ephemeral", b"dropped");
    consumer.send(Command::Rdy(5));
    consumer.expect_nothing();
}
