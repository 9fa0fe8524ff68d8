//! A full disk heals, and what is broken is an island.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nsq_log::{
    Durability,
    testing::{Denied, Stop},
};
use nsq_protocol::Command;
use nsqd::{Options, World};
use rustix::io::Errno;

use crate::{
    held_disk::{Call, HeldDisk},
    machine::{FOLDER, Machine},
    support::{Received, Server, eventually, http},
};

fn small_files(options: &mut Options) {
    options.max_bytes_per_file = 100_000;
    // Older messages are read back from disk.
    options.mem_queue_size = 10;
}

/// Publishes until a message is refused; returns how many were not.
fn fill(server: &Server) -> usize {
    let mut producer = server.client();
    for count in 0.. {
        producer.send(Command::Pub { topic: "t", body: &[b'x'; 10_000] });
        match producer.receive() {
            Received::Response(_) => {}
            Received::Error(text) => {
                assert!(text.starts_with("E_PUB_FAILED PUB failed "), "{text}");
                return count;
            }
            other => panic!("{other:?}"),
        }
    }
    unreachable!("the disk is small")
}

fn publish(server: &Server) -> u16 {
    http(server.http, "POST", "/pub?topic=t", b"next").0
}

fn ping(server: &Server) -> u16 {
    http(server.http, "GET", "/ping", b"").0
}

#[test]
fn a_disk_that_was_filled_and_drained_takes_messages_again() {
    let machine = Machine::new();
    machine.disk.limit_space(Some(2 << 20));
    let server = machine.start(small_files);
    let mut consumer = server.consumer("t", "c", 0);
    let count = fill(&server);
    assert!(count > 100, "{count}");
    assert_eq!(ping(&server), 500);
    consumer.send(Command::Rdy(1));
    consumer.finish_next(count);
    eventually(|| publish(&server) == 200);
    eventually(|| ping(&server) == 200);
    assert_eq!(consumer.message().body, b"next");
}

#[test]
fn a_full_disk_makes_an_nsqd_not_ready_until_there_is_room_and_never_dead() {
    let machine = Machine::new();
    machine.disk.limit_space(Some(2 << 20));
    let server = machine.start(small_files);
    let probe = |path| http(server.http, "GET", path, b"");
    assert_eq!(probe("/ready"), (200, b"OK".to_vec()));
    fill(&server);
    let (status, body) = probe("/ready");
    let body = String::from_utf8(body).unwrap();
    assert_eq!(status, 503, "{body}");
    assert!(body.starts_with("NOK - TOPIC(t): ") && body.contains("No space left"), "{body}");
    assert_eq!(probe("/live"), (200, b"OK".to_vec()));
    // It finds out by itself: no one publishes to an nsqd that is not ready.
    machine.disk.limit_space(None);
    eventually(|| probe("/ready").0 == 200);
}

#[test]
fn a_start_on_a_full_disk_needs_no_space_and_knows_what_was_finished_on_it() {
    let machine = Machine::new();
    machine.disk.limit_space(Some(2 << 20));
    let server = machine.start(small_files);
    let mut consumer = server.consumer("t", "c", 0);
    let count = fill(&server);
    consumer.send(Command::Rdy(3));
    let kept = consumer.messages(2).iter().map(|message| message.id).collect::<Vec<_>>();
    consumer.finish_next(count - 2);
    consumer.settle();
    eventually(|| {
        let channel = machine.channel_after(Stop::Kill, "t", "c").unwrap();
        channel.outstanding.iter().map(|it| it.range.end - it.range.start).sum::<u64>() == 2
            && channel.cursor == count as u64
    });
    let machine = machine.after(Stop::Kill);
    machine.disk.limit_space(Some(0));
    let server = machine.start(small_files);
    let mut consumer = server.consumer("t", "c", 10);
    let ids: Vec<_> = consumer.messages(2).iter().map(|message| message.id).collect();
    assert_eq!(ids, kept);
    consumer.expect_nothing();
    // A stop has to write down that they were delivered.
    machine.disk.limit_space(None);
}

