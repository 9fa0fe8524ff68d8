//! The store: topics that fail alone, deletions that fail, and closing.

use std::path::{Path, PathBuf};

use nsq_log::{
    ChannelState, Error, Event, JournalRecord, Options, Read,
    testing::{Denied, FaultyDisk, Stop},
};
use nsq_protocol::ChannelName;
use rustix::io::Errno;

use crate::support::*;

fn dir() -> PathBuf {
    Path::new(ROOT).join("topics/orders.topic")
}

/// Two topics, the first with five segments of two messages each.
fn two_topics() -> FaultyDisk {
    let disk = disk();
    let opened = open(&disk, small_segments());
    let log = topic(&opened.store);
    (0..5_u8).for_each(|i| drop(append(&log, &[&[i; 300], &[i; 300]])));
    append(&opened.store.create_topic(&name("other")).unwrap(), &[b"x"]);
    let channel = &ChannelName::new("c").unwrap();
    let state = &ChannelState { end: 10, cursor: 1, ..ChannelState::default() };
    log.journal(&[JournalRecord::ChannelCreated { channel, state }], NOW).unwrap();
    disk.restart(Stop::Kill)
}

#[test]
fn a_topic_whose_newest_segment_cannot_be_read_fails_alone() {
    let disk = two_topics();
    let newest = segment_files(&disk)[4].0.clone();
    let before = disk.files(&dir());
    disk.break_path(&newest, Some(Errno::IO));
    let opened = open(&disk, small_segments());
    let names: Vec<_> = opened.topics.iter().map(|topic| topic.name.as_str()).collect();
    assert_eq!(names, ["other"]);
    append(&opened.topics[0].log, &[b"others go on"]);
    let [failed] = &opened.failed[..] else { panic!("{:?}", opened.failed) };
    assert_eq!(failed.name.as_str(), TOPIC);
    let refused = opened.store.create_topic(&name(TOPIC)).unwrap_err();
    assert!(matches!(refused, Error::Failed { .. }), "{refused}");
    assert!(refused.to_string().contains("00000004.seg"), "{refused}");
    assert!(opened.store.retry_topic(&name(TOPIC)).is_err());
    assert_eq!(disk.files(&dir()), before);

    disk.break_path(&newest, None);
    let (topic, report) = opened.store.retry_topic(&name(TOPIC)).unwrap().unwrap();
    assert_eq!(report, []);
    assert_eq!((dense(&topic.log).len(), topic.state.channels.len()), (10, 1));
    assert!(opened.store.retry_topic(&name(TOPIC)).unwrap().is_none());
    let again = opened.store.create_topic(&name(TOPIC)).unwrap();
    append(&again, &[b"y"]);
    assert_eq!(topic.log.end(), 11);
}

#[test]
fn a_stop_with_a_topic_that_could_not_be_opened_is_no_clean_one() {
    let disk = two_topics();
    disk.break_path(&dir(), Some(Errno::IO));
    let opened = open(&disk, small_segments());
    opened.store.close().unwrap();
    let incarnation = opened.store.incarnation();
    drop(opened);
    assert_eq!(open(&disk, small_segments()).store.incarnation(), incarnation + 1);
}

#[test]
fn a_topic_whose_journal_or_directory_cannot_be_read_fails_alone_and_can_be_deleted() {
    for path in [dir().join("journal.00000001"), dir()] {
        let disk = two_topics();
        disk.break_path(&path, Some(Errno::IO));
        let opened = open(&disk, small_segments());
        assert_eq!((opened.topics.len(), opened.failed.len()), (1, 1), "{}", path.display());
        disk.break_path(&path, None);
        opened.store.delete_topic(&name(TOPIC)).unwrap();
        assert_eq!(topic(&opened.store).end(), 0);
    }
}

#[test]
fn an_older_segment_that_cannot_be_read_is_a_hole_with_its_count_and_stays() {
    let disk = two_topics();
    let path = segment_files(&disk)[2].0.clone();
    disk.break_path(&path, Some(Errno::IO));
    let opened = open(&disk, small_segments());
    assert!(opened.failed.is_empty());
    let [notice] = &opened.report[..] else { panic!("{:?}", opened.report) };
    assert!(matches!(&notice.event, Event::Unreadable { lost, .. } if *lost == (4..6)), "{notice}");
    assert_eq!(notice.path, path);
    let log = recovered(&opened);
    assert_eq!(read_all(&log, 1).len(), 8);
    assert_eq!(log.read(4..10, 1, &mut Vec::new()), Read::Gone(2));
    log.release(10);
    append(&log, &[b"goes on"]);
    assert!(disk.files(&dir()).iter().any(|(file, _)| *file == path));
}

