//! A slow disk: calls of one kind are held, and everything that does not depend on them goes on.

use std::{
    net::TcpStream,
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use nsq_daemon::log::{Level, Logger, Sink};
use nsq_protocol::Command;
use nsqd::{Options, World};
use rustix::io::Errno;

use crate::{
    held_disk::{Call, HeldDisk, SLOW},
    machine::{FOLDER, Machine},
    support::{Client, Received, Server, eventually, http},
};

const HOUR_MS: u64 = 3_600_000;
/// Flushes that nsqd has in progress at a time.
const FLUSH_THREADS: usize = 16;

/// A log in memory.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Sink for Lines {
    fn write_line(&self, line: &[u8]) {
        self.0.lock().unwrap().push(String::from_utf8_lossy(line).into_owned());
    }
}

fn ok() -> Received {
    Received::Response("OK".to_owned())
}

fn start(change: impl FnOnce(&mut Options)) -> (HeldDisk, Server) {
    let disk = HeldDisk::default();
    let world = World { disk: Arc::new(disk.clone()), ..World::default() };
    let server = Server::in_world(world, tempfile::tempdir().unwrap(), change);
    (disk, server)
}

/// Creates a topic with a channel, `c`.
fn create(server: &Server, topic: &str) {
    server.post(&format!("/topic/create?topic={topic}"));
    server.post(&format!("/channel/create?topic={topic}&channel=c"));
}

/// Sends each common command to a topic whose channel has nothing ready, and leaves it like that.
fn exercise(server: &Server, topic: &str) -> [Client; 2] {
    let mut producer = server.client();
    producer.publish(topic, b"finished");
    producer.publish_all(topic, &["requeued", "touched"]);
    producer.ok(Command::DeferredPub { topic, delay_ms: HOUR_MS, body: b"later" });
    let mut consumer = server.consumer(topic, "c", 3);
    for message in consumer.messages(3) {
        match message.body.as_slice() {
            b"requeued" => consumer.req(message.id, HOUR_MS),
            b"touched" => {
                consumer.send(Command::Touch(message.id));
                consumer.fin(message.id);
            }
            _ => consumer.fin(message.id),
        }
    }
    retire(&mut consumer);
    [producer, consumer]
}

/// Stops deliveries to a consumer that stays connected, so that others get all messages.
fn retire(consumer: &mut Client) {
    consumer.send(Command::Rdy(0));
    consumer.settle();
}

/// Exercises topics on every thread that serves connections.
fn exercise_everywhere(server: &Server, topics: &[&str]) {
    let threads = thread::available_parallelism().unwrap().get();
    let rounds = (0..threads).flat_map(|_| topics);
    // They stay connected, or the next ones would be served by the same thread.
    let _clients: Vec<_> = rounds.map(|topic| exercise(server, topic)).collect();
}

#[test]
fn on_a_disk_that_completes_nothing_every_topic_goes_on() {
    let (disk, server) = start(|options| {
        options.sync_every = 1;
        // New segments all the time.
        options.max_bytes_per_file = 2_000;
    });
    ["t", "u"].into_iter().for_each(|topic| create(&server, topic));
    let held = disk.hold(SLOW);
    server.client().publish("t", b"flushed");
    held.wait_for(Call::Flush, "t.topic", 1);
    let mut consumer = server.consumer("t", "c", 1);
    consumer.finish_next(1);
    retire(&mut consumer);
    exercise_everywhere(&server, &["t", "u"]);
}

#[test]
fn the_deletion_of_a_topic_holds_up_nobody_else() {
    let (disk, server) = start(|_| ());
    ["t", "doomed"].into_iter().for_each(|topic| create(&server, topic));
    let (held, address) = (disk.hold(&[Call::Rename, Call::Remove]), server.http);
    let deletion =
        thread::spawn(move || http(address, "POST", "/topic/delete?topic=doomed", b"").0);
    held.wait_for(Call::Rename, "doomed", 1);
    exercise_everywhere(&server, &["t"]);
    assert_eq!(server.stats()["topics"].as_array().unwrap().len(), 2);
    drop(held);
    assert_eq!(deletion.join().unwrap(), 200);
}

#[test]
fn a_topic_that_is_deleted_while_it_is_flushed_holds_up_nobody_else() {
    let (disk, server) = start(|options| options.sync_every = 1);
    ["t", "doomed"].into_iter().for_each(|topic| create(&server, topic));
    let (held, address) = (disk.hold_in("doomed", &[Call::Flush]), server.http);
    server.client().publish("doomed", b"x");
    held.wait_for(Call::Flush, "doomed", 1);
    let deletion =
        thread::spawn(move || http(address, "POST", "/topic/delete?topic=doomed", b"").0);
    exercise_everywhere(&server, &["t"]);
    drop(held);
    assert_eq!(deletion.join().unwrap(), 200);
}