#[test]
fn drained_topics_keep_next_to_nothing_on_disk() {
    let machine = Machine::new();
    let server = machine.start(|_| ());
    let topics: Vec<_> = (0..10).map(|number| format!("t{number}")).collect();
    for topic in &topics {
        let mut consumer = server.consumer(topic, "c", 10);
        let mut producer = server.client();
        (0..30).for_each(|_| producer.publish(topic, &[b'x'; 100_000]));
        consumer.finish_next(30);
        consumer.settle();
    }
    // A topic has to be idle for a moment.
    machine.clocks.pass(Duration::from_secs(1));
    eventually(|| topics.iter().all(|topic| machine.segment_bytes(topic) <= 64 << 10));
}

fn segments(machine: &Machine, topic: &str) -> Vec<PathBuf> {
    let files = machine.disk.files(&Path::new(FOLDER).join(format!("topics/{topic}.topic")));
    let mut paths: Vec<_> = files.into_iter().map(|(path, _)| path).collect();
    paths.retain(|path| path.extension() == Some("seg".as_ref()));
    paths.sort();
    paths
}

#[test]
fn a_segment_that_cannot_be_read_costs_its_messages_and_nothing_else() {
    let machine = Machine::new();
    let server = machine.start(|options| {
        small_files(options);
        // Or a flush of the segment would fail as well.
        options.durability = Durability::Fsync;
    });
    let mut consumer = server.consumer("t", "c", 0);
    let mut producer = server.client();
    (0..60_u8).for_each(|number| producer.publish("t", &[number; 10_000]));
    machine.disk.break_path(&segments(&machine, "t")[1], Some(Errno::IO));
    consumer.send(Command::Rdy(1));
    let (mut received, mut last) = (0, None);
    while last != Some(59) {
        last = consumer.finish_next(1)[0].first().copied();
        received += 1;
    }
    assert!((45..60).contains(&received), "{received}");
    consumer.settle();
    assert_eq!(server.channel_stats("c")["depth"], 0);
    assert_eq!(ping(&server), 200);
    let health = server.stats()["health"].as_str().unwrap().to_owned();
    let lost = 60 - received;
    assert!(health.contains(&format!("{lost} messages")), "{health}");
}

#[test]
fn a_topic_that_cannot_be_opened_leaves_the_others_alone() {
    let machine = Machine::new();
    let server = machine.start(|_| ());
    for topic in ["broken", "t"] {
        server.consumer(topic, "c", 0).settle();
        server.client().publish(topic, b"kept");
    }
    server.stop();
    machine.disk.break_path(&segments(&machine, "broken")[0], Some(Errno::IO));
    let server = machine.start(|_| ());
    assert_eq!(server.consumer("t", "c", 1).message().body, b"kept");
    assert_eq!(publish(&server), 200);
    let health = server.stats()["health"].as_str().unwrap().to_owned();
    assert!(health.starts_with("NOK - TOPIC(broken): "), "{health}");
    let mut producer = server.client();
    producer.send(Command::Pub { topic: "broken", body: b"x" });
    assert!(producer.error().starts_with("E_PUB_FAILED PUB failed "));
    server.stop();
    machine.disk.break_path(&segments(&machine, "broken")[0], None);
    let server = machine.start(|_| ());
    assert_eq!(server.consumer("broken", "c", 1).message().body, b"kept");
}

#[test]
fn a_suspended_ephemeral_consumer_pins_nothing_of_a_durable_topic() {
    let machine = Machine::new();
    let server = machine.start(small_files);
    let mut suspended = server.consumer("t", "tail#ephemeral", 1);
    let mut consumer = server.consumer("t", "c", 10);
    let mut producer = server.client();
    for _ in 0..300 {
        producer.publish("t", &[b'x'; 10_000]);
        consumer.finish_next(1);
    }
    consumer.settle();
    eventually(|| machine.segment_bytes("t") <= 200_000);
    suspended.message();
}

#[test]
fn a_channel_whose_deletion_was_answered_does_not_come_back_after_a_kill() {
    let machine = Machine::new();
    let server = machine.start(|_| ());
    server.consumer("t", "c", 0).settle();
    server.client().publish("t", b"x");
    let listed = || {
        let files = machine.disk.files(Path::new(FOLDER));
        let catalog = files.into_iter().find(|(path, _)| path.ends_with("nsqd.dat"));
        catalog.is_some_and(|(_, bytes)| String::from_utf8(bytes).unwrap().contains("\"c\""))
    };
    eventually(listed);
    server.post("/channel/delete?topic=t&channel=c");
    let server = machine.after(Stop::Kill).start(|_| ());
    assert_eq!(server.topic_stats()["channels"].as_array().unwrap().len(), 0);
}

