//! Delivery to consumers: FIN, REQ, TOUCH, RDY and timeouts.

use std::{collections::BTreeSet, time::Duration};

use nsq_protocol::Command;
use serde_json::Value;

use crate::{
    support::{Message, Received, Server, eventually},
    test_clocks::TestClocks,
};

/// An nsqd whose messages time out after 100 ms.
fn impatient(clocks: &TestClocks) -> Server {
    Server::by(clocks, |options| options.msg_timeout = Duration::from_millis(100))
}

fn figures(stats: &Value, names: &[&str]) -> Vec<u64> {
    names.iter().map(|name| stats[*name].as_u64().unwrap()).collect()
}

fn failed(command: &str, message: &Message, why: &str) -> String {
    format!("E_{command}_FAILED {command} {} failed {why}", message.id)
}

#[test]
fn nothing_is_delivered_before_rdy() {
    let server = Server::start();
    server.client().publish("t", b"x");
    let mut consumer = server.consumer("t", "c", 0);
    consumer.expect_nothing();
    consumer.send(Command::Rdy(1));
    assert_eq!(consumer.message().body, b"x");
}

#[test]
fn rdy_is_a_ceiling_that_holds_until_it_is_changed() {
    let server = Server::start();
    server.client().publish_all("t", &["a", "b", "c", "d", "e", "f", "g"]);
    let mut consumer = server.consumer("t", "c", 2);
    let held = consumer.messages(2);
    consumer.expect_nothing();
    // One place is free, and RDY need not be sent again.
    consumer.fin(held[0].id);
    assert_eq!(consumer.message().body, b"c");
    consumer.expect_nothing();
    // Another RDY takes effect at once.
    consumer.send(Command::Rdy(3));
    let fourth = consumer.message();
    consumer.expect_nothing();
    // A lower one recalls nothing, and holds back until there is less in flight than it says.
    consumer.send(Command::Rdy(1));
    consumer.fin(held[1].id);
    consumer.expect_nothing();
    assert_eq!(server.channel_stats("c")["in_flight_count"], 2);
    consumer.fin(fourth.id);
    consumer.expect_nothing();
    consumer.send(Command::Rdy(0));
    consumer.send(Command::Touch(held[1].id));
    assert_eq!(consumer.error(), failed("TOUCH", &held[1], "ID not in flight"));
}

#[test]
fn rdy_0_stops_deliveries_until_the_next_rdy() {
    let server = Server::start();
    let mut producer = server.client();
    let mut consumer = server.consumer("t", "c", 5);
    producer.publish("t", b"a");
    let first = consumer.message();
    consumer.send(Command::Rdy(0));
    consumer.settle();
    producer.publish("t", b"b");
    consumer.fin(first.id);
    consumer.expect_nothing();
    consumer.send(Command::Rdy(1));
    assert_eq!(consumer.message().body, b"b");
}

#[test]
fn a_message_is_finished_once() {
    let server = Server::start();
    server.client().publish("t", b"x");
    let mut consumer = server.consumer("t", "c", 1);
    let message = consumer.message();
    consumer.fin(message.id);
    for (command, name) in [
        (Command::Fin(message.id), "FIN"),
        (Command::Req { id: message.id, delay_ms: 0 }, "REQ"),
        (Command::Touch(message.id), "TOUCH"),
    ] {
        consumer.send(command);
        assert_eq!(consumer.error(), failed(name, &message, "ID not in flight"));
    }
    let channel = server.channel_stats("c");
    let names = ["depth", "in_flight_count", "deferred_count", "requeue_count", "message_count"];
    assert_eq!(figures(&channel, &names), [0, 0, 0, 0, 1]);
    let names = ["in_flight_count", "message_count", "finish_count", "requeue_count"];
    assert_eq!(figures(&channel["clients"][0], &names), [0, 1, 1, 0]);
}

#[test]
fn only_the_client_that_has_a_message_may_answer_for_it() {
    let server = Server::start();
    server.client().publish("t", b"x");
    let mut owner = server.consumer("t", "c", 1);
    let message = owner.message();
    let mut other = server.consumer("t", "c", 1);
    let mut elsewhere = server.consumer("t", "d", 1);
    for (command, name) in [
        (Command::Fin(message.id), "FIN"),
        (Command::Req { id: message.id, delay_ms: 0 }, "REQ"),
        (Command::Touch(message.id), "TOUCH"),
    ] {
        other.send(command);
        assert_eq!(other.error(), failed(name, &message, "client does not own message"));
        // Another channel has a copy of its own.
        elsewhere.send(command);
        assert_eq!(elsewhere.error(), failed(name, &message, "ID not in flight"));
    }
    owner.fin(message.id);
    owner.settle();
    assert_eq!(server.channel_stats("c")["clients"].as_array().unwrap().len(), 2);
    assert_eq!(server.channel_stats("c")["in_flight_count"], 0);
}

