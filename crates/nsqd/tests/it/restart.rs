//! What is left after nsqd was stopped in order and started again.

use nsq_log::Durability;
use nsq_protocol::Command;
use nsqd::Options;
use serde_json::Value;

use crate::{
    support::{Client, Message, Server},
    test_clocks::TestClocks,
};

fn channel_of<'a>(stats: &'a Value, topic: &str, channel: &str) -> &'a Value {
    let find = |list: &'a Value, key: &str, name: &str| {
        list.as_array().unwrap().iter().find(|it| it[key] == name).unwrap()
    };
    find(&find(&stats["topics"], "topic_name", topic)["channels"], "channel_name", channel)
}

#[test]
fn messages_survive_wherever_they_were() {
    let server = Server::start();
    let mut producer = server.client();
    let mut consumer = server.consumer("t", "c", 4);
    let bodies: Vec<_> = (0..20_u8).map(|i| [i]).collect();
    producer.publish_all("t", &bodies);
    let held = consumer.messages(4);
    consumer.fin(held[0].id);
    let in_flight = [&held[1], &consumer.message()].map(Message::clone);
    consumer.send(Command::Rdy(0));
    consumer.req(held[2].id, 0);
    consumer.req(held[3].id, 100);
    consumer.settle();
    producer.ok(Command::DeferredPub { topic: "t", delay_ms: 100, body: &[20] });
    producer.ok(Command::DeferredPub { topic: "t", delay_ms: 3_600_000, body: &[21] });
    producer.publish("waiting", b"w");
    let server = server.restart();
    let stats = server.stats();
    let channel = channel_of(&stats, "t", "c");
    // 15 never delivered, 2 in flight, 1 requeued; 2 deferred for 100 ms, of which one may be over already, or both.
    let count = |name: &str| channel[name].as_u64().unwrap();
    assert_eq!(count("depth") + count("deferred_count"), 21);
    assert!((18..=20).contains(&count("depth")), "{channel}");
    for counter in ["message_count", "requeue_count", "timeout_count", "in_flight_count"] {
        assert_eq!(count(counter), 0, "{counter}");
    }
    let mut consumer = server.consumer("t", "c", 100);
    let mut again = consumer.messages(20);
    again.sort_by(|a, b| a.body.cmp(&b.body));
    for message in &again {
        let before = in_flight.iter().chain(&held[2..]).find(|before| before.id == message.id);
        let expected = before.map_or(1, |before| before.attempts + 1);
        assert_eq!(message.attempts, expected, "{:?}", message.body);
        if let Some(before) = before {
            assert_eq!((message.timestamp_ns, &message.body), (before.timestamp_ns, &before.body));
        }
    }
    assert!(again.iter().map(|message| message.body[0]).eq(1..21));
    consumer.expect_nothing();
    assert_eq!(server.consumer("waiting", "c", 1).finish_next(1), [b"w"]);
}

/// Stops in order and starts again on the same folder, by the same clocks.
fn restart_by(clocks: &TestClocks, server: Server) -> Server {
    Server::in_world(clocks.world(), server.stop(), |_| ())
}

#[test]
fn a_due_time_is_not_put_off_by_a_restart() {
    let clocks = TestClocks::default();
    let server = Server::by(&clocks, |_| ());
    let mut consumer = server.consumer("t", "c", 1);
    let mut producer = server.client();
    producer.publish("t", b"requeued");
    let message = consumer.message();
    consumer.req(message.id, 700);
    consumer.settle();
    producer.ok(Command::DeferredPub { topic: "t", delay_ms: 900, body: b"deferred" });
    let server = restart_by(&clocks, server);
    clocks.pass_ms(699);
    let server = restart_by(&clocks, server);
    let mut consumer = server.consumer("t", "c", 1);
    consumer.expect_nothing();
    assert_eq!(server.channel_stats("c")["deferred_count"], 2);
    clocks.pass_ms(1);
    assert_eq!(consumer.message(), Message { attempts: 2, ..message.clone() });
    consumer.fin(message.id);
    clocks.pass_ms(199);
    consumer.expect_nothing();
    clocks.pass_ms(1);
    assert_eq!(consumer.finish_next(1), [b"deferred"]);
}