#[test]
fn a_topic_whose_deletion_fails_is_as_it_was() {
    let machine = Machine::new();
    let server = machine.start(|_| ());
    let mut consumer = server.consumer("t", "c", 1);
    let folder = Path::new(FOLDER).join("topics/t.topic");
    machine.disk.break_path(&folder, Some(Errno::IO));
    assert_eq!(http(server.http, "POST", "/topic/delete?topic=t", b"").0, 500);
    machine.disk.break_path(&folder, None);
    server.client().publish("t", b"x");
    let message = consumer.message();
    consumer.fin(message.id);
    consumer.settle();
    server.post("/topic/delete?topic=t");
    consumer.expect_closed();
    let server = machine.after(Stop::Kill).start(|_| ());
    assert_eq!(server.stats()["topics"].as_array().unwrap().len(), 0);
}

#[test]
fn a_subscription_on_a_full_disk_is_answered_at_once_with_the_reason() {
    let machine = Machine::new();
    let server = machine.start(|_| ());
    server.consumer("t", "c", 0).settle();
    machine.disk.limit_space(Some(0));
    for (topic, channel) in [("t", "new"), ("new", "c")] {
        let mut client = server.client();
        client.send(Command::Sub { topic, channel });
        let error = client.error();
        assert!(error.starts_with("E_SUB_FAILED SUB failed "), "{error}");
        assert!(error.contains("No space left on device"), "{error}");
    }
    server.consumer("t", "c", 0).settle();
    machine.disk.limit_space(None);
    eventually(|| publish(&server) == 200);
    eventually(|| {
        let mut client = server.client();
        client.send(Command::Sub { topic: "t", channel: "new" });
        client.receive() == Received::Response("OK".to_owned())
    });
}

#[test]
fn a_publish_whose_flush_fails_is_refused_and_one_that_was_answered_survives() {
    let machine = Machine::new();
    let server = machine.start(|options| options.durability = Durability::Fsync);
    server.consumer("t", "c", 0).settle();
    server.client().publish("t", b"answered");
    machine.disk.deny(Denied { sync: Some(Errno::IO), ..Denied::default() });
    assert_eq!(publish(&server), 503);
    machine.disk.deny(Denied::default());
    eventually(|| ping(&server) == 200);
    server.client().publish("t", b"answered again");
    let cut = machine.after(Stop::PowerCut { seed: 3 });
    let server = cut.start(|_| ());
    let mut consumer = server.consumer("t", "c", 10);
    let mut bodies = Vec::new();
    while bodies.last().is_none_or(|body| body != b"answered again") {
        bodies.push(consumer.message().body);
    }
    assert_eq!(bodies[0], b"answered");
}

#[test]
fn a_publish_after_a_failed_flush_waits_for_the_next_one() {
    let machine = Machine::new();
    let disk = HeldDisk::of(machine.disk.clone());
    let world = World { disk: Arc::new(disk.clone()), ..World::default() };
    let server = Server::in_world(world, tempfile::tempdir().unwrap(), |options| {
        options.data_path = FOLDER.into();
        options.durability = Durability::Fsync;
    });
    server.client().publish("t", b"flushed");
    machine.disk.deny(Denied { sync: Some(Errno::IO), ..Denied::default() });
    assert_eq!(publish(&server), 503);
    let held = disk.hold_in("journal.", &[Call::Flush]);
    // Something for the journal.
    server.consumer("t", "c", 0).settle();
    machine.disk.deny(Denied::default());
    // The topic takes messages again, and the first flush of it has not ended.
    held.wait_for(Call::Flush, "t.topic", 1);
    let mut producer = server.client();
    producer.send(Command::Pub { topic: "t", body: b"next" });
    eventually(|| server.topic_stats()["message_count"] == 3);
    (0..20).for_each(|_| drop(server.stats()));
    drop(held);
    assert_eq!(producer.receive(), Received::Response("OK".to_owned()));
}
