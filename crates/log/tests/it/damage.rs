//! Torn tails are cut, damage is counted exactly, and nothing read from disk makes the log panic or lie.

use std::path::PathBuf;

use nsq_log::{
    ChannelState, Event, JournalRecord, OpenError, Options, Read, ReadError, TopicState,
    testing::{Denied, FaultyDisk, Stop},
};
use nsq_protocol::ChannelName;
use rustix::io::Errno;

use crate::support::*;

const BATCHES: [&[&[u8]]; 4] =
    [&[b"one", b"two"], &[b"three"], &[b"four", b"", b"six"], &[b"seven"]];

fn written() -> (FaultyDisk, PathBuf, Vec<u8>) {
    let disk = disk();
    let opened = open(&disk, Options::default());
    let log = topic(&opened.store);
    BATCHES.iter().for_each(|batch| drop(append(&log, batch)));
    drop((opened, log));
    let (path, bytes) = segment_files(&disk).remove(0);
    (disk, path, bytes)
}

/// (Offset, first sequence number) of each batch, and those of the end.
fn layout() -> Vec<(usize, u64)> {
    let mut layout = vec![(64, 0)];
    for batch in BATCHES {
        let (offset, seq) = *layout.last().unwrap();
        let bytes: usize = batch.iter().map(|body| 34 + body.len()).sum();
        layout.push((offset + 64 + bytes, seq + batch.len() as u64));
    }
    layout
}

fn expected() -> Vec<Vec<u8>> {
    BATCHES.concat().into_iter().map(<[u8]>::to_vec).collect()
}

#[test]
fn a_segment_cut_anywhere_recovers_to_the_whole_batches_before_the_cut() {
    let (disk, path, bytes) = written();
    for length in 0..=bytes.len() {
        let torn = disk.restart(Stop::Kill);
        torn.edit(&path, |bytes| bytes.truncate(length));
        let opened = open(&torn, Options::default());
        let log = recovered(&opened);
        let kept = layout().into_iter().take_while(|(offset, _)| *offset <= length).last();
        let (offset, seq) = kept.unwrap_or((0, 0));
        assert_eq!(dense(&log), expected()[..usize::try_from(seq).unwrap()], "cut at {length}");
        let cut = Event::TailCut { offset: offset as u64, bytes: (length - offset) as u64 };
        let report: Vec<_> = opened.report.iter().map(|notice| notice.event.clone()).collect();
        if length == offset && length > 0 {
            assert_eq!(report, []);
        } else {
            assert_eq!(report, [cut], "cut at {length}");
        }
        assert_eq!(append(&log, &[b"next"]), seq..seq + 1);
        assert_eq!(dense(&log).len() as u64, seq + 1);
    }
}

#[test]
fn a_flipped_bit_anywhere_costs_its_own_batch_at_most_and_never_gives_a_wrong_body() {
    let (disk, path, bytes) = written();
    for (at, bit) in (0..bytes.len()).map(|at| (at, at % 8)) {
        for hot in [true, false] {
            let flipped = disk.restart(Stop::Kill);
            // Either the newest segment is damaged, or an older one, which is not checked before it is read.
            if !hot {
                let opened = open(&flipped, Options::default());
                append(&recovered(&opened), &[b"later"]);
                opened.store.close().unwrap();
            }
            flipped.edit(&path, |bytes| bytes[at] ^= 1 << bit);
            let opened = open(&flipped, Options::default());
            let log = recovered(&opened);
            let mut whole = expected();
            whole.extend((!hot).then(|| b"later".to_vec()));
            let layout = layout();
            let bad = layout.windows(2).find(|two| (two[0].0..two[1].0).contains(&at));
            let lost = bad.map_or(0..0, |two| two[0].1..two[1].1);
            let found = read_all(&log, 1);
            let last = hot && lost.end == 7;
            assert_eq!(
                log.end(),
                if last { lost.start } else { whole.len() as u64 },
                "bit {at}.{bit}"
            );
            for (seq, body) in (0_u64..).zip(&whole) {
                let got = found.get(&seq).map(|message| &message.body);
                assert_eq!(got, (!lost.contains(&seq)).then_some(body), "bit {at}.{bit}, {seq}");
            }
            if !lost.is_empty() && !last {
                let mut slices = Vec::new();
                let gone = Read::Gone(lost.end - lost.start);
                assert_eq!(
                    log.read(lost.clone(), 1 << 20, &mut slices),
                    gone,
                    "the count is exact"
                );
            }
        }
    }
}

