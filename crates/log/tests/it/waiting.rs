//! Publishers and consumers do not wait for a flush or a file name, and memory and descriptors stay within bounds.

use std::{path::Path, sync::Arc, time::Duration};

use nsq_log::{Chunk, JournalRecord, Opened, Options, Read, Store, testing::Denied};
use rustix::io::Errno;

use crate::{support::*, watched::WatchedDisk};

fn watched() -> WatchedDisk {
    WatchedDisk::new(disk())
}

fn open_watched(disk: &WatchedDisk, options: Options) -> Opened {
    Store::open(Path::new(ROOT), Arc::new(disk.clone()), options, disk.disk.clocks()).unwrap()
}

fn topic_record() -> JournalRecord<'static> {
    JournalRecord::Topic { fanout: 0, paused: false, deferred: &[] }
}

#[test]
fn appends_reads_and_journal_records_go_on_during_a_flush() {
    let disk = watched();
    let opened = open_watched(&disk, Options { tail_bytes: 0, ..small_segments() });
    let log = topic(&opened.store);
    log.journal(&[topic_record()], 0).unwrap();
    append(&log, &[&[1; 700]]);
    append(&log, &[&[2; 700]]);
    std::thread::scope(|scope| {
        let held = disk.hold("sync");
        let flush = scope.spawn(|| log.sync());
        held.wait();
        log.journal(&[topic_record()], 0).unwrap();
        append(&log, &[&[3; 700]]);
        try_append(&log, &[&[4; 700]], Some(Duration::from_secs(1))).unwrap();
        log.flush().unwrap();
        log.prepare().unwrap();
        assert_eq!(log.load(0, 1).unwrap().range(), 0..1);
        assert_eq!((log.release(1), log.synced()), (1, 0));
        assert!(!log.needs_compaction() && !flush.is_finished());
        drop(held);
        assert_eq!(flush.join().unwrap().unwrap(), 2);
    });
    assert_eq!(log.sync().unwrap(), 4);
}

#[test]
fn appends_and_journal_records_go_on_during_every_step_of_a_compaction() {
    for step in ["create", "sync", "rename", "remove"] {
        let disk = watched();
        let opened = open_watched(&disk, Options::default());
        let log = topic(&opened.store);
        log.journal(&[topic_record()], 0).unwrap();
        std::thread::scope(|scope| {
            let held = disk.hold(step);
            let compaction = scope.spawn(|| log.compact());
            held.wait();
            log.journal(&[JournalRecord::Topic { fanout: 0, paused: true, deferred: &[] }], 0)
                .unwrap();
            if step != "create" {
                try_append(&log, &[b"x"], Some(Duration::from_secs(1))).unwrap();
                log.waypoint().unwrap();
            }
            assert!(!log.journal_behind() && !compaction.is_finished(), "{step}");
            drop(held);
            assert_eq!(compaction.join().unwrap().unwrap(), None);
        });
        let killed = disk.disk.restart(nsq_log::testing::Stop::Kill);
        assert!(open(&killed, Options::default()).topics[0].state.paused, "{step}");
    }
}

#[test]
fn a_flush_that_fails_beside_a_compaction_is_mended_by_the_next_one() {
    let disk = watched();
    let opened = open_watched(&disk, Options::default());
    let log = topic(&opened.store);
    std::thread::scope(|scope| {
        let held = disk.hold("rename");
        let compaction = scope.spawn(|| log.compact());
        held.wait();
        log.sync().unwrap();
        log.journal(&[topic_record()], 0).unwrap();
        disk.disk.deny(Denied { sync: Some(Errno::IO), ..Denied::default() });
        log.sync().unwrap_err();
        disk.disk.deny(Denied::default());
        drop(held);
        assert_eq!(compaction.join().unwrap().unwrap(), None);
    });
    assert!(log.needs_compaction(), "the record may be lost");
    assert_eq!(log.compact().unwrap(), None);
    assert!(!log.needs_compaction());
}