#[test]
fn an_id_of_another_topic_is_not_in_flight() {
    let server = Server::start();
    let mut consumers = ["t", "u", "e#ephemeral"].map(|topic| {
        server.client().publish(topic, b"x");
        server.consumer(topic, "c", 1)
    });
    let held: Vec<_> = consumers.iter_mut().map(|consumer| consumer.message()).collect();
    for (own, consumer) in consumers.iter_mut().enumerate() {
        for (other, message) in held.iter().enumerate() {
            if other != own {
                consumer.fin(message.id);
                assert_eq!(consumer.error(), failed("FIN", message, "ID not in flight"));
            }
        }
        consumer.fin(held[own].id);
        consumer.expect_nothing();
    }
}

#[test]
fn a_requeued_message_comes_again_with_one_more_attempt() {
    let server = Server::start();
    server.client().publish("t", b"x");
    let mut consumer = server.consumer("t", "c", 1);
    let first = consumer.message();
    assert_eq!(first.attempts, 1);
    for attempts in 2..300 {
        consumer.req(first.id, 0);
        assert_eq!(consumer.message(), Message { attempts, ..first.clone() });
    }
    consumer.fin(first.id);
    consumer.settle();
    let channel = server.channel_stats("c");
    let names = ["requeue_count", "timeout_count", "message_count", "depth", "in_flight_count"];
    assert_eq!(figures(&channel, &names), [298, 0, 1, 0, 0]);
    let names = ["requeue_count", "message_count", "finish_count"];
    assert_eq!(figures(&channel["clients"][0], &names), [298, 299, 1]);
}

#[test]
fn a_delayed_requeue_waits_and_frees_its_place() {
    let server = Server::start();
    server.client().publish_all("t", &["a", "b"]);
    let mut consumer = server.consumer("t", "c", 1);
    let first = consumer.message();
    consumer.req(first.id, 60_000);
    let second = consumer.message();
    assert_eq!(second.body, b"b");
    consumer.fin(second.id);
    consumer.expect_nothing();
    let names = ["deferred_count", "requeue_count", "in_flight_count", "depth"];
    assert_eq!(figures(&server.channel_stats("c"), &names), [1, 1, 0, 0]);
    // While it is deferred it is in flight to no client.
    consumer.fin(first.id);
    assert_eq!(consumer.error(), failed("FIN", &first, "ID not in flight"));
    server.client().publish("t", b"c");
    let third = consumer.message();
    consumer.req(third.id, 50);
    assert_eq!(consumer.message(), Message { attempts: 2, ..third });
}

#[test]
fn a_delay_over_the_limit_is_clamped() {
    let server = Server::with(|options| options.max_req_timeout = Duration::from_millis(20));
    server.client().publish("t", b"x");
    let mut consumer = server.consumer("t", "c", 1);
    for delay_ms in [3_600_001, u64::MAX] {
        let message = consumer.message();
        consumer.req(message.id, delay_ms);
    }
    assert_eq!(consumer.message().attempts, 3);
}

#[test]
fn a_message_nobody_answers_for_comes_again() {
    let clocks = TestClocks::default();
    let server = impatient(&clocks);
    server.client().publish_all("t", &["a", "b"]);
    let mut first = server.consumer("t", "c", 2);
    let lost = first.messages(2);
    first.send(Command::Rdy(0));
    first.settle();
    let mut second = server.consumer("t", "c", 2);
    clocks.pass_ms(99);
    second.expect_nothing();
    clocks.pass_ms(1);
    let mut again = second.messages(2);
    again.sort_by(|a, b| a.body.cmp(&b.body));
    for (lost, again) in lost.iter().zip(&again) {
        assert_eq!(again, &Message { attempts: 2, ..lost.clone() });
    }
    // Nothing is in flight to the first client any more.
    first.fin(lost[0].id);
    assert_eq!(first.error(), failed("FIN", &lost[0], "client does not own message"));
    second.fin(lost[0].id);
    second.fin(lost[1].id);
    second.settle();
    first.fin(lost[0].id);
    assert_eq!(first.error(), failed("FIN", &lost[0], "ID not in flight"));
    let channel = server.channel_stats("c");
    assert_eq!(
        figures(&channel, &["timeout_count", "requeue_count", "in_flight_count"]),
        [2, 0, 0]
    );
    for client in channel["clients"].as_array().unwrap() {
        assert_eq!(client["in_flight_count"], 0);
    }
}

