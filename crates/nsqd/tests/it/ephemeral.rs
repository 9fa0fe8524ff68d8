//! The memory of ephemeral topics.

use nsq_protocol::Command;

use crate::support::{Server, eventually, http};

/// A message takes between one and two of these.
const UNIT: usize = 64 << 10;
/// The units that one topic may take, and all together.
const TOPIC_UNITS: usize = 64;
const ALL_UNITS: usize = 4 * TOPIC_UNITS;

fn small() -> Server {
    Server::with(|options| options.shares.ephemeral_bytes_max = ALL_UNITS * UNIT)
}

fn body() -> Vec<u8> {
    vec![b'x'; UNIT - 200]
}

/// The messages that are left of more than fit.
#[track_caller]
fn assert_filled(messages: u64, units: usize) {
    let units = units as u64;
    assert!((units / 2..=units).contains(&messages), "{messages} of {units}");
}

fn depth(topic: &serde_json::Value) -> u64 {
    topic["depth"].as_u64().unwrap()
}

#[test]
fn an_ephemeral_topic_drops_the_newest_messages_when_it_takes_its_share_of_the_memory() {
    let server = small();
    let mut client = server.client();
    for _ in 0..100 {
        client.publish("t#ephemeral", &body());
    }
    let stats = server.topic_stats();
    assert_eq!(stats["message_count"], 100);
    assert_filled(depth(&stats), TOPIC_UNITS);
    assert_eq!(server.reached("max-ephemeral-memory"), 100 - depth(&stats));
    // A durable topic has the disk.
    let mut neighbour = server.client();
    for _ in 0..100 {
        neighbour.publish("durable", &body());
    }
    assert_eq!(server.consumer("durable", "c", 1).finish_next(100).len(), 100);
}

#[test]
fn all_ephemeral_topics_together_take_no_more_than_the_limit_and_give_back_what_is_finished() {
    let server = small();
    let mut client = server.client();
    for number in 0..20 {
        for _ in 0..TOPIC_UNITS / 2 {
            client.publish(&format!("t{number}#ephemeral"), &body());
        }
    }
    let topics = || server.stats()["topics"].as_array().unwrap().clone();
    let kept = topics().iter().map(depth).sum();
    assert_filled(kept, ALL_UNITS);
    let kept_by = |name: &str| {
        let topics = topics();
        topics.iter().find(|topic| topic["topic_name"] == name).map_or(0, depth)
    };
    assert_eq!(kept_by("t19#ephemeral"), 0);
    // A topic that is drained gives its memory back.
    server.consumer("t0#ephemeral", "c", 100).finish_next(TOPIC_UNITS / 2);
    eventually(|| {
        client.publish("t19#ephemeral", &body());
        kept_by("t19#ephemeral") > 0
    });
    // One that is deleted does too.
    server.post("/topic/delete?topic=t1%23ephemeral");
    eventually(|| {
        client.publish("t18#ephemeral", &body());
        kept_by("t18#ephemeral") > 0
    });
}

#[test]
fn finished_messages_behind_one_in_flight_take_no_memory() {
    let server = small();
    let mut publisher = server.client();
    let mut slow = server.consumer("t#ephemeral", "c#ephemeral", 1);
    publisher.publish("t#ephemeral", b"stays in flight");
    let first = slow.message();
    let mut quick = server.consumer("t#ephemeral", "c#ephemeral", 1);
    for _ in 0..10 * TOPIC_UNITS {
        publisher.publish("t#ephemeral", &body());
        let message = quick.message();
        assert!(message.body == body());
        quick.fin(message.id);
        quick.settle();
    }
    assert_eq!(server.reached("max-ephemeral-memory"), 0);
    slow.req(first.id, 0);
    assert_eq!(slow.message().body, b"stays in flight");
}

#[test]
fn messages_in_flight_count() {
    let server = small();
    let mut publisher = server.client();
    let mut consumer = server.consumer("t#ephemeral", "c#ephemeral", 1000);
    for _ in 0..2 * TOPIC_UNITS {
        publisher.publish("t#ephemeral", &body());
    }
    assert_filled(consumer.drain().len() as u64, TOPIC_UNITS);
}

#[test]
fn deferred_messages_of_an_ephemeral_topic_count() {
    let server = small();
    let _consumer = server.consumer("t#ephemeral", "c", 1);
    let mut client = server.client();
    for _ in 0..2 * TOPIC_UNITS {
        client.ok(Command::DeferredPub {
            topic: "t#ephemeral",
            delay_ms: 3_600_000,
            body: &body(),
        });
    }
    assert_filled(server.channel_stats("c")["deferred_count"].as_u64().unwrap(), TOPIC_UNITS);
}

#[test]
fn a_limit_of_0_bytes_is_none() {
    let server = Server::with(|options| {
        options.shares.ephemeral_bytes_max = 0;
        options.shares.network_bytes_max = 0;
    });
    let mut consumer = server.consumer("t#ephemeral", "c", 1);
    let large = vec![b'x'; 500_000];
    server.client().publish("t#ephemeral", &large);
    assert_eq!(consumer.message().body, large);
    let (status, _) = http(server.http, "POST", "/pub?topic=t%23ephemeral", &large);
    assert_eq!(status, 200);
}
