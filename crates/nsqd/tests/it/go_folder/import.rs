//! nsqd started on a folder of the original.

use std::fs;

use super::fixture;
use crate::{
    process::{post, run_on},
    support::NsqdProcess,
};

/// The depths of topics and channels.
fn depths(nsqd: &NsqdProcess) -> Vec<String> {
    let stats = nsqd.stats();
    let mut depths = Vec::new();
    for topic in stats["topics"].as_array().unwrap() {
        let name = topic["topic_name"].as_str().unwrap();
        depths.push(format!("{name} {} {}", topic["depth"], topic["paused"]));
        for channel in topic["channels"].as_array().unwrap() {
            let channel_name = channel["channel_name"].as_str().unwrap();
            depths
                .push(format!("{name}:{channel_name} {} {}", channel["depth"], channel["paused"]));
        }
    }
    depths
}

const STOPPED: [&str; 8] = [
    "bare 3 false",
    "empty 0 false",
    "empty:idle 0 false",
    "held 2 true",
    "held:c 1 false",
    "orders 0 false",
    "orders:audit 12 true",
    "orders:billing 10 false",
];

#[test]
fn the_backlog_of_the_original_is_taken_over_once() {
    let folder = fixture("stopped");
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    assert_eq!(depths(&nsqd), STOPPED);
    let log = nsqd.kill();
    for line in [
        "INFO: IMPORT: TOPIC(orders) CHANNEL(billing): 10 messages imported from 3 files",
        "WARNING: IMPORT: TOPIC(orders): 0 messages imported from 0 files - skipped 1 .bad files",
        "INFO: IMPORT: 28 messages of the Go nsqd imported, its files moved to ",
    ] {
        assert!(log.contains(line), "{log}");
    }
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    assert_eq!(depths(&nsqd), STOPPED);
    let (_, log) = nsqd.stop();
    assert!(!log.contains("IMPORT"), "{log}");
}

#[test]
fn imported_messages_are_delivered_in_order_and_new_ones_after_them() {
    let folder = fixture("stopped");
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    nsqd.client().publish("orders", b"new");
    let mut consumer = nsqd.consumer("orders", "audit", 100);
    consumer.expect_nothing();
    post(&nsqd, "/channel/unpause?topic=orders&channel=audit");
    let messages = consumer.messages(13);
    let bodies: Vec<_> = messages.iter().map(|it| String::from_utf8_lossy(&it.body)).collect();
    let mut expected: Vec<_> = (0..12).map(|number| format!("order {number:02}")).collect();
    expected.push("new".to_owned());
    assert_eq!(bodies, expected);
    assert!(messages.is_sorted_by(|a, b| a.timestamp_ns < b.timestamp_ns));

    let mut consumer = nsqd.consumer("orders", "billing", 100);
    let mut attempts: Vec<_> =
        consumer.messages(11).into_iter().map(|it| (it.body, it.attempts)).collect();
    attempts.sort();
    let expected = (2..12).map(|number| {
        let body = format!("order {number:02}").into_bytes();
        (body, if number < 6 { 2 } else { 1 })
    });
    assert_eq!(attempts, [(b"new".to_vec(), 1)].into_iter().chain(expected).collect::<Vec<_>>());
}

#[test]
fn what_waited_at_a_topic_goes_to_its_first_channel_or_after_the_pause() {
    let folder = fixture("stopped");
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    let mut first = nsqd.consumer("bare", "first", 10);
    assert_eq!(first.finish_next(3), [b"bare 0", b"bare 1", b"bare 2"]);
    let mut consumer = nsqd.consumer("held", "c", 10);
    assert_eq!(consumer.finish_next(1), [b"at the channel"]);
    consumer.expect_nothing();
    post(&nsqd, "/topic/unpause?topic=held");
    assert_eq!(consumer.finish_next(2), [b"at the topic 0", b"at the topic 1"]);
}

#[test]
fn a_folder_that_cannot_be_imported_is_not_opened() {
    let folder = fixture("stopped");
    let odd = folder.path().join("orders:late.diskqueue.000000.dat");
    fs::create_dir(&odd).unwrap();
    let ended = run_on(folder.path(), &[]);
    let line = ended.fatal();
    assert!(line.starts_with("failed to import the disk queues of the Go nsqd - "), "{line}");
    assert!(line.contains("orders:late.diskqueue.000000.dat"), "{line}");
    fs::remove_dir(&odd).unwrap();
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    assert_eq!(depths(&nsqd), STOPPED);
}

#[test]
fn queues_beside_a_broken_catalog_wait_until_it_is_mended() {
    let folder = fixture("stopped");
    let path = folder.path().join("nsqd.dat");
    let catalog = fs::read(&path).unwrap();
    for broken in [&b""[..], &catalog[..50]] {
        fs::write(&path, broken).unwrap();
        let ended = run_on(folder.path(), &[]);
        let line = ended.fatal();
        assert!(
            line.starts_with("failed to load metadata - failed to parse metadata in"),
            "{line}"
        );
        assert!(folder.path().join("bare.diskqueue.000000.dat").exists());
    }
    fs::write(&path, &catalog).unwrap();
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    assert_eq!(depths(&nsqd), STOPPED);
}
