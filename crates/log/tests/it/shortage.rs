//! A full disk: the last of its space goes to journals, and it heals.

use nsq_log::{
    AppendError, ChannelDelta, ChannelState, Event, JournalRecord, Options, TopicLog,
    testing::{FaultyDisk, Stop},
};
use nsq_protocol::ChannelName;

use crate::support::*;

const MIB: usize = 1 << 20;

fn finish(log: &TopicLog, cursor: u64) -> Result<(), nsq_log::Error> {
    let channel = &ChannelName::new("c").unwrap();
    let end = log.end();
    let delta = ChannelDelta { end, cursor, finished: vec![0..cursor], outstanding: vec![] };
    log.journal(&[JournalRecord::ChannelDelta { channel, delta: &delta }], NOW)
}

/// A topic on a disk of 8 MiB that refuses to take more.
fn full() -> (FaultyDisk, nsq_log::Opened, u64) {
    let disk = disk();
    disk.limit_space(Some(8 * MIB));
    let options = Options { segment_bytes: 1 << 20, ..Options::default() };
    let opened = open(&disk, options);
    let log = topic(&opened.store);
    let refused = loop {
        if let Err(error) = try_append(&log, &[&[0; 50_000]], None) {
            break error;
        }
    };
    assert!(matches!(refused, AppendError::Temporary(_)), "{refused}");
    let end = log.end();
    (disk, opened, end)
}

#[test]
fn what_is_finished_on_a_full_disk_is_remembered() {
    let (disk, opened, end) = full();
    let log = topic(&opened.store);
    let used = disk.used();
    assert!(!opened.store.recover_space().unwrap(), "it is still full");
    assert!(disk.used() < used, "space that was held back is given up");
    for cursor in 0..end {
        finish(&log, cursor).unwrap();
    }
    assert!(!log.journal_behind());
    let state = open(&disk.restart(Stop::Kill), Options::default()).topics.remove(0).state;
    assert_eq!(state.channels[0].1.cursor, end - 1);
}

#[test]
fn a_full_disk_takes_messages_again_once_finished_ones_are_released() {
    let (disk, opened, end) = full();
    let log = topic(&opened.store);
    assert!(try_append(&log, &[b"tiny"], None).is_err(), "refused before it takes the last space");
    assert!(!opened.store.recover_space().unwrap());
    finish(&log, end).unwrap();
    log.release(end);
    assert!(opened.store.recover_space().unwrap());
    for _ in 0..50 {
        append(&log, &[&[0; 50_000]]);
    }
    drop((opened, log));
    let opened = open(&disk.restart(Stop::Kill), Options::default());
    assert_eq!((opened.report, opened.failed.len()), (vec![], 0));
}

#[test]
fn a_start_needs_no_free_space() {
    for free in [0, 10, 100] {
        let (disk, opened, end) = full();
        drop(opened);
        let disk = disk.restart(Stop::Kill);
        disk.limit_space(Some(disk.used() + free));
        let opened = open(&disk, Options::default());
        let log = recovered(&opened);
        assert_eq!((log.end(), read_all(&log, 1 << 20).len() as u64), (end, end));
        log.release(end);
        disk.limit_space(Some(8 * MIB));
        append(&log, &[b"x"]);
    }
}

#[test]
fn a_journal_that_must_be_replaced_at_the_start_waits_for_space_and_appends_wait_for_it() {
    let (disk, opened, end) = full();
    let log = topic(&opened.store);
    assert!(!opened.store.recover_space().unwrap());
    finish(&log, end).unwrap();
    drop((opened, log));
    let disk = disk.restart(Stop::Kill);
    // The last message is lost, although the journal mentions it.
    let newest = segment_files(&disk).last().unwrap().0.clone();
    disk.edit(&newest, |bytes| bytes.truncate(bytes.len() - 1));
    // Cutting the torn message off frees less than this.
    disk.limit_space(Some(disk.used() - 60_000));
    let opened = open(&disk, Options::default());
    let lost: Vec<_> = opened.report.iter().map(|notice| notice.event.clone()).collect();
    assert!(lost.contains(&Event::StateCut { end: end - 1, claimed: end }), "{lost:?}");
    let log = recovered(&opened);
    assert!(log.journal_behind());
    assert!(matches!(try_append(&log, &[b"x"], None), Err(AppendError::Temporary(_))));
    assert!(log.retry_journal().is_err());

    disk.limit_space(Some(8 * MIB));
    log.retry_journal().unwrap();
    assert!(!log.journal_behind());
    assert_eq!(append(&log, &[b"x"]), end - 1..end);
    let state = open(&disk.restart(Stop::Kill), Options::default()).topics.remove(0).state;
    let expected = ChannelState { end: end - 1, cursor: end - 1, ..ChannelState::default() };
    assert_eq!(state.channels[0].1, expected, "the new message is not finished");
}