#[test]
fn other_topics_come_and_work_while_one_is_deleted() {
    for step in ["rename", "sync", "remove"] {
        let disk = watched();
        let opened = open_watched(&disk, Options::default());
        append(&topic(&opened.store), &[b"x"]);
        let other = opened.store.create_topic(&name("other")).unwrap();
        std::thread::scope(|scope| {
            let held = disk.hold(step);
            let deletion = scope.spawn(|| opened.store.delete_topic(&name(TOPIC)));
            held.wait();
            append(&other, &[b"y"]);
            other.journal(&[topic_record()], 0).unwrap();
            append(&opened.store.create_topic(&name("new")).unwrap(), &[b"z"]);
            assert!(!deletion.is_finished(), "{step}");
            drop(held);
            deletion.join().unwrap().unwrap();
        });
        assert_eq!(topic(&opened.store).end(), 0);
    }
}

#[test]
fn a_removal_holds_nothing_up() {
    let disk = watched();
    let opened = open_watched(&disk, small_segments());
    let log = topic(&opened.store);
    (0..4).for_each(|_| drop(append(&log, &[&[1; 700]])));
    std::thread::scope(|scope| {
        let held = disk.hold("remove");
        let release = scope.spawn(|| log.release(3));
        held.wait();
        append(&log, &[&[1; 700]]);
        assert_eq!(log.read(3..4, 1, &mut Vec::new()), Read::Taken(1));
        assert_eq!(log.load(0, 1).unwrap().lost(), 0..3);
        drop(held);
        assert_eq!(release.join().unwrap(), 3);
    });
}

#[test]
fn a_segment_that_was_prepared_begins_with_a_write_and_nothing_else() {
    let disk = watched();
    let opened = open_watched(&disk, small_segments());
    let log = topic(&opened.store);
    append(&log, &[&[1; 300]]);
    assert!(!log.prepare_due());
    log.prepare().unwrap();
    append(&log, &[&[1; 300]]);
    assert!(log.prepare_due(), "more than three quarters are full");
    disk.take_done();
    log.prepare().unwrap();
    let done = disk.take_done();
    let [create, write] = &done[..] else { panic!("{done:?}") };
    let file = create.strip_prefix("create ").unwrap();
    assert_eq!(*write, format!("write {file}"));
    let spare = segment_files(&disk.disk).pop().unwrap().1;
    assert_eq!((&spare[..4], spare.len()), (&b"NSQ0"[..], 64));
    assert!(spare[4..].iter().all(|byte| *byte == 0));
    assert!(!log.prepare_due());
    append(&log, &[&[1; 300]]);
    let write = format!("write {file}");
    assert_eq!(disk.take_done(), [write.clone(), write], "header and batch");
    assert_eq!(segment_files(&disk.disk).len(), 2);
    let disk = disk.disk.restart(nsq_log::testing::Stop::Kill);
    let opened = open(&disk, small_segments());
    assert_eq!(opened.report, []);
    assert_eq!(dense(&recovered(&opened)).len(), 3);
}

#[test]
fn the_creation_of_a_segment_holds_no_append_up() {
    let disk = watched();
    let opened = open_watched(&disk, small_segments());
    let log = topic(&opened.store);
    append(&log, &[&[1; 700]]);
    std::thread::scope(|scope| {
        let held = disk.hold("create");
        let prepare = scope.spawn(|| log.prepare());
        held.wait();
        append(&log, &[b"small"]);
        drop(held);
        prepare.join().unwrap().unwrap();
    });
    assert_eq!(segment_files(&disk.disk).len(), 2);
}