#[test]
fn a_delay_that_has_not_begun_begins_after_the_restart() {
    let clocks = TestClocks::default();
    let server = Server::by(&clocks, |_| ());
    let mut producer = server.client();
    producer.ok(Command::DeferredPub { topic: "t", delay_ms: 300, body: b"no channel" });
    server.consumer("u", "c", 0).settle();
    server.post("/topic/pause?topic=u");
    producer.ok(Command::DeferredPub { topic: "u", delay_ms: 300, body: b"paused" });
    clocks.pass_ms(300);
    let server = restart_by(&clocks, restart_by(&clocks, server));
    let stats = server.stats();
    assert_eq!(
        (&stats["topics"][0]["depth"], &stats["topics"][1]["depth"]),
        (&1.into(), &1.into())
    );
    let mut consumers = [server.consumer("t", "c", 1), server.consumer("u", "c", 1)];
    server.post("/topic/unpause?topic=u");
    clocks.pass_ms(299);
    consumers.iter_mut().for_each(Client::expect_nothing);
    clocks.pass_ms(1);
    assert_eq!(consumers[0].finish_next(1), [b"no channel"]);
    assert_eq!(consumers[1].finish_next(1), [b"paused"]);
}

#[test]
fn attempts_add_up_over_restarts() {
    let mut server = Server::start();
    server.client().publish("t", b"x");
    let mut first = None;
    for attempts in 1..6 {
        let mut consumer = server.consumer("t", "c", 1);
        let message = consumer.message();
        assert_eq!(message.attempts, attempts);
        let id = first.get_or_insert(message.id);
        assert_eq!(*id, message.id);
        server = server.restart();
    }
}

#[test]
fn pauses_survive() {
    let server = Server::start();
    let mut producer = server.client();
    server.consumer("t", "c", 0).settle();
    server.consumer("u", "c", 0).settle();
    server.post("/channel/pause?topic=t&channel=c");
    server.post("/topic/pause?topic=u");
    producer.publish("t", b"x");
    producer.publish("u", b"y");
    let server = server.restart();
    let stats = server.stats();
    assert_eq!(
        (&stats["topics"][0]["paused"], &stats["topics"][1]["paused"]),
        (&false.into(), &true.into())
    );
    assert_eq!(channel_of(&stats, "t", "c")["paused"], true);
    assert_eq!(
        (&stats["topics"][1]["depth"], &channel_of(&stats, "u", "c")["depth"]),
        (&1.into(), &0.into())
    );
    let mut consumers = [server.consumer("t", "c", 1), server.consumer("u", "c", 1)];
    for consumer in &mut consumers {
        consumer.expect_nothing();
    }
    server.post("/channel/unpause?topic=t&channel=c");
    server.post("/topic/unpause?topic=u");
    assert_eq!(consumers[0].finish_next(1), [b"x"]);
    assert_eq!(consumers[1].finish_next(1), [b"y"]);
}

#[test]
fn what_was_emptied_or_deleted_stays_so() {
    let server = Server::start();
    let mut producer = server.client();
    for channel in ["kept", "emptied", "deleted"] {
        server.consumer("t", channel, 0).settle();
    }
    producer.publish_all("t", &["a", "b"]);
    producer.publish("gone", b"x");
    server.post("/channel/empty?topic=t&channel=emptied");
    server.post("/channel/delete?topic=t&channel=deleted");
    server.post("/topic/delete?topic=gone");
    server.post("/topic/pause?topic=t");
    producer.publish("t", b"dropped");
    server.post("/topic/empty?topic=t");
    let server = server.restart();
    let stats = server.stats();
    let names = |list: &Value, key: &str| -> Vec<String> {
        list.as_array().unwrap().iter().map(|it| it[key].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&stats["topics"], "topic_name"), ["t"]);
    assert_eq!(names(&stats["topics"][0]["channels"], "channel_name"), ["emptied", "kept"]);
    assert_eq!((channel_of(&stats, "t", "emptied")["depth"]).clone(), 0);
    server.post("/topic/unpause?topic=t");
    server.client().publish("t", b"c");
    assert_eq!(server.consumer("t", "emptied", 5).finish_next(1), [b"c"]);
    assert_eq!(server.consumer("t", "kept", 5).finish_next(3), [b"a", b"b", b"c"]);
}