#[test]
fn after_a_timeout_the_same_client_may_finish_what_it_got_again() {
    let clocks = TestClocks::default();
    let server = impatient(&clocks);
    server.client().publish("t", b"x");
    let mut consumer = server.consumer("t", "c", 1);
    let first = consumer.message();
    clocks.pass_ms(100);
    let again = consumer.message();
    assert_eq!(again, Message { attempts: 2, ..first });
    consumer.fin(again.id);
    consumer.settle();
    assert_eq!(server.channel_stats("c")["clients"][0]["finish_count"], 1);
}

#[test]
fn a_client_chooses_its_own_timeout() {
    let clocks = TestClocks::default();
    let server = Server::by(&clocks, |_| ());
    server.client().publish("t", b"x");
    let mut quick = server.client();
    quick.identify("{\"msg_timeout\":1000}");
    quick.subscribe("t", "c", 1);
    let first = quick.message();
    clocks.pass_ms(999);
    quick.expect_nothing();
    clocks.pass_ms(1);
    assert_eq!(quick.message(), Message { attempts: 2, ..first });
}

#[test]
fn touch_keeps_a_message_up_to_the_longest_timeout() {
    let clocks = TestClocks::default();
    let server = Server::by(&clocks, |options| {
        options.msg_timeout = Duration::from_millis(400);
        options.max_msg_timeout = Duration::from_millis(1000);
    });
    server.client().publish("t", b"x");
    let mut consumer = server.consumer("t", "c", 1);
    let message = consumer.message();
    // Touched all the time, it stays for a second instead of 400 ms, and no longer.
    for passed_ms in [399, 399, 200, 1] {
        clocks.pass_ms(passed_ms);
        consumer.send(Command::Touch(message.id));
        consumer.expect_nothing();
    }
    clocks.pass_ms(1);
    assert_eq!(consumer.message(), Message { attempts: 2, ..message });
    assert_eq!(server.channel_stats("c")["timeout_count"], 1);
}

#[test]
fn what_a_client_held_when_it_left_waits_for_its_timeout() {
    let clocks = TestClocks::default();
    let server = impatient(&clocks);
    server.client().publish("t", b"x");
    let mut first = server.consumer("t", "c", 1);
    let message = first.message();
    drop(first);
    eventually(|| server.channel_stats("c")["client_count"] == 0);
    let mut second = server.consumer("t", "c", 1);
    second.expect_nothing();
    second.fin(message.id);
    assert_eq!(second.error(), failed("FIN", &message, "client does not own message"));
    assert_eq!(server.channel_stats("c")["in_flight_count"], 1);
    clocks.pass_ms(99);
    second.expect_nothing();
    clocks.pass_ms(1);
    assert_eq!(second.message(), Message { attempts: 2, ..message });
    assert_eq!(server.channel_stats("c")["timeout_count"], 1);
}

#[test]
fn what_a_client_held_comes_back_at_once_where_that_is_asked_for() {
    let server = Server::with(|options| options.requeue_on_disconnect = true);
    server.client().publish_all("t", &["a", "b", "c"]);
    let mut first = server.consumer("t", "c", 2);
    let held = first.messages(2);
    first.fin(held[0].id);
    first.messages(1);
    drop(first);
    let mut second = server.consumer("t", "c", 5);
    let mut again = second.messages(2);
    again.sort_by(|a, b| a.body.cmp(&b.body));
    let again: Vec<_> = again.iter().map(|message| (&message.body[..], message.attempts)).collect();
    assert_eq!(again, [(&b"b"[..], 2), (b"c", 2)]);
    assert_eq!(figures(&server.channel_stats("c"), &["requeue_count", "timeout_count"]), [2, 0]);
}

#[test]
fn every_channel_gets_every_message_with_one_id_and_time() {
    let server = Server::start();
    let mut consumers: Vec<_> =
        (0..5).map(|channel| server.consumer("t", &channel.to_string(), 100)).collect();
    let mut producer = server.client();
    producer.publish_all("t", &["a", "b"]);
    producer.publish("t", b"c");
    let received: Vec<_> = consumers.iter_mut().map(|consumer| consumer.messages(3)).collect();
    for channel in &received {
        assert_eq!(channel, &received[0]);
        assert!(channel.iter().all(|message| message.attempts == 1));
    }
    // Attempts are each channel's own.
    let first = &received[0][0];
    consumers[0].req(first.id, 0);
    assert_eq!(consumers[0].message(), Message { attempts: 2, ..first.clone() });
    consumers[1].fin(first.id);
    consumers[1].expect_nothing();
    for channel in 0..5 {
        assert_eq!(server.channel_stats(&channel.to_string())["message_count"], 3);
    }
}