#[test]
fn damage_in_the_middle_is_reported_with_offsets_and_count() {
    let (disk, path, _) = written();
    disk.edit(&path, |bytes| bytes[layout()[1].0 + 70] ^= 1);
    let opened = open(&disk.restart(Stop::Kill), Options::default());
    let (from, to) = (layout()[1].0 as u64, layout()[2].0 as u64);
    assert_eq!(opened.report.len(), 1);
    assert_eq!(opened.report[0].event, Event::Damage { bytes: from..to, lost: 2..3 });
    assert_eq!(
        opened.report[0].to_string(),
        format!(
            "{}: damage at offsets {from} to {to}, 1 messages lost (sequence 2 to 3)",
            path.display()
        )
    );
}

#[test]
fn damage_in_an_old_segment_is_reported_by_the_load_that_finds_it() {
    let (disk, path, _) = written();
    let disk = disk.restart(Stop::Kill);
    let opened = open(&disk, Options::default());
    append(&recovered(&opened), &[b"later"]);
    opened.store.close().unwrap();
    drop(opened);
    disk.edit(&path, |bytes| bytes[layout()[2].0 + 70] ^= 1);
    let opened = open(&disk, Options::default());
    assert_eq!(opened.report, []);
    let log = recovered(&opened);
    let chunk = log.load(3, 1).unwrap();
    assert_eq!((chunk.lost(), chunk.range()), (3..6, 3..7));
    assert_eq!(chunk.notices().len(), 1);
    assert!(log.load(4, 1).unwrap().notices().is_empty(), "it is reported once");
    assert_eq!(log.load(4, 1).unwrap().lost(), 4..6);
}

#[test]
fn missing_and_emptied_segments_are_holes_of_exactly_their_messages() {
    for remove in [true, false] {
        let disk = disk();
        let opened = open(&disk, small_segments());
        let log = topic(&opened.store);
        (0..5_u8).for_each(|i| drop(append(&log, &[&[i; 300], &[i; 300]])));
        drop((opened, log));
        let files = segment_files(&disk);
        if remove {
            nsq_log::Disk::remove(&disk, &files[2].0).unwrap();
        } else {
            disk.edit(&files[2].0, |bytes| bytes[64..].fill(0));
        }
        let opened = open(&disk, small_segments());
        let log = recovered(&opened);
        let chunk = log.load(5, 1).unwrap();
        assert_eq!(chunk.lost(), 5..6);
        let [notice] = chunk.notices() else { panic!("{:?}", chunk.notices()) };
        // A file that is not there is missed at the end of the one before it.
        let (file, event) = if remove {
            (1, Event::Missing { offset: 64 + 64 + 668, lost: 4..6 })
        } else {
            (2, Event::Damage { bytes: 64..64 + 64 + 668, lost: 4..6 })
        };
        assert_eq!((&notice.path, &notice.event), (&files[file].0, &event));
        let found = read_all(&log, 1);
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 6, 7, 8, 9]);
        assert_eq!(log.read(5..9, 1, &mut Vec::new()), Read::Gone(1));
    }
}

#[test]
fn a_damaged_segment_header_is_rebuilt_from_its_batches() {
    let disk = disk();
    let opened = open(&disk, small_segments());
    let log = topic(&opened.store);
    (0..3_u8).for_each(|i| drop(append(&log, &[&[i; 300], &[i; 300]])));
    let before = read_all(&log, 1);
    drop((opened, log));
    for (path, _) in segment_files(&disk) {
        let damaged = disk.restart(Stop::Kill);
        damaged.edit(&path, |bytes| bytes[40] ^= 0xff);
        let opened = open(&damaged, small_segments());
        assert_eq!(opened.report.len(), 1);
        assert_eq!(opened.report[0].event, Event::HeaderRebuilt);
        assert_eq!(read_all(&recovered(&opened), 1), before);
    }
}

#[test]
fn a_file_that_is_no_segment_is_set_aside() {
    let (disk, path, _) = written();
    let stray = path.with_file_name("0000ffff.seg");
    nsq_log::Disk::create(&disk, &stray).unwrap().write_all_at(&[1; 500], 0).unwrap();
    let opened = open(&disk, Options::default());
    assert!(
        matches!(&opened.report[..], [n] if matches!(n.event, Event::SetAside { bytes: 500, .. }))
    );
    assert_eq!(dense(&recovered(&opened)), expected());
    drop(opened);
    assert_eq!(open(&disk, Options::default()).report, [], "once");
}