#[test]
fn a_flush_that_comes_after_the_deletion_of_its_topic_is_no_failure() {
    let (disk, log) = (HeldDisk::default(), Lines::default());
    let world = World { disk: Arc::new(disk.clone()), ..World::default() };
    let logger = Logger::with_sink("", Level::Error, log.clone());
    let server = Server::logging_to(logger, world, tempfile::tempdir().unwrap(), |options| {
        options.sync_every = 1;
    });
    create(&server, "doomed");
    let mut producer = server.client();
    // Every thread that flushes waits, so that the flush of the topic begins only when it is being deleted.
    let busy = disk.hold_in(".topic", &[Call::Flush, Call::Rename]);
    (0..FLUSH_THREADS).for_each(|n| producer.publish(&format!("busy{n}"), b"x"));
    busy.wait_for(Call::Flush, "busy", FLUSH_THREADS);
    producer.publish("doomed", b"x");
    let address = server.http;
    let deletion =
        thread::spawn(move || http(address, "POST", "/topic/delete?topic=doomed", b"").0);
    busy.wait_for(Call::Rename, "doomed", 1);
    drop(busy);
    assert_eq!(deletion.join().unwrap(), 200);
    drop(producer);
    server.stop();
    assert_eq!(*log.0.lock().unwrap(), Vec::<String>::new());
}