#[test]
fn the_first_channel_gets_the_backlog_and_later_ones_do_not() {
    let server = Server::start();
    let mut producer = server.client();
    producer.publish_all("t", &["a", "b"]);
    assert_eq!(server.topic_stats()["depth"], 2);
    let mut first = server.consumer("t", "first", 10);
    let mut second = server.consumer("t", "second", 10);
    producer.publish("t", b"c");
    assert_eq!(first.finish_next(3), [b"a", b"b", b"c"]);
    assert_eq!(second.finish_next(1), [b"c"]);
    second.expect_nothing();
    let topic = server.topic_stats();
    assert_eq!(figures(&topic, &["depth", "message_count", "message_bytes"]), [0, 3, 3]);
}

#[test]
fn ids_are_lower_case_hex_and_never_the_same() {
    let server = Server::start();
    let mut ids = BTreeSet::new();
    let mut timestamps = Vec::new();
    for topic in ["a", "b", "c#ephemeral"] {
        let mut producer = server.client();
        producer.publish_all(topic, &["x"; 500]);
        let mut consumer = server.consumer(topic, "c", 2500);
        for message in consumer.messages(500) {
            timestamps.push(message.timestamp_ns);
            ids.insert(message.id.to_string());
        }
    }
    assert_eq!(ids.len(), 1500);
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    assert!(ids.iter().all(|id| id.len() == 16 && id.bytes().all(hex)));
    // Nanoseconds of this century.
    assert!(
        timestamps.iter().all(|ns| (1_700_000_000..4_100_000_000).contains(&(ns / 1_000_000_000)))
    );
    assert!(timestamps.is_sorted());
}

#[test]
fn one_consumer_gets_messages_in_the_order_of_publishing() {
    let server = Server::start();
    let mut producer = server.client();
    let mut consumer = server.consumer("t", "c", 7);
    let mut expected = Vec::new();
    for batch in 0..20_u32 {
        let bodies: Vec<_> = (0..50_u32).map(|i| (batch * 50 + i).to_be_bytes()).collect();
        producer.publish_all("t", &bodies);
        expected.extend(bodies.iter().map(|body| body.to_vec()));
    }
    assert_eq!(consumer.finish_next(1000), expected);
}

#[test]
fn big_messages_come_through_whole() {
    let server = Server::start();
    let body = |seed: u8| -> Vec<u8> {
        (0..1_u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed).collect()
    };
    let mut consumer = server.consumer("t", "c", 3);
    let mut producer = server.client();
    for seed in 0..4 {
        producer.publish("t", &body(seed));
    }
    producer.publish_all("t", &[body(4), b"small".to_vec(), body(5)]);
    for seed in 0..4 {
        let message = consumer.message();
        assert!(message.body == body(seed), "message {seed}");
        consumer.fin(message.id);
    }
    // A big message that is delivered again differs in its attempts only.
    let held = consumer.messages(3);
    assert!(held[0].body == body(4) && held[1].body == b"small" && held[2].body == body(5));
    for message in &held {
        consumer.req(message.id, 0);
        assert!(consumer.message() == Message { attempts: 2, ..message.clone() });
    }
}

#[test]
fn an_mpub_of_very_many_messages_is_taken_and_delivered() {
    let server = Server::start();
    let count = 200_000_u32;
    let bodies: Vec<_> = (0..count).map(u32::to_be_bytes).collect();
    server.client().publish_all("t", &bodies);
    let mut consumer = server.consumer("t", "c", 2500);
    let mut acks = Vec::new();
    for expected in 0..count {
        let message = consumer.message();
        assert_eq!(message.body, expected.to_be_bytes());
        Command::Fin(message.id).encode(&mut acks);
        if expected % 1000 == 999 {
            consumer.send_bytes(&acks);
            acks.clear();
        }
    }
    consumer.expect_nothing();
    let channel = server.channel_stats("c");
    assert_eq!(figures(&channel, &["depth", "in_flight_count", "message_count"]), [0, 0, 200_000]);
}

#[test]
fn a_consumer_may_publish_where_it_consumes() {
    let server = Server::start();
    let mut client = server.consumer("t", "c", 10);
    client.publish("u", b"other");
    client.send(Command::Pub { topic: "t", body: b"mine" });
    let answers = [client.receive(), client.receive()];
    let mine = answers
        .iter()
        .filter(|answer| matches!(answer, Received::Message(message) if message.body == b"mine"));
    assert_eq!(mine.count(), 1, "{answers:?}");
}
