//! Waypoints: a recovery walks only the part of the log behind the last usable one.

use std::time::Duration;

use nsq_log::{
    Options,
    testing::{Denied, FaultyDisk, Stop},
};
use rustix::io::Errno;

use crate::support::*;

const MIB: u64 = 1 << 20;

/// Appends about `bytes` in messages of 16 KiB.
fn fill(log: &nsq_log::TopicLog, bytes: u64) {
    for _ in 0..bytes / (16 << 10) {
        append(log, &[&[7; 16 << 10]]);
    }
}

/// The number of bytes that a start reads.
fn read_by_start(disk: &FaultyDisk) -> u64 {
    let opened = open(disk, Options::default());
    assert_eq!(opened.report, []);
    disk.bytes_read()
}

#[test]
fn a_waypoint_is_due_after_four_mebibytes() {
    let disk = disk();
    let opened = open(&disk, Options::default());
    let log = topic(&opened.store);
    fill(&log, 3 * MIB);
    assert!(!log.waypoint_due());
    fill(&log, 2 * MIB);
    assert!(log.waypoint_due());
    log.waypoint().unwrap();
    assert!(!log.waypoint_due());
}

#[test]
fn after_a_kill_only_what_follows_the_last_waypoint_is_walked() {
    let disk = disk();
    let opened = open(&disk, Options { segment_bytes: 3 * MIB, ..Options::default() });
    let log = topic(&opened.store);
    fill(&log, 8 * MIB);
    log.waypoint().unwrap();
    fill(&log, MIB / 4);
    let read = read_by_start(&disk.restart(Stop::Kill));
    assert!(read < MIB / 2, "{read} bytes");
}

#[test]
fn a_waypoint_that_was_not_flushed_is_forgotten_with_the_boot() {
    let disk = disk();
    let opened = open(&disk, Options::default());
    let log = topic(&opened.store);
    fill(&log, MIB);
    log.sync().unwrap();
    fill(&log, MIB);
    log.waypoint().unwrap();
    // Such a power cut loses nothing, but that is for the walk to find out.
    let cut = (0..100).map(|seed| disk.restart(Stop::PowerCut { seed })).find(|cut| {
        recovered(&open(cut, Options::default())).end() == log.end() && cut.bytes_read() > MIB
    });
    assert!(cut.is_some());
}

#[test]
fn a_flushed_waypoint_outlives_a_power_cut() {
    let disk = disk();
    let opened = open(&disk, Options::default());
    let log = topic(&opened.store);
    fill(&log, 5 * MIB);
    log.sync().unwrap();
    for seed in 0..10 {
        let read = read_by_start(&disk.restart(Stop::PowerCut { seed }));
        assert!(read < MIB / 2, "{read} bytes");
    }
}

#[test]
fn a_clean_stop_after_a_crash_spares_the_next_start_the_walk() {
    let first = disk();
    let opened = open(&first, Options::default());
    fill(&topic(&opened.store), 2 * MIB);
    let second = first.restart(Stop::Kill);
    open(&second, Options::default()).store.close().unwrap();
    let before = second.bytes_read();
    assert!(before > 2 * MIB, "the crash made it walk");
    assert!(read_by_start(&second) - before < 64 << 10);
}

#[test]
fn a_waypoint_behind_a_cut_hides_nothing_that_was_appended_after_it() {
    let disk = disk();
    let opened = open(&disk, Options { tail_bytes: 0, ..Options::default() });
    let log = topic(&opened.store);
    append(&log, &[b"flushed"]);
    log.sync().unwrap();
    append(&log, &[b"kept"]);
    append(&log, &[&[b'x'; 1000]]);
    log.waypoint().unwrap();
    disk.deny(Denied { sync: Some(Errno::IO), ..Denied::default() });
    log.sync().unwrap_err();
    disk.deny(Denied::default());
    disk.edit(&segment_files(&disk)[0].0, |bytes| bytes.truncate(bytes.len() - 1));
    assert_eq!(log.reopen().unwrap().lost, [2..3]);
    for seq in 3..30 {
        assert_eq!(append(&log, &[&[b'y'; 100]]), seq..seq + 1);
    }
    let opened = open(&disk.restart(Stop::Kill), Options::default());
    let found = read_all(&recovered(&opened), 1);
    assert!(found.into_keys().eq((0..2).chain(3..30)));
}

#[test]
fn a_power_cut_makes_no_flushed_message_forget_its_delay() {
    let whole = disk();
    defer_and_sync(&whole);
    for at in 1..=whole.changes() {
        for seed in 0..3 {
            let disk = disk();
            disk.crash_at(at);
            let synced = defer_and_sync(&disk);
            let cut = disk.restart(Stop::PowerCut { seed: at * 10 + seed });
            let opened = open(&cut, small_segments());
            let state = opened.topics.first().map(|topic| &topic.state);
            let deferred = state.iter().flat_map(|state| &state.deferred);
            let delays: std::collections::BTreeMap<_, _> = deferred
                .flat_map(|(range, delay)| range.clone().map(|seq| (seq, delay.as_secs())))
                .collect();
            for seq in 0..synced {
                assert_eq!(delays.get(&seq), Some(&(seq + 1)), "crash at {at}, sequence {seq}");
            }
        }
    }
}

/// Publishes deferred messages until the disk stops; returns how many were flushed.
fn defer_and_sync(disk: &FaultyDisk) -> u64 {
    let mut synced = 0;
    let Ok(opened) = try_open(disk, small_segments()) else { return 0 };
    let Ok(log) = opened.store.create_topic(&name(TOPIC)) else { return 0 };
    for seq in 0..16_u64 {
        let delay = Duration::from_secs(seq + 1);
        if try_append(&log, &[&[b'x'; 300]], Some(delay)).is_err() {
            return synced;
        }
        if seq % 5 == 2 {
            // Its failure shows in the next append at the latest.
            let _ = log.waypoint();
        }
        if seq % 7 == 6 {
            let _ = log.compact();
        }
        match log.sync() {
            Ok(end) => synced = end,
            Err(_) => return synced,
        }
    }
    synced
}

#[test]
fn deferrals_that_every_channel_has_are_not_journaled_again() {
    let disk = disk();
    let opened = open(&disk, Options::default());
    let log = topic(&opened.store);
    let second = Duration::from_secs(1);
    try_append(&log, &[b"a", b"b"], Some(second)).unwrap();
    try_append(&log, &[b"c"], Some(2 * second)).unwrap();
    log.forget_deferrals(2);
    log.waypoint().unwrap();
    let opened = open(&disk.restart(Stop::Kill), Options::default());
    assert_eq!(opened.topics[0].state.deferred, [(2..3, 2 * second)]);
}