#[test]
fn what_is_ephemeral_does_not_survive() {
    let server = Server::start();
    let mut producer = server.client();
    producer.publish_all("t#ephemeral", &["a", "b"]);
    let _held = server.consumer("t", "c#ephemeral", 0);
    producer.publish("t", b"x");
    let server = server.restart();
    let stats = server.stats();
    let topics = stats["topics"].as_array().unwrap();
    assert_eq!((topics.len(), &topics[0]["topic_name"]), (1, &"t".into()));
    assert_eq!(topics[0]["channels"].as_array().unwrap().len(), 0);
    // It had gone to the ephemeral channel, and with it.
    assert_eq!(topics[0]["depth"], 0);
}

#[test]
fn ids_of_a_new_run_differ_from_those_of_the_last() {
    let server = Server::start();
    server.client().publish_all("t", &["x"; 100]);
    let server = server.restart();
    server.client().publish_all("t", &["x"; 100]);
    server.client().publish_all("u", &["x"; 100]);
    let mut ids: Vec<_> = server
        .consumer("t", "c", 1000)
        .messages(200)
        .iter()
        .map(|message| message.id.to_string())
        .collect();
    ids.extend(
        server.consumer("u", "c", 1000).messages(100).iter().map(|message| message.id.to_string()),
    );
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 300);
}

#[test]
fn a_client_of_the_last_run_can_finish_nothing_in_this_one() {
    let server = Server::start();
    server.client().publish("t", b"x");
    let message = server.consumer("t", "c", 1).message();
    let server = server.restart();
    let mut consumer = server.consumer("t", "c", 0);
    consumer.fin(message.id);
    assert_eq!(
        consumer.error(),
        format!("E_FIN_FAILED FIN {} failed ID not in flight", message.id)
    );
    consumer.send(Command::Rdy(1));
    assert_eq!(consumer.message(), Message { attempts: 2, ..message });
}

#[test]
fn every_level_of_durability_survives_an_orderly_stop() {
    for durability in [Durability::Memory, Durability::Log, Durability::Fsync] {
        let change = |options: &mut Options| {
            options.durability = durability;
            options.mem_queue_size = 100;
        };
        let server = Server::with(change);
        let mut producer = server.client();
        let mut consumer = server.consumer("t", "c", 50);
        for i in 0..20_u32 {
            let bodies: Vec<_> = (i * 50..i * 50 + 50).map(u32::to_be_bytes).collect();
            producer.publish_all("t", &bodies);
            producer.publish("u", &i.to_be_bytes());
        }
        assert_eq!(consumer.finish_next(300).len(), 300);
        consumer.send(Command::Rdy(0));
        for message in consumer.drain() {
            consumer.req(message.id, 0);
        }
        consumer.settle();
        let server = Server::on(server.stop(), change);
        let mut numbers: Vec<_> = server.consumer("t", "c", 2500).finish_next(700);
        numbers.sort();
        let expected: Vec<_> = (300..1000_u32).map(|i| i.to_be_bytes().to_vec()).collect();
        assert!(numbers == expected, "{durability:?}");
        assert_eq!(server.consumer("u", "c", 2500).finish_next(20).len(), 20, "{durability:?}");
    }
}

#[test]
fn a_cold_backlog_survives() {
    let change = |options: &mut Options| {
        options.mem_bytes = 1;
        options.max_bytes_per_file = 64 << 10;
    };
    let server = Server::with(change);
    let bodies: Vec<_> = (0..5000_u32).map(|i| [i.to_be_bytes(); 10].concat()).collect();
    for batch in bodies.chunks(70) {
        server.client().publish_all("t", batch);
    }
    let mut consumer = server.consumer("t", "c", 100);
    assert!(consumer.finish_next(2000) == bodies[..2000]);
    consumer.send(Command::Rdy(0));
    consumer.drain();
    let server = Server::on(server.stop(), change);
    assert_eq!(server.channel_stats("c")["depth"], 3000);
    assert_eq!(server.channel_stats("c")["backend_depth"], 3000);
    let mut rest = server.consumer("t", "c", 2500).finish_next(3000);
    rest.sort();
    assert!(rest == bodies[2000..]);
}