#[test]
fn a_prepared_segment_that_is_not_used_leaves_no_trace() {
    for clean in [true, false] {
        let disk = disk();
        let opened = open(&disk, small_segments());
        let log = topic(&opened.store);
        log.prepare().unwrap();
        append(&log, &[&[1; 900]]);
        log.prepare().unwrap();
        assert_eq!(segment_files(&disk).len(), 2);
        log.rest().unwrap();
        if clean {
            opened.store.close().unwrap();
            assert_eq!(segment_files(&disk).len(), 1);
        }
        let disk = disk.restart(nsq_log::testing::Stop::Kill);
        let opened = open(&disk, small_segments());
        assert_eq!(opened.report, []);
        assert_eq!((dense(&recovered(&opened)).len(), segment_files(&disk).len()), (1, 1));
    }
}

#[test]
fn segments_are_flushed_before_the_journal_that_vouches_for_them() {
    let disk = watched();
    let opened = open_watched(&disk, small_segments());
    let log = topic(&opened.store);
    for _ in 0..3 {
        try_append(&log, &[&[1; 700]], Some(Duration::from_secs(9))).unwrap();
    }
    log.journal(&[topic_record()], 0).unwrap();
    disk.take_done();
    log.sync().unwrap();
    let mut flushed = disk.take_done();
    flushed.retain(|done| done.starts_with("sync "));
    let files = segment_files(&disk.disk);
    let names = files.iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap());
    let order: Vec<_> = names
        .chain(["orders.topic", "journal"])
        .map(|name| flushed.iter().rposition(|done| done[5..].starts_with(name)).expect(name))
        .collect();
    assert!(order.is_sorted(), "{flushed:?}");
}

#[test]
fn a_thousand_topics_share_a_few_descriptors() {
    let disk = watched();
    let options = Options { open_files_max: 40, ..Options::default() };
    let opened = open_watched(&disk, options);
    let logs: Vec<_> =
        (0..1000).map(|i| opened.store.create_topic(&name(&format!("t{i}"))).unwrap()).collect();
    for round in 0..3_u64 {
        for log in &logs {
            assert_eq!(append(log, &[b"x"]), round..round + 1);
        }
    }
    for log in logs.iter().step_by(50) {
        log.sync().unwrap();
        assert_eq!(log.load(0, 1).unwrap().range(), 0..3);
    }
    assert!(disk.open_most() <= 45, "{} files were open at once", disk.open_most());
    logs.iter().for_each(|log| log.rest().unwrap());
    assert_eq!(disk.open_files(), 0, "topics at rest hold none");
}

#[test]
fn a_file_in_use_is_not_the_one_that_is_closed() {
    let disk = watched();
    let opened = open_watched(&disk, Options { open_files_max: 8, ..Options::default() });
    let busy = opened.store.create_topic(&name("busy")).unwrap();
    append(&busy, &[b"x"]);
    let before = disk.open_most();
    for i in 0..50 {
        append(&opened.store.create_topic(&name(&format!("t{i}"))).unwrap(), &[b"x"]);
        append(&busy, &[b"x"]);
    }
    assert!(disk.open_most() <= before + 8);
}

/// A closed segment of 6 MB in batches of the given length, as the next run finds it.
fn backlog(batch_bytes: usize, options: Options) -> (WatchedDisk, Opened) {
    let first = disk();
    let opened = open(&first, Options::default());
    let log = topic(&opened.store);
    let body = vec![7; batch_bytes];
    (0..6_000_000 / batch_bytes).for_each(|_| drop(append(&log, &[&body])));
    drop((opened, log));
    let first = first.restart(nsq_log::testing::Stop::Kill);
    let opened = open(&first, Options::default());
    append(&recovered(&opened), &[b"newest"]);
    opened.store.close().unwrap();
    drop(opened);
    let disk = WatchedDisk::new(first);
    let opened = open_watched(&disk, options);
    (disk, opened)
}

