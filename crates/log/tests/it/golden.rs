//! The bytes of `docs/design/log-format.md`, offset by offset.

use std::{path::Path, sync::Arc, time::Duration};

use nsq_log::{
    Append, BatchBuilder, ChannelDelta, ChannelState, Clocks, JournalRecord, Options, Outstanding,
    Store, split_id,
};
use nsq_protocol::ChannelName;

use crate::support::*;

fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn file(disk: &nsq_log::testing::FaultyDisk, path: &str) -> Vec<u8> {
    let wanted = Path::new(ROOT).join(path);
    disk.files(Path::new(ROOT)).into_iter().find(|(path, _)| *path == wanted).unwrap().1
}

#[test]
fn a_segment_file_is_what_the_format_says() {
    let disk = disk();
    let opened = open(&disk, Options::default());
    let log = topic(&opened.store);
    let mut batch = BatchBuilder::default();
    batch.push(b"ab");
    batch.push(b"");
    let at = Append { timestamp_ns: 0x0102_0304_0506_0708, defer: None };
    log.append(&mut batch, at).unwrap();
    batch.push(b"late");
    let at = Append { timestamp_ns: -1, defer: Some(Duration::from_nanos(0x0a0b)) };
    log.append(&mut batch, at).unwrap();

    let bytes = file(&disk, "topics/orders.topic/00000000.seg");
    assert_eq!(bytes.len(), 64 + (64 + 36 + 34) + (64 + 38));
    let (header, rest) = bytes.split_at(64);
    assert_eq!(&header[..4], b"NSQS");
    assert_eq!(be(&header[4..8]), u64::from(crc32c::crc32c(&header[8..])));
    assert_eq!(&header[8..12], [0, 1, 0, 0], "version, log number");
    assert_eq!(be(&header[12..16]), 0, "segment number");
    assert_eq!(header[16..32], opened.store.node_id());
    let topic_id = &header[32..40];
    assert_eq!(be(&header[40..48]), 0, "first sequence number");
    assert_eq!(be(&header[48..56]), 0x0102_0304_0506_0708, "created");
    assert_eq!(be(&header[56..60]), 1, "incarnation");
    assert_eq!(&header[60..], [0; 4]);

    let (first, second) = rest.split_at(64 + 36 + 34);
    assert_eq!(&first[..4], b"NSQB");
    assert_eq!(be(&first[4..8]), u64::from(crc32c::crc32c(&first[8..])));
    assert_eq!(be(&first[8..12]), 36 + 34, "length of the records");
    assert_eq!(be(&first[12..16]), 2, "count");
    assert_eq!(be(&first[16..24]), 0, "first sequence number");
    assert_eq!(&first[24..32], topic_id);
    assert_eq!(be(&first[32..40]), 0x0102_0304_0506_0708, "wall time");
    assert_eq!(be(&first[40..48]), 0, "defer delay");
    assert_eq!(be(&first[48..52]), 1, "incarnation");
    assert_eq!(&first[52..56], [0; 4], "flags, log number");
    assert_eq!(be(&first[56..60]), 0, "segment number");
    assert_eq!(be(&first[60..64]), 0, "index");
    let mix = crc32c::crc32c(&opened.store.node_id());
    let mut records = vec![0, 0, 0, 32, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1];
    records.extend(format!("{:016x}", u64::from(mix) << 22).bytes());
    records.extend(b"ab");
    records.extend([0, 0, 0, 30, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1]);
    records.extend(format!("{:016x}", u64::from(mix) << 22 | 1).bytes());
    assert_eq!(&first[64..], records);

    assert_eq!(be(&second[16..24]), 2, "first sequence number");
    assert_eq!(be(&second[32..40]), u64::MAX, "wall time");
    assert_eq!(be(&second[40..48]), 0x0a0b, "defer delay");
    assert_eq!(be(&second[60..64]), 2, "index");
}

#[test]
fn an_id_holds_log_segment_and_index() {
    let disk = disk();
    let opened = open(&disk, small_segments());
    let log = topic(&opened.store);
    for _ in 0..3 {
        append(&log, &[&[0; 400], &[1; 400]]);
    }
    let mix = crc32c::crc32c(&opened.store.node_id());
    let parts: Vec<_> = read_all(&log, 1 << 20)
        .into_values()
        .map(|message| split_id(message.id).unwrap())
        .map(|parts| (parts.segment ^ mix, parts.index))
        .collect();
    assert_eq!(parts, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]);
}

#[test]
fn the_node_file_is_what_the_format_says() {
    let disk = disk();
    let clocks = Clocks { boot_id: [7; 16], since_boot_ns: 100, wall_ns: 5000 };
    let path = Path::new(ROOT);
    let opened = Store::open(path, Arc::new(disk.clone()), Options::default(), clocks).unwrap();
    let id = opened.store.node_id();
    let check = |sequence: u64, clean: u8, reserved: u64, wall_minus_node: i64| {
        let bytes = file(&disk, "node");
        assert_eq!(bytes.len(), 1024);
        let at = usize::try_from(sequence % 2).unwrap() * 512;
        let slot = &bytes[at..at + 512];
        assert_eq!(&slot[..4], b"NSQN");
        assert_eq!(be(&slot[4..8]), u64::from(crc32c::crc32c(&slot[8..])));
        assert_eq!(&slot[8..12], [0, 1, 0, clean], "version, flags");
        assert_eq!(be(&slot[12..16]), 1, "incarnation");
        assert_eq!(slot[16..32], id);
        assert_eq!(be(&slot[32..36]), reserved);
        assert_eq!(&slot[36..40], [0; 4]);
        assert_eq!(be(&slot[40..48]), sequence);
        assert_eq!(slot[48..64], [7; 16], "boot id");
        assert_eq!(be(&slot[64..72]), 4900, "node time - time since boot");
        assert_eq!(slot[72..80], wall_minus_node.to_be_bytes());
        assert_eq!(slot[80..], [0; 432]);
    };
    check(2, 0, 1024, 0);
    append(&topic(&opened.store), &[b"x"]);
    opened.store.note_wall(-2_000_000_000).unwrap();
    check(3, 0, 1024, -2_000_000_000);
    opened.store.close().unwrap();
    check(4, 1, 1, -2_000_000_000);
}

