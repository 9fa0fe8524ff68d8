//! The size of a topic on disk and the age of its messages.

use std::path::Path;

use nsq_log::{Append, BatchBuilder, JournalRecord, Options, Read, TopicLog};

use crate::support::{ROOT, append, disk, name, open, recovered, topic};

/// Appends batches of different sizes, each at its own time; returns the time of each message.
fn append_at_times(log: &TopicLog) -> Vec<i64> {
    let mut times = Vec::new();
    for (count, body_bytes) in [(1, 10), (3, 100), (1, 5), (2, 9000), (40, 300), (1, 1), (7, 20)] {
        let mut batch = BatchBuilder::default();
        (0..count).for_each(|_| batch.push(&vec![b'x'; body_bytes]));
        let timestamp_ns = 1_000 * (times.len() as i64 + 1);
        log.append(&mut batch, Append { timestamp_ns, defer: None }).unwrap();
        times.extend((0..count).map(|_| timestamp_ns));
    }
    times
}

#[test]
fn every_message_in_memory_tells_when_it_was_published() {
    let opened = open(&disk(), Options::default());
    let log = topic(&opened.store);
    for round in 0..3 {
        let first = log.end();
        let times = append_at_times(&log);
        for (seq, time) in (first..).zip(&times) {
            assert_eq!(log.timestamp_ns(seq), Some(*time), "{seq} of round {round}");
        }
        let mut slices = Vec::new();
        assert_eq!(log.read(first..first + 5, 1 << 20, &mut slices), Read::Taken(5));
        assert_eq!(slices[0].timestamp_ns(), times.first().copied());
        assert_eq!(log.timestamp_ns(log.end() - 1), times.last().copied(), "after a read");
        assert_eq!(log.timestamp_ns(log.end()), None);
    }
    log.release(5);
    assert_eq!(log.timestamp_ns(0), None);
}

#[test]
fn every_message_on_disk_tells_when_it_was_published() {
    let disk = disk();
    let options = Options { segment_bytes: 20_000, ..Options::default() };
    let opened = open(&disk, options);
    let times = append_at_times(&topic(&opened.store));
    opened.store.close().unwrap();
    drop(opened);
    let opened = open(&disk, options);
    let log = recovered(&opened);
    for (seq, time) in (0..).zip(&times) {
        assert_eq!(log.timestamp_ns(seq), None, "not in memory");
        assert_eq!(log.load_timestamp_ns(seq).unwrap(), Some(*time), "{seq}");
    }
    assert_eq!(log.load_timestamp_ns(log.end()).unwrap(), None);
}

#[test]
fn the_size_of_a_topic_is_that_of_its_files() {
    let disk = disk();
    let opened = open(&disk, Options { segment_bytes: 20_000, ..Options::default() });
    let log = topic(&opened.store);
    append_at_times(&log);
    let state = Default::default();
    let channel = nsq_protocol::ChannelName::new("c").unwrap();
    log.journal(&[JournalRecord::ChannelCreated { channel: &channel, state: &state }], 5).unwrap();
    let on_disk = || -> u64 {
        let files = disk.files(&Path::new(ROOT).join("topics"));
        files.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    };
    assert_eq!(log.disk_bytes(), on_disk());
    log.release(45);
    assert_eq!(log.disk_bytes(), on_disk(), "after segments were deleted");
    let ephemeral = opened.store.create_topic(&name("t#ephemeral")).unwrap();
    append(&ephemeral, &[b"x"]);
    assert_eq!(ephemeral.disk_bytes(), 0);
}

#[test]
fn the_free_space_is_that_of_the_disk() {
    let disk = disk();
    let opened = open(&disk, Options::default());
    disk.limit_space(Some(16 << 20));
    let before = opened.store.free_bytes().unwrap();
    append(&topic(&opened.store), &[&[b'x'; 10_000]]);
    let after = opened.store.free_bytes().unwrap();
    assert!(after + 10_000 < before, "{after} of {before}");
}
