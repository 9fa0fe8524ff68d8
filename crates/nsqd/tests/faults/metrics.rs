//! `/metrics` of an nsqd in trouble, and the ages in it.

use std::{path::Path, time::Duration};

use nsq_log::testing::Denied;
use nsq_protocol::Command;
use rustix::io::Errno;

use crate::{
    machine::{FOLDER, Machine},
    support::{Received, Server, eventually, http},
};

const MINUTE: Duration = Duration::from_secs(60);
const CHANNEL_AGE: &str = "nsqd_channel_oldest_message_age_seconds{topic=\"t\",channel=\"c\"}";
const TOPIC_AGE: &str = "nsqd_topic_oldest_message_age_seconds{topic=\"t\"}";
const NODE_AGE: &str = "nsqd_oldest_message_age_seconds";

/// The value of a sample, such as `name{label="value"}`.
#[track_caller]
fn metric(server: &Server, sample: &str) -> f64 {
    let (status, body) = http(server.http, "GET", "/metrics", b"");
    assert_eq!(status, 200);
    let text = String::from_utf8(body).unwrap();
    let mut values = text.lines().filter_map(|line| line.strip_prefix(sample));
    let value = values.find_map(|rest| rest.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {sample} in\n{text}")).parse().unwrap()
}

#[test]
fn the_age_of_the_oldest_message_is_known_in_memory_and_after_a_restart() {
    let machine = Machine::new();
    let server = machine.start(|_| ());
    let idle = server.consumer("t", "c", 0);
    assert_eq!(metric(&server, CHANNEL_AGE), 0.0);
    for _ in 0..5 {
        server.client().publish("t", b"first");
    }
    machine.clocks.pass(MINUTE);
    server.client().publish("t", b"last");
    assert_eq!(metric(&server, CHANNEL_AGE), 60.0);
    assert_eq!(metric(&server, NODE_AGE), 60.0);
    assert_eq!(metric(&server, TOPIC_AGE), 0.0, "nothing waits at the topic");
    drop(idle);
    server.stop();

    machine.clocks.pass(MINUTE);
    let server = machine.start(|_| ());
    assert_eq!(metric(&server, CHANNEL_AGE), 120.0);
    let mut consumer = server.consumer("t", "c", 6);
    let messages = consumer.messages(6);
    assert_eq!(metric(&server, CHANNEL_AGE), 120.0, "in flight");
    messages[..5].iter().for_each(|message| consumer.fin(message.id));
    consumer.settle();
    assert_eq!(metric(&server, CHANNEL_AGE), 60.0, "of the last one");
    consumer.fin(messages[5].id);
    consumer.settle();
    assert_eq!(metric(&server, CHANNEL_AGE), 0.0);
    assert_eq!(metric(&server, NODE_AGE), 0.0);
}

#[test]
fn the_age_of_a_message_that_waits_at_its_topic_is_known() {
    let machine = Machine::new();
    let server = machine.start(|_| ());
    server.client().publish("t", b"x");
    machine.clocks.pass(MINUTE);
    assert_eq!(metric(&server, TOPIC_AGE), 60.0);
    assert_eq!(metric(&server, NODE_AGE), 60.0);
}

#[test]
fn a_deferred_message_is_not_old() {
    let machine = Machine::new();
    let server = machine.start(|_| ());
    let _idle = server.consumer("t", "c", 0);
    server.client().ok(Command::DeferredPub { topic: "t", delay_ms: 3_600_000, body: b"x" });
    machine.clocks.pass(MINUTE);
    assert_eq!(metric(&server, "nsqd_messages{state=\"deferred\"}"), 1.0);
    assert_eq!(metric(&server, CHANNEL_AGE), 0.0);
}

#[test]
fn a_full_disk_shows_until_it_has_room_again() {
    let machine = Machine::new();
    let server = machine.start(|options| options.sync_timeout = Duration::from_millis(20));
    server.client().publish("t", b"x");
    assert_eq!(metric(&server, "nsqd_healthy"), 1.0);
    machine.disk.limit_space(Some(machine.disk.used()));
    let mut producer = server.client();
    producer.send(Command::Pub { topic: "t", body: b"refused" });
    let Received::Error(error) = producer.receive() else { panic!("there is no room") };
    assert!(error.starts_with("E_PUB_FAILED"), "{error}");
    assert_eq!(metric(&server, "nsqd_healthy"), 0.0);
    assert_eq!(metric(&server, "nsqd_ready"), 0.0);
    assert_eq!(metric(&server, "nsqd_failing"), 1.0);
    assert_eq!(metric(&server, "nsqd_client_errors_total{code=\"E_PUB_FAILED\"}"), 1.0);
    assert_eq!(metric(&server, "nsqd_messages_published_total"), 1.0);
    machine.disk.limit_space(None);
    eventually(|| metric(&server, "nsqd_healthy") == 1.0);
    assert_eq!(metric(&server, "nsqd_ready"), 1.0);
    assert_eq!(metric(&server, "nsqd_failing"), 0.0);
}

#[test]
fn flushes_that_fail_are_counted() {
    let machine = Machine::new();
    let server = machine.start(|options| options.sync_timeout = Duration::from_millis(20));
    machine.disk.deny(Denied { sync: Some(Errno::IO), ..Denied::default() });
    server.client().publish("t", b"x");
    eventually(|| metric(&server, "nsqd_flush_failures_total") > 0.0);
    machine.disk.deny(Denied::default());
    eventually(|| metric(&server, "nsqd_healthy") == 1.0);
}

#[test]
fn messages_that_cannot_be_read_back_count_as_lost_and_not_as_delivered() {
    let machine = Machine::new();
    let server = machine.start(|_| ());
    let idle = server.consumer("t", "c", 0);
    for body in ["first", "second", "third"] {
        server.client().publish("t", body.as_bytes());
    }
    drop(idle);
    server.stop();
    let files = machine.disk.files(&Path::new(FOLDER).join("topics/t.topic"));
    let (segment, bytes) =
        files.iter().find(|(path, _)| path.extension() == Some("seg".as_ref())).unwrap();
    let body = bytes.windows(6).position(|bytes| bytes == b"second").unwrap();
    machine.disk.edit(segment, |bytes| bytes[body] = b'S');

    let server = machine.start(|_| ());
    let mut consumer = server.consumer("t", "c", 3);
    assert_eq!(consumer.finish_next(2), [b"first".to_vec(), b"third".to_vec()]);
    consumer.settle();
    assert_eq!(metric(&server, "nsqd_messages_lost_total"), 1.0);
    assert_eq!(metric(&server, "nsqd_messages_delivered_total"), 2.0);
    assert_eq!(metric(&server, "nsqd_messages_finished_total"), 2.0);
    let channel = "{topic=\"t\",channel=\"c\"}";
    assert_eq!(metric(&server, &format!("nsqd_channel_deliveries_total{channel}")), 2.0);
    assert_eq!(metric(&server, &format!("nsqd_channel_finishes_total{channel}")), 2.0);
    assert_eq!(metric(&server, "nsqd_damaged"), 1.0);
}
