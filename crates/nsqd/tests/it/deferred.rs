//! Deferred publishes.

use std::time::Duration;

use nsq_protocol::Command;

use crate::{
    support::{Client, Message, Server},
    test_clocks::TestClocks,
};

const HOUR: Duration = Duration::from_secs(3600);

fn publish_later(client: &mut Client, delay_ms: u64, body: &[u8]) {
    client.ok(Command::DeferredPub { topic: "t", delay_ms, body });
}

#[test]
fn a_deferred_message_waits_for_its_time_in_every_channel() {
    let clocks = TestClocks::default();
    let server = Server::by(&clocks, |_| ());
    let mut consumers = [server.consumer("t", "a", 5), server.consumer("t", "b", 5)];
    let mut producer = server.client();
    publish_later(&mut producer, 300, b"later");
    producer.publish("t", b"at once");
    clocks.pass_ms(299);
    for consumer in &mut consumers {
        assert_eq!(consumer.finish_next(1), [b"at once"]);
        consumer.expect_nothing();
    }
    for channel in ["a", "b"] {
        let channel = server.channel_stats(channel);
        assert_eq!((&channel["deferred_count"], &channel["message_count"]), (&1.into(), &2.into()));
    }
    clocks.pass_ms(1);
    let received = consumers.each_mut().map(|consumer| consumer.message());
    assert_eq!(received[0], received[1]);
    assert_eq!((&received[0].body[..], received[0].attempts), (&b"later"[..], 1));
    consumers[0].fin(received[0].id);
    consumers[0].settle();
    let channel = server.channel_stats("a");
    assert_eq!((&channel["deferred_count"], &channel["depth"]), (&0.into(), &0.into()));
}

#[test]
fn deferred_messages_come_in_the_order_of_their_times() {
    let clocks = TestClocks::default();
    let server = Server::by(&clocks, |_| ());
    let mut consumer = server.consumer("t", "c", 5);
    let mut producer = server.client();
    for delay_ms in [400, 100, 300, 200] {
        publish_later(&mut producer, delay_ms, delay_ms.to_string().as_bytes());
    }
    // Two by two: order holds among those that are due and between them and later ones.
    clocks.pass_ms(200);
    assert_eq!(consumer.finish_next(2), [b"100", b"200"]);
    consumer.expect_nothing();
    clocks.pass_ms(200);
    assert_eq!(consumer.finish_next(2), [b"300", b"400"]);
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
    let clocks = TestClocks::default();
    let server = Server::by(&clocks, |_| ());
    let mut producer = server.client();
    publish_later(&mut producer, 300, b"later");
    publish_later(&mut producer, 3_600_000, b"much later");
    producer.publish("t", b"at once");
    assert_eq!(server.topic_stats()["depth"], 3);
    clocks.pass(HOUR);
    let mut consumer = server.consumer("t", "c", 5);
    assert_eq!(consumer.finish_next(1), [b"at once"]);
    clocks.pass_ms(299);
    consumer.expect_nothing();
    assert_eq!(server.channel_stats("c")["deferred_count"], 2);
    clocks.pass_ms(1);
    assert_eq!(consumer.finish_next(1), [b"later"]);
    consumer.expect_nothing();
    assert_eq!(server.topic_stats()["depth"], 0);
}

#[test]
fn while_the_topic_is_paused_a_delay_does_not_begin() {
    let clocks = TestClocks::default();
    let server = Server::by(&clocks, |_| ());
    let mut consumer = server.consumer("t", "c", 5);
    server.post("/topic/pause?topic=t");
    let mut producer = server.client();
    publish_later(&mut producer, 200, b"later");
    clocks.pass(HOUR);
    consumer.expect_nothing();
    assert_eq!(server.topic_stats()["depth"], 1);
    assert_eq!(server.channel_stats("c")["deferred_count"], 0);
    server.post("/topic/unpause?topic=t");
    clocks.pass_ms(199);
    consumer.expect_nothing();
    clocks.pass_ms(1);
    assert_eq!(consumer.message().body, b"later");
}

#[test]
fn a_deferred_message_can_be_requeued_and_timed_out_like_any_other() {
    let clocks = TestClocks::default();
    let server = Server::by(&clocks, |options| options.msg_timeout = Duration::from_millis(200));
    let mut consumer = server.consumer("t", "c", 1);
    publish_later(&mut server.client(), 50, b"x");
    clocks.pass_ms(50);
    let first = consumer.message();
    consumer.req(first.id, 50);
    consumer.settle();
    clocks.pass_ms(50);
    assert_eq!(consumer.message(), Message { attempts: 2, ..first.clone() });
    clocks.pass_ms(200);
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
    let clocks = TestClocks::default();
    let server = Server::by(&clocks, |_| ());
    let mut consumer = server.consumer("t", "c", 1);
    let mut producer = server.client();
    publish_later(&mut producer, 100, b"dropped");
    server.post("/channel/empty?topic=t&channel=c");
    assert_eq!(server.channel_stats("c")["deferred_count"], 0);
    publish_later(&mut producer, 200, b"kept");
    clocks.pass_ms(200);
    assert_eq!(consumer.finish_next(1), [b"kept"]);
    consumer.expect_nothing();
    assert_eq!(server.channel_stats("c")["in_flight_count"], 0);
}