#[test]
fn a_journal_is_what_the_format_says() {
    let disk = disk();
    let opened = open(&disk, Options::default());
    let log = topic(&opened.store);
    append(&log, &[b"1", b"2", b"3", b"4"]);
    let channel = &ChannelName::new("c").unwrap();
    let outstanding = vec![Outstanding { range: 1..2, attempts: 3, due_ns: Some(0x99) }];
    let state = &ChannelState {
        end: 4,
        cursor: 2,
        finished: vec![3..4],
        outstanding: outstanding.clone(),
        paused: true,
    };
    let delta = &ChannelDelta { end: 4, cursor: 3, finished: vec![1..2], outstanding };
    let delay = Duration::from_nanos(5);
    log.journal(
        &[
            JournalRecord::Topic { fanout: 4, paused: true, deferred: &[(2..3, delay)] },
            JournalRecord::ChannelCreated { channel, state },
        ],
        0,
    )
    .unwrap();
    log.journal(
        &[
            JournalRecord::ChannelSnapshot { channel, state },
            JournalRecord::ChannelDelta { channel, delta },
            JournalRecord::ChannelPaused { channel, paused: false },
            JournalRecord::ChannelDeleted { channel },
        ],
        1 << 40,
    )
    .unwrap();
    opened.store.close().unwrap();

    let bytes = file(&disk, "topics/orders.topic/journal.00000001");
    let (header, mut rest) = bytes.split_at(32);
    assert_eq!(&header[..4], b"NSQJ");
    assert_eq!(be(&header[4..8]), u64::from(crc32c::crc32c(&header[8..])));
    assert_eq!(&header[8..16], [0, 1, 0, 0, 0, 0, 0, 0], "version, log number, zero");
    let segment = file(&disk, "topics/orders.topic/00000000.seg");
    assert_eq!(header[16..24], segment[32..40], "topic id");
    assert_eq!(be(&header[24..]), 1, "number of the first record");

    let u32s = |value: u32| value.to_be_bytes().to_vec();
    let u64s = |values: &[u64]| values.iter().flat_map(|v| v.to_be_bytes()).collect::<Vec<_>>();
    let name = vec![1, b'c'];
    let entry = [u32s(1), u64s(&[1, 2]), vec![0, 3], u64s(&[0x99])].concat();
    let state = [u64s(&[4, 2]), vec![1], u32s(1), u64s(&[3, 4]), entry.clone()].concat();
    let delta = [u64s(&[4, 3]), u32s(1), u64s(&[1, 2]), entry].concat();
    let waypoint = [u32s(0), u64s(&[64 + 64 + 4 * 35, 4]), vec![3], vec![1; 16]].concat();
    let expected = [
        (1, [u64s(&[4]), vec![1], u32s(1), u64s(&[2, 3, 5])].concat()),
        (2, [name.clone(), state.clone()].concat()),
        (10, u64s(&[1 << 40])),
        (4, [name.clone(), state].concat()),
        (5, [name.clone(), delta].concat()),
        (6, [name.clone(), vec![0]].concat()),
        (3, name),
        (8, waypoint),
    ];
    for (number, (kind, payload)) in (1..).zip(expected) {
        let length = usize::try_from(be(&rest[..4])).unwrap();
        let (record, after) = rest[8..].split_at(length);
        assert_eq!(be(&rest[4..8]), u64::from(crc32c::crc32c(record)));
        assert_eq!(be(&record[..8]), number);
        assert_eq!(record[8], kind, "type of record {number}");
        assert_eq!(&record[9..], payload, "payload of record {number}");
        rest = after;
    }
    assert_eq!(rest, b"");
}

#[test]
fn a_snapshot_is_what_the_format_says() {
    let disk = disk();
    let opened = open(&disk, Options::default());
    let log = topic(&opened.store);
    append(&log, &[b"x"]);
    log.journal(&[JournalRecord::Topic { fanout: 1, paused: true, deferred: &[] }], 0).unwrap();
    log.waypoint().unwrap();
    let channel = &ChannelName::new("c").unwrap();
    let state = &ChannelState { end: 1, ..ChannelState::default() };
    log.journal(&[JournalRecord::ChannelCreated { channel, state }], 0).unwrap();
    log.compact().unwrap();
    let bytes = file(&disk, "topics/orders.topic/snapshot.00000002");
    assert_eq!(&bytes[..4], b"NSQK");
    assert_eq!(be(&bytes[12..16]), 3, "number of records");
    assert_eq!(be(&bytes[24..32]), 4, "number of the first record that is not in it");
    let kinds = [(1, 1 + 8 + 1 + 4), (4, 1 + 2 + 8 + 8 + 1 + 4 + 4), (8, 1 + 4 + 8 + 8 + 1 + 16)];
    let mut at = 32;
    for (number, (kind, length)) in (1..).zip(kinds) {
        assert_eq!(be(&bytes[at + 8..at + 16]), number);
        assert_eq!(bytes[at + 16], kind, "type of record {number}");
        at += 8 + 8 + length;
    }
    assert_eq!(at, bytes.len());
    let journal = file(&disk, "topics/orders.topic/journal.00000002");
    assert_eq!((journal.len(), be(&journal[24..32])), (32, 4), "it goes on there");
}
