//! Failures are forgotten when they are over, and files that fail only for a while are not given up.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nsq_daemon::log::{Level, Logger, Sink};
use nsq_log::testing::Denied;
use nsq_protocol::Command;
use nsqd::World;
use rustix::io::Errno;

use crate::{
    machine::{FOLDER, Machine},
    support::{Received, Server, eventually, http},
};

/// A log that counts the lines that contain a text.
#[derive(Clone)]
struct CountingLog {
    text: &'static str,
    lines: Arc<AtomicUsize>,
}

impl CountingLog {
    fn of(text: &'static str) -> Self {
        Self { text, lines: Arc::default() }
    }

    fn count(&self) -> usize {
        self.lines.load(Ordering::SeqCst)
    }
}

impl Sink for CountingLog {
    fn write_line(&self, line: &[u8]) {
        if String::from_utf8_lossy(line).contains(self.text) {
            self.lines.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Returns whether `nsqd.dat` lists a topic or channel of this name.
fn lists(machine: &Machine, name: &str) -> bool {
    let files = machine.disk.files(Path::new(FOLDER));
    let catalog = files.into_iter().find(|(path, _)| path.ends_with("nsqd.dat"));
    let text = catalog.map(|(_, bytes)| String::from_utf8(bytes).unwrap());
    text.is_some_and(|text| text.contains(&format!("\"name\":\"{name}\"")))
}

#[test]
fn a_flush_that_finds_its_topic_deleted_is_no_failure() {
    let machine = Machine::new();
    let server = machine.start(|options| options.sync_timeout = Duration::from_millis(200));
    // A producer remembers the topic that it published to last.
    let mut producer = server.client();
    producer.publish("t", b"x");
    server.post("/topic/delete?topic=t");
    // A flush asked for later is done later.
    server.client().publish("u", b"x");
    let syncs = machine.disk.syncs();
    eventually(|| machine.disk.syncs() > syncs + 2);
    assert_eq!(http(server.http, "GET", "/ping", b"").1, b"OK");
    producer.publish("t", b"goes to a new one");
}

#[test]
fn a_shortage_of_descriptors_costs_no_message_however_long_it_lasts() {
    let machine = Machine::new();
    let log = CountingLog::of("reading back");
    let logger = Logger::with_sink("", Level::Info, log.clone());
    let world =
        World { disk: Arc::new(machine.disk.clone()), clocks: Arc::new(machine.clocks.clone()) };
    let server = Server::logging_to(logger, world, tempfile::tempdir().unwrap(), |options| {
        options.data_path = FOLDER.into();
        options.mem_queue_size = 0;
        options.mem_bytes = 1;
    });
    let mut consumer = server.consumer("t", "c", 0);
    let mut producer = server.client();
    (0..10_u8).for_each(|number| producer.publish("t", &[number]));
    machine.disk.deny(Denied { open: Some(Errno::MFILE), ..Denied::default() });
    consumer.send(Command::Rdy(10));
    eventually(|| log.count() > 4);
    machine.disk.deny(Denied::default());
    let expected: Vec<_> = (0..10_u8).map(|number| vec![number]).collect();
    assert_eq!(consumer.finish_next(10), expected);
}

#[test]
fn a_channel_that_reaches_the_journal_late_is_listed_like_any_other() {
    let machine = Machine::new();
    let server = machine.start(|_| ());
    server.consumer("t", "c", 0).settle();
    eventually(|| lists(&machine, "c"));
    machine.disk.limit_space(Some(0));
    let mut client = server.client();
    client.send(Command::Sub { topic: "t", channel: "late" });
    assert!(client.error().starts_with("E_SUB_FAILED "));
    machine.disk.limit_space(None);
    eventually(|| {
        let mut client = server.client();
        client.send(Command::Sub { topic: "t", channel: "late" });
        client.receive() == Received::Response("OK".to_owned())
    });
    eventually(|| lists(&machine, "late"));
}

#[test]
fn a_topic_that_cannot_be_opened_stays_listed_until_it_is_deleted() {
    let machine = Machine::new();
    let server = machine.start(|_| ());
    server.consumer("broken", "c", 0).settle();
    server.client().publish("broken", b"x");
    server.stop();
    let folder = Path::new(FOLDER).join("topics/broken.topic");
    let segment = machine.disk.files(&folder).into_iter().map(|(path, _)| path);
    let segment = segment.into_iter().find(|path| path.extension() == Some("seg".as_ref()));
    machine.disk.break_path(&segment.unwrap(), Some(Errno::IO));
    let server = machine.start(|_| ());
    server.client().publish("t", b"x");
    eventually(|| lists(&machine, "t"));
    assert!(lists(&machine, "broken") && lists(&machine, "c"));
    server.post("/topic/delete?topic=broken");
    assert!(!lists(&machine, "broken"));
    assert_eq!(server.stats()["health"], "OK");
    server.client().publish("broken", b"a new one");
}