#[test]
fn a_file_of_a_later_format_is_not_touched() {
    let (disk, path, _) = written();
    disk.edit(&path, |bytes| {
        bytes[9] = 2;
        let crc = crc32c::crc32c(&bytes[8..64]).to_be_bytes();
        bytes[4..8].copy_from_slice(&crc);
    });
    let result = try_open(&disk, Options::default());
    assert!(matches!(result, Err(OpenError::Version { found: 2, known: 1, .. })));
}

#[test]
fn a_body_that_looks_like_a_batch_is_not_taken_for_one() {
    let (disk, _, bytes) = written();
    let opened = open(&disk, Options::default());
    let log = opened.store.create_topic(&name("evil")).unwrap();
    append(&log, &[&bytes[64..]]);
    append(&log, &[b"after"]);
    drop((opened, log));
    let disk = disk.restart(Stop::Kill);
    let (path, _) = segment_files(&disk)
        .into_iter()
        .find(|(p, _)| p.to_string_lossy().contains("evil"))
        .unwrap();
    disk.edit(&path, |bytes| bytes[64] ^= 1);
    let opened = open(&disk, Options::default());
    let evil = &opened.topics.iter().find(|t| t.name.as_str() == "evil").unwrap().log;
    assert_eq!(bodies(&read_all(evil, 1)), [(1, b"after".to_vec())]);
}

#[test]
fn state_behind_the_end_of_the_log_is_cut_for_good() {
    let (disk, path, _) = written();
    let opened = open(&disk, Options::default());
    let log = recovered(&opened);
    let channel = &ChannelName::new("c").unwrap();
    let state = &ChannelState { end: 7, cursor: 7, ..ChannelState::default() };
    let topic = JournalRecord::Topic { fanout: 7, paused: false, deferred: &[] };
    log.journal(&[topic, JournalRecord::ChannelCreated { channel, state }], NOW).unwrap();
    drop((opened, log));
    let disk = disk.restart(Stop::Kill);
    disk.edit(&path, |bytes| bytes.truncate(layout()[2].0));
    let opened = open(&disk, Options::default());
    let cut = ChannelState { end: 3, cursor: 3, ..ChannelState::default() };
    let expected =
        TopicState { fanout: 3, channels: vec![(channel.clone(), cut)], ..TopicState::default() };
    assert_eq!(opened.topics[0].state, expected);
    let events: Vec<_> = opened.report.iter().map(|notice| notice.event.clone()).collect();
    assert!(events.contains(&Event::StateCut { end: 3, claimed: 7 }), "{events:?}");
    append(&recovered(&opened), &[b"a", b"b", b"c", b"d", b"e"]);
    let opened = open(&disk.restart(Stop::Kill), Options::default());
    assert_eq!(opened.topics[0].state, expected, "the messages that came since are not finished");
}

#[test]
fn a_segment_file_that_exists_is_never_overwritten() {
    let disk = disk();
    let opened = open(&disk, small_segments());
    let log = topic(&opened.store);
    append(&log, &[&[1; 900]]);
    let (path, _) = segment_files(&disk).remove(0);
    let number = u32::from_str_radix(path.file_stem().unwrap().to_str().unwrap(), 16).unwrap();
    let taken = path.with_file_name(format!("{:08x}.seg", number + 1));
    nsq_log::Disk::create(&disk, &taken).unwrap().write_all_at(b"precious", 0).unwrap();
    let error = try_append(&log, &[&[2; 900]], None).unwrap_err();
    assert!(error.to_string().contains(taken.to_str().unwrap()), "{error}");
    let kept = segment_files(&disk).into_iter().find(|(path, _)| *path == taken).unwrap();
    assert_eq!(kept.1, b"precious");
    log.reopen().unwrap();
    assert_eq!(append(&log, &[&[2; 900]]), 1..2, "the number after it is free");
}