#[test]
fn a_compaction_of_the_journal_holds_up_nobody() {
    let (disk, server) = start(|options| {
        options.sync_timeout = std::time::Duration::from_secs(3600);
    });
    let steps: [(&'static [Call], &str); 5] = [
        (&[Call::List], ".topic"),
        (&[Call::Flush], "snapshot"),
        (&[Call::Rename], "snapshot"),
        (&[Call::SyncDir], ".topic"),
        (&[Call::Remove], "journal"),
    ];
    for (number, (step, part)) in steps.into_iter().enumerate() {
        let topic = format!("t{number}");
        create(&server, &topic);
        let held = disk.hold(step);
        grow_journal(&server, &topic);
        held.wait_for(step[0], part, 1);
        exercise_everywhere(&server, &[&topic]);
    }
}

/// Makes the journal long enough for a compaction.
fn grow_journal(server: &Server, topic: &str) {
    let mut producer = server.client();
    for _ in 0..4 {
        let mut bytes = Vec::new();
        for delay_ms in 0..500 {
            // Each with a delay of its own is a record of its own.
            Command::DeferredPub { topic, delay_ms: HOUR_MS - delay_ms, body: b"x" }
                .encode(&mut bytes);
        }
        producer.send_bytes(&bytes);
        (0..500).for_each(|_| assert_eq!(producer.receive(), ok()));
    }
}

#[test]
fn a_journal_that_is_given_a_new_file_after_a_failure_holds_up_nobody() {
    let machine = Machine::new();
    let disk = HeldDisk::of(machine.disk.clone());
    let world = World { disk: Arc::new(disk.clone()), ..World::default() };
    let server = Server::in_world(world, tempfile::tempdir().unwrap(), |options| {
        options.data_path = FOLDER.into();
    });
    create(&server, "t");
    exercise(&server, "t");
    let journal = Path::new(FOLDER).join("topics/t.topic/journal.00000001");
    machine.disk.break_path(&journal, Some(Errno::IO));
    let held = disk.hold_in("journal.00000002", &[Call::Create]);
    exercise(&server, "t");
    held.wait_for(Call::Create, "t.topic", 1);
    exercise_everywhere(&server, &["t"]);
    drop(held);
    machine.disk.break_path(&journal, None);
    eventually(|| http(server.http, "GET", "/ping", b"").0 == 200);
}

#[test]
fn a_new_channel_with_many_deferred_messages_holds_up_nobody_and_waits_for_no_flush() {
    let (disk, server) = start(|_| ());
    server.client().publish("t", b"first");
    let mut producer = server.client();
    for _ in 0..20 {
        let mut bytes = Vec::new();
        for _ in 0..500 {
            Command::DeferredPub { topic: "t", delay_ms: HOUR_MS, body: b"x" }.encode(&mut bytes);
        }
        producer.send_bytes(&bytes);
        (0..500).for_each(|_| assert_eq!(producer.receive(), ok()));
    }
    let _held = disk.hold(SLOW);
    let mut consumer = server.consumer("t", "c", 1);
    assert_eq!(consumer.finish_next(1), [b"first"]);
    retire(&mut consumer);
    assert_eq!(server.channel_stats("c")["deferred_count"], 10_000);
    exercise_everywhere(&server, &["t"]);
}

#[test]
fn segments_that_are_being_removed_hold_up_nobody() {
    let (disk, server) = start(|options| options.max_bytes_per_file = 20_000);
    create(&server, "t");
    let held = disk.hold(&[Call::Remove]);
    for _ in 0..2 {
        let mut consumer = server.consumer("t", "c", 200);
        let mut producer = server.client();
        (0..200).for_each(|_| producer.publish("t", &[b'x'; 1000]));
        consumer.finish_next(200);
        retire(&mut consumer);
        held.wait_for(Call::Remove, ".seg", 1);
    }
    exercise_everywhere(&server, &["t"]);
}

#[test]
fn a_stop_removes_segments_however_late_it_learns_that_nobody_needs_them() {
    let (disk, server) = start(|options| options.max_bytes_per_file = 20_000);
    create(&server, "t");
    let mut producer = server.client();
    (0..100).for_each(|_| producer.publish("t", &[b'x'; 1000]));
    let mut consumer = server.consumer("t", "c", 100);
    let messages = consumer.messages(100);
    consumer.settle();
    let (held, address) = (disk.hold_in("journal.", &[Call::Write]), server.tcp);
    messages.iter().for_each(|message| consumer.fin(message.id));
    consumer.settle();
    held.wait_for(Call::Write, "t.topic", 1);
    let stopping = thread::spawn(|| server.stop());
    eventually(|| TcpStream::connect(address).is_err());
    drop((consumer, producer));
    // Enough for threads that would not wait.
    (0..1000).for_each(|_| thread::yield_now());
    drop(held);
    let folder = stopping.join().unwrap();
    let files = std::fs::read_dir(folder.path().join("topics/t.topic")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let segments: Vec<_> = names.filter(|name| name.ends_with(".seg")).collect();
    assert_eq!(segments.len(), 1, "{segments:?}");
}

#[test]
fn a_topic_that_takes_its_time_to_be_created_holds_up_nobody_else() {
    let (disk, server) = start(|_| ());
    create(&server, "t");
    let held = disk.hold(&[Call::CreateDir]);
    let commands = [
        Command::Pub { topic: "u", body: b"x" },
        Command::Sub { topic: "v", channel: "c" },
        Command::DeferredPub { topic: "w", delay_ms: 5, body: b"x" },
    ];
    let mut waiting = commands.map(|command| {
        let mut client = server.client();
        client.send(command);
        client
    });
    held.wait_for(Call::CreateDir, ".topic", 3);
    exercise_everywhere(&server, &["t"]);
    drop(held);
    for client in &mut waiting {
        assert_eq!(client.receive(), ok());
    }
}

#[test]
fn threads_that_serve_connections_flush_list_rename_and_remove_nothing() {
    let (disk, server) = start(|options| {
        options.sync_every = 1;
        options.max_bytes_per_file = 20_000;
    });
    for topic in ["t", "u", "e#ephemeral"] {
        let mut client = server.client();
        client.publish(topic, b"first");
        client.ok(Command::DeferredPub { topic, delay_ms: HOUR_MS, body: b"x" });
        client.send_bytes(b"MPUB refused\n\0\0\0\x08\0\0\0\x01\0\0\0\0");
        assert!(client.error().starts_with("E_BAD_MESSAGE"));
        let mut consumer = server.consumer(topic, "c#ephemeral", 5);
        let first = consumer.message();
        consumer.fin(first.id);
        consumer.settle();
    }
    server.consumer("new", "c", 0).settle();
    exercise(&server, "new");
    // Segments that begin and end, and compactions.
    let mut consumer = server.consumer("t", "c", 100);
    let mut producer = server.client();
    (0..100).for_each(|_| producer.publish("t", &[b'x'; 1000]));
    consumer.finish_next(100);
    server.consumer("u", "c", 0).settle();
    grow_journal(&server, "u");
    // The ephemeral topic goes with its last client.
    eventually(|| server.stats()["topics"].as_array().unwrap().len() == 4);
    let mut calls = Vec::new();
    let mut seen = |call: Call, part: &str| {
        eventually(|| {
            calls.extend(disk.take_calls());
            calls.iter().any(|made| made.call == call && made.path.contains(part))
        });
    };
    seen(Call::Remove, "t.topic");
    seen(Call::Rename, "u.topic");
    let by_workers: Vec<_> = calls.iter().filter(|made| is_worker(&made.thread)).collect();
    assert!(by_workers.iter().all(|made| !SLOW.contains(&made.call)), "{by_workers:?}");
}

/// Returns true for the name of a thread that serves connections.
fn is_worker(thread: &str) -> bool {
    let number = thread.strip_prefix("nsqd-");
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}
