//! A topic whose messages are all finished gives its space back, also where there is none.

use std::sync::Arc;

use nsq_log::{
    Append, BatchBuilder, JournalRecord, Opened, Options, Retired, TopicLog,
    testing::{FaultyDisk, Stop},
};

use crate::support::*;

const SECOND: i64 = 1_000_000_000;

/// A topic with one message of `bytes`, published at `at_ns` and finished.
fn drained(disk: &FaultyDisk, bytes: usize, at_ns: i64) -> (Opened, Arc<TopicLog>) {
    let opened = open(disk, Options::default());
    let log = topic(&opened.store);
    let mut batch = BatchBuilder::default();
    batch.push(&vec![1; bytes]);
    log.append(&mut batch, Append { timestamp_ns: at_ns, defer: None }).unwrap();
    let record = JournalRecord::Topic { fanout: log.end(), paused: false, deferred: &[] };
    log.journal(&[record], 0).unwrap();
    (opened, log)
}

#[test]
fn a_drained_topic_keeps_little_once_it_is_idle_and_not_much_before() {
    let soon = 10 * SECOND + SECOND / 10;
    for (bytes, early, late) in [
        (60_000, Retired::No, Retired::No),
        (70_000, Retired::NotYet, Retired::Yes),
        (4_000_000, Retired::NotYet, Retired::Yes),
        (5_000_000, Retired::Yes, Retired::No),
    ] {
        let disk = disk();
        let (_opened, log) = drained(&disk, bytes, 10 * SECOND);
        assert_eq!(log.retire(0, 12 * SECOND).unwrap(), Retired::No, "it is needed");
        assert_eq!(log.retire(1, soon).unwrap(), early, "{bytes} bytes");
        assert_eq!(log.retire(1, 11 * SECOND).unwrap(), late, "{bytes} bytes");
        log.release(1);
        assert!(disk_bytes(&disk) <= 65 << 10, "{} bytes are kept", disk_bytes(&disk));
        assert_eq!(append(&log, &[b"next"]), 1..2);
    }
}

#[test]
fn a_drained_topic_gives_its_space_back_on_a_full_disk_and_numbers_go_on() {
    let disk = disk();
    let (opened, log) = drained(&disk, 3_000_000, 0);
    disk.limit_space(Some(disk.used()));
    let room = vec![2; 2_000_000];
    assert!(try_append(&log, &[&room], None).is_err());
    log.release(1);
    assert_eq!(log.retire(1, SECOND).unwrap(), Retired::Yes);
    assert!(disk_bytes(&disk) < 100_000, "{} bytes are used", disk_bytes(&disk));
    // Room for what is held back for the next shortage, too.
    disk.limit_space(Some(9 << 20));
    assert!(opened.store.recover_space().unwrap());
    let killed = disk.restart(Stop::Kill);
    assert_eq!(append(&log, &[&room]), 1..2);
    log.sync().unwrap();
    assert_eq!(bodies(&read_all(&log, 1)), [(1, room)]);
    drop((opened, log));
    for (disk, end) in [(killed, 1), (disk.restart(Stop::Kill), 2)] {
        let opened = open(&disk, Options::default());
        assert_eq!(opened.topics[0].state.fanout, 1);
        assert_eq!(recovered(&opened).end(), end);
    }
}

#[test]
fn a_topic_that_is_drained_when_it_is_opened_gives_its_space_back_too() {
    for clean in [true, false] {
        let first = disk();
        let (opened, log) = drained(&first, 3_000_000, 0);
        if clean {
            opened.store.close().unwrap();
        }
        drop((opened, log));
        let disk = first.restart(Stop::Kill);
        let opened = open(&disk, Options::default());
        let log = recovered(&opened);
        assert_eq!(log.retire(1, SECOND).unwrap(), Retired::Yes);
        assert_eq!(log.release(1), 1);
        assert_eq!(disk_bytes(&disk), 64);
        assert_eq!(append(&log, &[b"next"]), 1..2);
    }
}

/// Drains a topic and publishes to it again; the world stops in the given step. Returns the end of the messages that
/// were flushed.
fn drain_and_publish(disk: &FaultyDisk, full: bool, stop_in: u64) -> u64 {
    let (_opened, log) = drained(disk, 70_000, 0);
    log.sync().unwrap();
    if full {
        disk.limit_space(Some(disk.used()));
    }
    disk.crash_at(disk.changes() + stop_in);
    // Some steps are not needed, and their failure is passed over.
    drop(log.retire(1, SECOND));
    log.release(1);
    drop(try_append(&log, &[b"next"], None));
    log.sync().unwrap_or(1)
}

#[test]
fn no_crash_while_a_topic_is_drained_loses_a_number_or_a_message() {
    for full in [false, true] {
        let mut stop_in = 0;
        loop {
            stop_in += 1;
            let first = disk();
            let flushed = drain_and_publish(&first, full, stop_in);
            for stop in [Stop::Kill, Stop::PowerCut { seed: stop_in }, Stop::PowerCut { seed: 99 }]
            {
                let second = first.restart(stop);
                let opened = open(&second, Options::default());
                let log = recovered(&opened);
                assert!(
                    log.end() >= flushed,
                    "{stop:?} in step {stop_in}: {} < {flushed}",
                    log.end()
                );
                let next = (flushed == 2).then(|| (1, b"next".to_vec()));
                let found = bodies(&read_all(&log, 1));
                assert!(
                    next.is_none_or(|next| found.contains(&next)),
                    "{stop:?} in step {stop_in}"
                );
                let end = log.end();
                assert_eq!(append(&log, &[b"more"]), end..end + 1);
            }
            if !first.crashed() {
                assert!(stop_in > 5);
                break;
            }
        }
    }
}