#[test]
fn a_segment_that_cannot_be_read_is_given_up_with_its_count_and_everything_else_goes_on() {
    let disk = disk();
    let opened = open(&disk, Options { tail_messages: 0, tail_bytes: 0, ..small_segments() });
    let log = topic(&opened.store);
    (0..5_u8).for_each(|i| drop(append(&log, &[&[i; 300], &[i; 300]])));
    disk.deny(Denied { read: Some(Errno::IO), ..Denied::default() });
    assert!(matches!(log.load(5, 1), Err(ReadError::Io(_))));
    let notice = log.quarantine(5).unwrap();
    let path = &segment_files(&disk)[2].0;
    assert_eq!(notice.event, Event::Quarantined { lost: 4..6, messages: 2 });
    assert_eq!(
        notice.to_string(),
        format!("{}: cannot be read, 2 messages lost (sequence 4 to 6)", path.display())
    );
    assert_eq!(log.quarantine(4), None, "it is reported once");
    assert_eq!(log.read(4..9, 1, &mut Vec::new()), Read::Gone(2));
    disk.deny(Denied::default());
    assert_eq!(append(&log, &[b"next"]), 10..11);
    let found: Vec<_> = read_all(&log, 1).into_keys().collect();
    assert_eq!(found, [0, 1, 2, 3, 6, 7, 8, 9, 10]);
    assert_eq!(log.release(7), 3);
}

#[test]
fn a_quarantine_counts_only_what_neither_memory_nor_an_earlier_report_has() {
    let (disk, path, _) = written();
    disk.edit(&path, |bytes| bytes[layout()[1].0 + 70] ^= 1);
    let opened = open(&disk.restart(Stop::Kill), Options::default());
    let log = recovered(&opened);
    append(&log, &[b"in memory"]);
    let notice = log.quarantine(0).unwrap();
    assert_eq!(notice.event, Event::Quarantined { lost: 0..7, messages: 6 }, "2 was lost before");
    assert_eq!(log.quarantine(7), None);
    assert_eq!(bodies(&read_all(&log, 1)), [(7, b"in memory".to_vec())]);
}

#[test]
fn damage_is_reported_by_the_load_that_reaches_it_and_not_before() {
    let (disk, path, _) = written();
    for (at, lost) in [(1, 2..3), (2, 3..6), (3, 6..7)] {
        let disk = disk.restart(Stop::Kill);
        let opened = open(&disk, Options::default());
        append(&recovered(&opened), &[b"newest"]);
        opened.store.close().unwrap();
        drop(opened);
        // The length of the batch: headers behind it cannot be found by it.
        disk.edit(&path, |bytes| bytes[layout()[at].0 + 10] ^= 1);
        let opened = open(&disk, Options::default());
        let log = recovered(&opened);
        assert!(log.load(0, 1).unwrap().notices().is_empty());
        let chunk = log.load(lost.start, 1).unwrap();
        let bytes = layout()[at].0 as u64..layout()[at + 1].0 as u64;
        assert_eq!(chunk.notices().len(), 1);
        assert_eq!(chunk.notices()[0].event, Event::Damage { bytes, lost: lost.clone() });
        assert_eq!((chunk.lost(), chunk.range().start), (lost.clone(), lost.start));
        let kept: Vec<_> = (0..8).filter(|seq| !lost.contains(seq)).collect();
        assert_eq!(read_all(&log, 1).into_keys().collect::<Vec<_>>(), kept);
    }
}

#[test]
fn a_topic_goes_on_without_a_newest_segment_that_can_be_neither_written_nor_read() {
    let disk = disk();
    let options = Options { tail_messages: 1, tail_bytes: 0, ..Options::default() };
    let opened = open(&disk, options);
    let log = topic(&opened.store);
    append(&log, &[b"flushed"]);
    log.sync().unwrap();
    append(&log, &[b"lost"]);
    let path = segment_files(&disk).remove(0).0;
    disk.deny(Denied { write: Some(Errno::IO), ..Denied::default() });
    try_append(&log, &[b"refused"], None).unwrap_err();
    disk.deny(Denied::default());
    disk.break_path(&path, Some(Errno::IO));
    log.rest().unwrap();
    assert!(log.reopen().is_err(), "it may come back");
    let notice = log.quarantine(log.written() - 1).unwrap();
    assert_eq!(notice.event, Event::Quarantined { lost: 0..2, messages: 2 });
    assert_eq!(log.reopen().unwrap().lost, [1..2]);
    assert_eq!(append(&log, &[b"next"]), 2..3);
    assert_eq!(log.sync().unwrap(), 3);
    assert!(log.survived(0..1) && !log.survived(1..2) && log.survived(2..3));
    assert_eq!(bodies(&read_all(&log, 1)), [(2, b"next".to_vec())]);
    opened.store.close().unwrap();
    drop((opened, log));
    let opened = open(&disk, options);
    let log = recovered(&opened);
    assert_eq!(append(&log, &[b"more"]), 3..4);
    assert_eq!(bodies(&read_all(&log, 1)), [(2, b"next".to_vec()), (3, b"more".to_vec())]);
}
