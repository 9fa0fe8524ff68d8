//! One connection beside others: it is woken in time, and loses nothing when its client goes.

use std::fs;

use nsq_protocol::{Command, MessageId};

use crate::support::{NsqdProcess, Received, eventually};

fn ok() -> Received {
    Received::Response("OK".to_owned())
}

fn in_flight(nsqd: &NsqdProcess) -> u64 {
    nsqd.stats()["topics"][0]["channels"][0]["in_flight_count"].as_u64().unwrap()
}

/// Waits until as much is on its way as nsqd and the sockets hold.
fn wait_until_backed_up(nsqd: &NsqdProcess) {
    let mut counts = [0; 4];
    eventually(|| {
        counts.rotate_left(1);
        counts[0] = in_flight(nsqd);
        counts.iter().all(|count| *count == counts[0])
    });
}

#[test]
fn a_consumer_that_catches_up_in_one_go_gets_the_rest_without_a_command() {
    const MESSAGES: usize = 60_000;
    let folder = tempfile::tempdir().unwrap();
    let nsqd = NsqdProcess::start(folder.path(), &["-max-rdy-count=1000000"]);
    let mut producer = nsqd.client();
    for _ in 0..MESSAGES / 2000 {
        producer.publish_all("t", &vec![[b'x'; 200]; 2000]);
    }
    let mut consumer = nsqd.consumer("t", "c", MESSAGES as u64);
    let mut received = 0;
    while received < MESSAGES {
        wait_until_backed_up(&nsqd);
        // All that is on its way is read without a pause; then nothing holds the rest back.
        let on_their_way = usize::try_from(in_flight(&nsqd)).unwrap();
        let batch = (on_their_way + 1).min(MESSAGES) - received;
        received += consumer.messages(batch).len();
    }
}

#[test]
fn publishes_of_a_client_that_goes_without_reading_its_answers_are_stored() {
    const ROUNDS: u64 = 20;
    let folder = tempfile::tempdir().unwrap();
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    nsqd.client().publish("t", b"first");
    for _ in 0..ROUNDS {
        let mut client = nsqd.client();
        let mut bytes = Vec::new();
        for _ in 0..200 {
            Command::Pub { topic: "t", body: &[b'x'; 500] }.encode(&mut bytes);
        }
        client.send_bytes(&bytes);
        // There are answers that it has not read, so that its end resets the connection.
        client.stream.peek(&mut [0]).unwrap();
    }
    let stored = || nsqd.stats()["topics"][0]["message_count"].as_u64().unwrap();
    eventually(|| stored() == 1 + ROUNDS * 200);
}

#[test]
fn a_flush_holds_answers_back_and_no_deliveries() {
    let folder = tempfile::tempdir().unwrap();
    let nsqd = NsqdProcess::start(folder.path(), &["-durability=fsync"]);
    let mut client = nsqd.consumer("t", "c", 10);
    let unknown = MessageId::from_u64(u64::MAX);
    for _ in 0..20 {
        let mut bytes = Vec::new();
        Command::Pub { topic: "t", body: b"x" }.encode(&mut bytes);
        Command::Touch(unknown).encode(&mut bytes);
        client.send_bytes(&bytes);
        let Received::Message(message) = client.receive() else {
            panic!("the message waits for the flush")
        };
        assert_eq!(client.receive(), ok());
        assert!(client.error().starts_with("E_TOUCH_FAILED"));
        client.fin(message.id);
    }
    // Answers that wait for a flush reach a client that has ended its stream.
    client.send(Command::Rdy(0));
    client.send(Command::Pub { topic: "t", body: b"last" });
    client.end_stream();
    assert_eq!(client.receive(), ok());
    client.expect_closed();
}

#[test]
fn a_command_that_cannot_create_what_it_needs_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    let (topics, aside) = (folder.path().join("topics"), folder.path().join("aside"));
    fs::rename(&topics, &aside).unwrap();
    let commands = [
        ("SUB", Command::Sub { topic: "t", channel: "c" }),
        ("PUB", Command::Pub { topic: "t", body: b"x" }),
        ("DPUB", Command::DeferredPub { topic: "t", delay_ms: 5, body: b"x" }),
    ];
    for (name, command) in commands {
        let mut client = nsqd.client();
        client.publish("e#ephemeral", b"needs no disk");
        client.send(command);
        let error = client.error();
        assert!(error.starts_with(&format!("E_{name}_FAILED {name} failed ")), "{error}");
        assert!(error.contains("No such file or directory"), "{error}");
        client.expect_closed();
    }
    fs::rename(&aside, &topics).unwrap();
    nsqd.client().publish("t", b"x");
    assert_eq!(nsqd.consumer("t", "c", 1).message().body, b"x");
}

#[test]
fn a_deferred_publish_is_refused_only_if_it_will_not_be_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let nsqd = NsqdProcess::start(folder.path(), &["-sync-timeout=1h"]);
    let mut consumer = nsqd.consumer("t", "c", 10);
    nsqd.client().publish("t", b"holds the segment open");
    let (topic, aside) = (folder.path().join("topics/t.topic"), folder.path().join("aside"));
    // The log can be written, the journal cannot.
    fs::rename(&topic, &aside).unwrap();
    let mut producer = nsqd.client();
    producer.send(Command::DeferredPub { topic: "t", delay_ms: 50, body: b"late" });
    let answer = producer.receive();
    fs::rename(&aside, &topic).unwrap();
    assert_eq!(consumer.finish_next(1), [b"holds the segment open"]);
    let stored = nsqd.stats()["topics"][0]["message_count"] == 2;
    assert_eq!(stored, answer == ok(), "{answer:?}");
    if stored {
        assert_eq!(consumer.finish_next(1), [b"late"]);
    }
}