#[test]
fn the_oldest_segment_is_missed_as_far_as_the_journal_needs_it() {
    let disk = two_topics();
    let path = segment_files(&disk)[0].0.clone();
    disk.break_path(&path, Some(Errno::ISDIR));
    let opened = open(&disk, small_segments());
    let [notice] = &opened.report[..] else { panic!("{:?}", opened.report) };
    assert!(matches!(&notice.event, Event::Unreadable { lost, .. } if *lost == (1..2)), "{notice}");
    assert_eq!(recovered(&opened).first(), 2);
}

#[test]
fn a_journal_that_is_missing_beside_segments_is_reported_as_lost() {
    for empty in [false, true] {
        let disk = two_topics();
        let path = dir().join("journal.00000001");
        if empty {
            disk.edit(&path, Vec::clear);
        } else {
            nsq_log::Disk::remove(&disk, &path).unwrap();
        }
        let opened = open(&disk, small_segments());
        let [notice] = &opened.report[..] else { panic!("{:?}", opened.report) };
        assert!(matches!(notice.event, Event::JournalReset { .. }), "{notice}");
        assert_eq!(open(&disk.restart(Stop::Kill), small_segments()).report, [], "once");
    }
}

#[test]
fn a_deletion_that_fails_leaves_the_topic_as_it_was() {
    let disk = two_topics();
    let opened = open(&disk, small_segments());
    let log = recovered(&opened);
    disk.break_path(&dir(), Some(Errno::IO));
    assert!(opened.store.delete_topic(&name(TOPIC)).is_err());
    disk.break_path(&dir(), None);
    assert_eq!(append(&log, &[b"y"]), 10..11);
    log.journal(&[JournalRecord::Topic { fanout: 0, paused: true, deferred: &[] }], NOW).unwrap();
    log.compact().unwrap();
    assert_eq!(topic(&opened.store).end(), 11, "it is still the one of that name");
    let again = open(&disk.restart(Stop::Kill), small_segments());
    assert_eq!(dense(&recovered(&again)).len(), 11);
    opened.store.delete_topic(&name(TOPIC)).unwrap();
    assert!(log.compact().is_err());
}

#[test]
fn closing_flushes_only_topics_that_changed() {
    let disk = disk();
    let opened = open(&disk, Options::default());
    for topic in 0..50 {
        append(&opened.store.create_topic(&name(&format!("t{topic}"))).unwrap(), &[b"x"]);
    }
    opened.store.close().unwrap();
    drop(opened);
    let opened = open(&disk, Options::default());
    append(&opened.topics[7].log, &[b"y"]);
    let (syncs, changes) = (disk.syncs(), disk.changes());
    opened.store.close().unwrap();
    // The segment, the journal, the node file.
    assert_eq!(disk.syncs() - syncs, 3);
    assert!(disk.changes() - changes < 8);
    drop(opened);
    assert_eq!(open(&disk, Options::default()).topics[7].log.end(), 2);
}

#[test]
fn topics_are_created_once_by_whoever_comes_first() {
    let disk = disk();
    let opened = open(&disk, Options::default());
    let logs: Vec<_> = std::thread::scope(|scope| {
        let create = || scope.spawn(|| topic(&opened.store));
        let threads: Vec<_> = (0..8).map(|_| create()).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(logs.iter().all(|log| std::sync::Arc::ptr_eq(log, &logs[0])));
}

#[test]
fn a_topic_that_cannot_be_created_leaves_nothing_behind() {
    let disk = disk();
    let opened = open(&disk, Options::default());
    disk.deny(Denied { open: Some(Errno::MFILE), ..Denied::default() });
    assert!(opened.store.create_topic(&name(TOPIC)).is_err());
    disk.deny(Denied::default());
    assert!(open(&disk.restart(Stop::Kill), Options::default()).topics.is_empty());
    append(&topic(&opened.store), &[b"x"]);
}
