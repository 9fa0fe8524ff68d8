//! Flushes: of everything that changed, within `--sync-timeout`; of nothing else; of several topics at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use nsq_log::{Durability, testing::Stop};
use nsq_protocol::Command;
use nsqd::{Options, World};

use crate::{
    held_disk::{Call, HeldDisk, Made},
    machine::{FOLDER, Machine},
    support::{Client, Received, Server, eventually},
};

/// Loses unflushed writes; the seed decides which.
const POWER_CUT: Stop = Stop::PowerCut { seed: 7 };

fn start(disk: &HeldDisk, folder: tempfile::TempDir, change: impl FnOnce(&mut Options)) -> Server {
    let world = World { disk: Arc::new(disk.clone()), ..World::default() };
    Server::in_world(world, folder, change)
}

fn is_flush_of(made: &Made, part: &str) -> bool {
    made.call == Call::Flush && made.path.contains(part)
}

#[test]
fn what_is_finished_is_flushed_in_time_although_nothing_is_published() {
    let machine = Machine::new();
    let server = machine.start(|options| options.sync_timeout = Duration::from_millis(20));
    let mut consumer = server.consumer("t", "c", 2);
    server.client().publish_all("t", &["finished", "held"]);
    let [finished, _held] = [consumer.message(), consumer.message()];
    consumer.fin(finished.id);
    consumer.settle();
    eventually(|| {
        let channel = machine.channel_after(POWER_CUT, "t", "c").unwrap_or_default();
        let held = channel.outstanding.iter().flat_map(|it| it.range.clone());
        channel.cursor == 2 && held.eq([1])
    });
}

#[test]
fn what_is_finished_outlives_a_kill_although_no_flush_completes() {
    const TOPICS: usize = 30;
    let machine = Machine::new();
    let disk = HeldDisk::of(machine.disk.clone());
    let world = World { disk: Arc::new(disk.clone()), ..World::default() };
    let server = Server::in_world(world, tempfile::tempdir().unwrap(), |options| {
        options.data_path = FOLDER.into();
        options.sync_every = 1;
    });
    let _held = disk.hold(&[Call::Flush, Call::Remove, Call::Rename, Call::SyncDir]);
    let mut consumers = Vec::new();
    for topic in (0..TOPICS).map(|number| format!("t{number}")) {
        let mut consumer = server.consumer(&topic, "c", 1);
        server.client().publish(&topic, b"x");
        consumer.finish_next(1);
        consumer.settle();
        consumers.push((topic, consumer));
    }
    eventually(|| {
        consumers.iter().all(|(topic, _)| {
            let channel = machine.channel_after(Stop::Kill, topic, "c").unwrap_or_default();
            channel.cursor == 1 && channel.outstanding.is_empty()
        })
    });
}

#[test]
fn a_quiet_topic_is_flushed_in_time_beside_a_busy_one() {
    let disk = HeldDisk::default();
    let server = start(&disk, tempfile::tempdir().unwrap(), |options| {
        options.sync_every = 10;
        options.sync_timeout = Duration::from_millis(50);
    });
    let (stop, tcp) = (Arc::new(AtomicBool::new(false)), server.tcp);
    let stopped = stop.clone();
    let busy = thread::spawn(move || {
        let mut producer = Client::connect(tcp);
        while !stopped.load(Ordering::Relaxed) {
            producer.publish("busy", b"x");
        }
    });
    server.client().publish("quiet", b"x");
    let mut calls = Vec::new();
    for topic in ["busy", "quiet"] {
        eventually(|| {
            calls.extend(disk.take_calls());
            calls.iter().any(|made| is_flush_of(made, &format!("{topic}.topic")))
        });
    }
    stop.store(true, Ordering::Relaxed);
    busy.join().unwrap();
}

#[test]
fn a_clean_stop_flushes_only_topics_that_changed() {
    let disk = HeldDisk::default();
    let server = start(&disk, tempfile::tempdir().unwrap(), |_| ());
    let mut producer = server.client();
    for number in 0..30 {
        let topic = format!("idle{number}");
        producer.publish(&topic, b"kept");
        server.consumer(&topic, "c", 0).settle();
    }
    drop(producer);
    let server = start(&disk, server.stop(), |_| ());
    server.client().publish("changed", b"x");
    disk.take_calls();
    server.stop();
    let calls = disk.take_calls();
    assert!(calls.iter().any(|made| is_flush_of(made, "changed.topic")), "{calls:?}");
    let of_idle: Vec<_> = calls.iter().filter(|made| made.path.contains("idle")).collect();
    assert!(of_idle.is_empty(), "{of_idle:?}");
}

#[test]
fn publishes_to_several_topics_are_flushed_at_the_same_time() {
    const TOPICS: usize = 12;
    let disk = HeldDisk::default();
    let server = start(&disk, tempfile::tempdir().unwrap(), |options| {
        options.durability = Durability::Fsync;
    });
    let topics: Vec<_> = (0..TOPICS).map(|number| format!("t{number}")).collect();
    let mut clients: Vec<_> = topics.iter().map(|_| server.client()).collect();
    for (client, topic) in clients.iter_mut().zip(&topics) {
        client.publish(topic, b"first");
    }
    let held = disk.hold_in(".seg", &[Call::Flush]);
    for (client, topic) in clients.iter_mut().zip(&topics) {
        client.send(Command::Pub { topic, body: b"second" });
    }
    held.wait_for(Call::Flush, ".seg", TOPICS);
    drop(held);
    for client in &mut clients {
        assert_eq!(client.receive(), Received::Response("OK".to_owned()));
    }
}