#[test]
fn a_backlog_is_read_once_and_from_its_first_batches_on() {
    let (disk, opened) = backlog(1000, Options::default());
    let log = recovered(&opened);
    disk.take_read_bytes();
    assert!(log.load(0, 100_000).unwrap().range().end > 80);
    let read = disk.take_read_bytes();
    assert!(read <= 200_000, "{read} bytes were read for the first batches");
    let found = read_all(&log, 1 << 20);
    assert_eq!(found.len(), 6001);
    let read = disk.take_read_bytes();
    assert!(read < 8_000_000, "{read} bytes were read of 6.6 MB");
}

#[test]
fn a_batch_deep_in_a_segment_is_reached_without_reading_large_ones_before_it() {
    let (disk, opened) = backlog(100_000, Options::default());
    let log = recovered(&opened);
    disk.take_read_bytes();
    assert_eq!(log.load(57, 1).unwrap().range().start, 57);
    let read = disk.take_read_bytes();
    assert!(read < 1_000_000, "{read} bytes were read for one batch of 100,000");
    assert_eq!(log.load(31, 1).unwrap().range().start, 31);
    assert!(disk.take_read_bytes() < 400_000, "the way was noted");
}

fn bytes_of(chunk: &Chunk) -> usize {
    let mut slices = Vec::new();
    let read = chunk.read(chunk.range(), usize::MAX / 2, &mut slices);
    assert!(matches!(read, Read::Taken(1..)));
    slices.iter().map(|slice| slice.bytes.len()).sum()
}

#[test]
fn many_cold_readers_share_a_budget_and_all_get_on() {
    let options = Options { read_bytes_max: 4 << 20, ..Options::default() };
    let (_, opened) = backlog(1000, options);
    let log = recovered(&opened);
    let load = |seq| log.load(seq, 1 << 20).unwrap();
    let alone = bytes_of(&load(0));
    assert!(alone > 400_000);
    let chunks: Vec<_> = (0..100).map(|i| load(i * 50)).collect();
    let held: usize = chunks.iter().map(bytes_of).sum();
    assert!(held <= (4 << 20) + 100 * (64 << 10), "{held} bytes are held");
    assert!(chunks.iter().all(|chunk| bytes_of(chunk) > 10_000));
    drop(chunks);
    assert_eq!(bytes_of(&load(0)), alone, "a dropped chunk is given back");
}

#[test]
fn messages_that_are_still_being_sent_count_after_their_chunk_is_gone() {
    let (_, opened) = backlog(1000, Options { read_bytes_max: 4 << 20, ..Options::default() });
    let log = recovered(&opened);
    let load = |seq| log.load(seq, 1 << 20).unwrap();
    let alone = bytes_of(&load(0));
    let mut sent = Vec::new();
    for seq in 0..20 {
        let mut slices = Vec::new();
        assert_eq!(load(seq).read(seq..seq + 1, 1, &mut slices), Read::Taken(1));
        sent.extend(slices);
    }
    assert!(bytes_of(&load(0)) < alone / 4);
    drop(sent);
    assert_eq!(bytes_of(&load(0)), alone);
}

#[test]
fn a_batch_larger_than_the_budget_is_read_all_the_same() {
    let (_, opened) = backlog(1_000_000, Options { read_bytes_max: 0, ..Options::default() });
    assert_eq!(bytes_of(&recovered(&opened).load(3, 1).unwrap()), 1_000_034);
}

#[test]
fn a_flush_goes_on_when_its_segments_are_released_meanwhile() {
    let disk = watched();
    let opened = open_watched(&disk, Options { open_files_max: 1, ..small_segments() });
    let log = topic(&opened.store);
    (0..3).for_each(|_| drop(append(&log, &[&[1; 700]])));
    std::thread::scope(|scope| {
        let held = disk.hold("sync");
        let flush = scope.spawn(|| log.sync());
        held.wait();
        append(&log, &[&[1; 700]]);
        log.release(3);
        append(&opened.store.create_topic(&name("other")).unwrap(), &[b"takes the descriptor"]);
        drop(held);
        assert_eq!(flush.join().unwrap().unwrap(), 3);
    });
    assert_eq!(append(&log, &[b"more"]), 4..5);
}
