//! The node: its time, and its segment numbers.

use std::{path::Path, sync::Arc};

use nsq_log::{AppendError, Clocks, JournalRecord, Opened, Options, Store, testing::FaultyDisk};

use crate::support::*;

const SECOND: u64 = 1_000_000_000;
/// Some day in 2026.
const WALL: u64 = 1_790_000_000 * SECOND;

fn open_at(disk: &FaultyDisk, boot: u8, since_boot: u64, wall: u64) -> Opened {
    let wall_ns = i64::try_from(wall).unwrap();
    let clocks = Clocks { boot_id: [boot; 16], since_boot_ns: since_boot, wall_ns };
    Store::open(Path::new(ROOT), Arc::new(disk.clone()), Options::default(), clocks).unwrap()
}

#[test]
fn node_time_begins_as_wall_time() {
    let disk = disk();
    assert_eq!(open_at(&disk, 1, SECOND, WALL).now_ns, WALL);
}

#[test]
fn within_a_boot_node_time_goes_on_exactly_whatever_the_wall_clock_says() {
    let disk = disk();
    open_at(&disk, 1, 100 * SECOND, WALL).store.close().unwrap();
    let opened = open_at(&disk, 1, 107 * SECOND, WALL - 3600 * SECOND);
    assert_eq!(opened.now_ns, WALL + 7 * SECOND);
    drop(opened);
    let opened = open_at(&disk, 1, 109 * SECOND, WALL + 86_400 * SECOND);
    assert_eq!(opened.now_ns, WALL + 9 * SECOND);
}

#[test]
fn across_boots_node_time_goes_on_as_wall_time_does() {
    let disk = disk();
    let opened = open_at(&disk, 1, 100 * SECOND, WALL);
    // The clock was wrong by a day when the node started, and is set right.
    let ahead = i64::try_from(86_400 * SECOND).unwrap();
    opened.store.note_wall(-ahead).unwrap();
    drop(opened);
    let opened = open_at(&disk, 2, SECOND, WALL - 86_400 * SECOND + 60 * SECOND);
    assert_eq!(opened.now_ns, WALL + 60 * SECOND);
}

#[test]
fn node_time_never_goes_back_behind_what_a_journal_has_recorded() {
    let disk = disk();
    let opened = open_at(&disk, 1, 100 * SECOND, WALL);
    let log = topic(&opened.store);
    let record = [JournalRecord::Topic { fanout: 0, paused: false, deferred: &[] }];
    log.journal(&record, WALL + 500 * SECOND).unwrap();
    log.compact().unwrap();
    opened.store.close().unwrap();
    drop(opened);
    // A machine that has lost its clock.
    assert_eq!(open_at(&disk, 2, SECOND, 0).now_ns, WALL + 500 * SECOND);
}

#[test]
fn a_small_change_of_the_wall_clock_is_not_written() {
    let disk = disk();
    let opened = open_at(&disk, 1, SECOND, WALL);
    let before = disk.changes();
    opened.store.note_wall(900_000_000).unwrap();
    assert_eq!(disk.changes(), before);
    opened.store.note_wall(1_100_000_000).unwrap();
    assert!(disk.changes() > before);
}

/// A node file of the first version, which had 40 bytes.
fn short_node_file(disk: &FaultyDisk, reserved: u32) {
    drop(open(disk, Options::default()));
    disk.edit(&Path::new(ROOT).join("node"), |bytes| {
        bytes.truncate(40);
        bytes[11] = 1;
        bytes[32..36].copy_from_slice(&reserved.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[8..]).to_be_bytes();
        bytes[4..8].copy_from_slice(&crc);
    });
}

#[test]
fn a_node_file_of_40_bytes_is_taken_over_also_when_a_crash_interrupts_that() {
    let whole = disk();
    short_node_file(&whole, 77);
    let before = whole.changes();
    let opened = open(&whole, Options::default());
    let (id, steps) = (opened.store.node_id(), whole.changes() - before);
    assert_eq!((opened.report.len(), opened.store.incarnation()), (0, 1));
    append(&topic(&opened.store), &[b"x"]);
    assert!(segment_files(&whole)[0].0.ends_with("0000004d.seg"), "77 is the first free number");
    for at in 1..=steps {
        let disk = disk();
        short_node_file(&disk, 77);
        disk.crash_at(disk.changes() + at);
        drop(try_open(&disk, Options::default()));
        let opened = open(&disk.restart(nsq_log::testing::Stop::Kill), Options::default());
        assert_eq!(opened.report, [], "crash at {at}");
        assert_eq!(opened.store.node_id(), id);
    }
}

#[test]
fn segment_numbers_that_run_out_are_an_error_and_no_number_is_used_twice() {
    let disk = disk();
    short_node_file(&disk, u32::MAX - 2);
    let opened = open(&disk, small_segments());
    let log = topic(&opened.store);
    append(&log, &[&[0; 900]]);
    append(&log, &[&[1; 900]]);
    let refused = try_append(&log, &[&[2; 900]], None);
    assert!(matches!(refused, Err(AppendError::Stopped { .. })), "{refused:?}");
    assert!(opened.store.reserve_segments().is_err());
    assert_eq!(segment_files(&disk).len(), 2);
    assert_eq!(dense(&log).len(), 2);
}

#[test]
fn segment_numbers_are_reserved_ahead_so_that_a_roll_flushes_nothing() {
    let disk = disk();
    let opened = open(&disk, small_segments());
    let log = topic(&opened.store);
    let before = disk.syncs();
    for _ in 0..600 {
        append(&log, &[&[0; 900]]);
    }
    assert_eq!(disk.syncs(), before);
    assert!(opened.store.segments_low());
    opened.store.reserve_segments().unwrap();
    assert!(!opened.store.segments_low());
    let before = disk.syncs();
    for _ in 0..1000 {
        append(&log, &[&[0; 900]]);
    }
    assert_eq!(disk.syncs(), before);
}
