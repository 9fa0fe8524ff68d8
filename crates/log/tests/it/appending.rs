//! Appending, reading back, the bounds of the memory tail, releasing, and shortages.

use std::{path::Path, sync::Arc, time::Duration};

use nsq_log::{
    Append, AppendError, BatchBuilder, Clocks, Durability, Event, LockError, OpenError, Opened,
    Options, Read, ReadError, RealDisk, Reopened, Slice, Store,
    testing::{Denied, Stop},
};
use rustix::io::Errno;

use crate::support::*;

#[test]
fn what_is_appended_is_read_in_the_form_that_a_client_receives() {
    let disk = disk();
    let opened = open(&disk, Options::default());
    let log = topic(&opened.store);
    assert_eq!(append(&log, &[b"one", b""]), 0..2);
    assert_eq!(append(&log, &[b"three"]), 2..3);
    let mut slices = Vec::new();
    assert_eq!(log.read(0..3, 1 << 20, &mut slices), Read::Taken(3));
    let found = messages(&slices);
    assert_eq!(bodies(&found), [(0, b"one".to_vec()), (1, b"".to_vec()), (2, b"three".to_vec())]);
    assert!(found.values().all(|m| m.attempts == 1 && m.timestamp_ns == 7));
    for (seq, message) in found {
        assert_eq!(log.locate(message.id), Some(seq));
    }
}

#[test]
fn neighbouring_small_batches_are_handed_out_as_one_slice() {
    let disk = disk();
    let opened = open(&disk, Options::default());
    let log = topic(&opened.store);
    for _ in 0..10 {
        append(&log, &[b"x"]);
    }
    let mut slices = Vec::new();
    assert_eq!(log.read(0..10, 1 << 20, &mut slices), Read::Taken(10));
    assert_eq!(slices.len(), 1);
    let mut cold = Vec::new();
    assert_eq!(log.load(0, 1 << 20).unwrap().read(0..10, 1 << 20, &mut cold), Read::Taken(10));
    assert_eq!(cold, slices);
}

#[test]
fn a_slice_tells_the_timestamps_of_its_batches() {
    let disk = disk();
    let opened = open(&disk, Options::default());
    let log = topic(&opened.store);
    let times = [(3, 20), (1, 10), (2, 10), (1, 30), (1, 20)];
    for (count, timestamp_ns) in times {
        let mut batch = BatchBuilder::default();
        (0..count).for_each(|_| batch.push(b"body"));
        log.append(&mut batch, Append { timestamp_ns, defer: None }).unwrap();
    }
    let runs = |range: std::ops::Range<u64>| {
        let mut slices = Vec::new();
        let count = range.end - range.start;
        assert_eq!(log.read(range, 1 << 20, &mut slices), Read::Taken(count));
        slices.iter().flat_map(Slice::timestamps).collect::<Vec<_>>()
    };
    assert_eq!(runs(0..7), [(3, 20), (3, 10), (1, 30)]);
    assert_eq!(runs(2..5), [(1, 20), (2, 10)]);
    assert_eq!(runs(6..7), [(1, 30)]);
    // A clock that was set back to the very nanosecond is not worth a look at every message.
    assert_eq!(runs(0..8), [(8, 20)]);
}

#[test]
fn a_read_takes_what_fits_but_at_least_one_message() {
    let disk = disk();
    let opened = open(&disk, Options::default());
    let log = topic(&opened.store);
    append(&log, &[&[0; 66], &[1; 66], &[2; 66]]);
    append(&log, &[&[3; 66]]);
    append(&log, &[&[4; 9000]]);
    let count = |bytes_max| {
        let mut slices = Vec::new();
        let Read::Taken(count) = log.read(0..5, bytes_max, &mut slices) else { panic!("cold") };
        assert_eq!(messages(&slices).len() as u64, count);
        count
    };
    assert_eq!([0, 1, 100, 199, 200, 300, 399, 400].map(count), [1, 1, 1, 1, 2, 3, 3, 4]);
    assert_eq!([9433, 9434].map(count), [4, 5]);
    let mut slices = Vec::new();
    assert_eq!(log.read(1..3, usize::MAX / 2, &mut slices), Read::Taken(2));
    assert_eq!(bodies(&messages(&slices)), [(1, vec![1; 66]), (2, vec![2; 66])]);
    assert_eq!(log.read(5..9, 100, &mut Vec::new()), Read::Taken(0), "nothing is there yet");
}

#[test]
fn the_tail_keeps_the_newest_messages_and_no_more_bytes_than_it_may() {
    for (tail_messages, tail_bytes) in [(10, 1 << 20), (1 << 20, 100_000), (0, 0), (5, 0)] {
        let disk = disk();
        let options = Options { tail_messages, tail_bytes, ..Options::default() };
        let opened = open(&disk, options);
        let log = topic(&opened.store);
        for i in 0..600_usize {
            let body = vec![u8::try_from(i % 251).unwrap(); if i % 7 == 0 { 5000 } else { 60 }];
            append(&log, &[&body]);
            let mut slices = Vec::new();
            let kept = log.tail_start()..log.end();
            assert_eq!(
                log.read(kept.clone(), usize::MAX / 2, &mut slices),
                Read::Taken(kept.end - kept.start)
            );
            let bytes: usize = slices.iter().map(|slice| slice.bytes.len()).sum();
            assert!(bytes <= tail_bytes, "{bytes} bytes kept of {tail_bytes}");
            let enough = tail_messages.min(i + 1) as u64;
            assert!(
                kept.end - kept.start >= enough
                    || bytes + 5100 > tail_bytes.saturating_sub(200 * 64)
            );
        }
        assert_eq!(log.read(0..1, 1, &mut Vec::new()), Read::Cold);
        assert_eq!(dense(&log).len(), 600);
    }
}

#[test]
fn a_cold_read_gives_the_bytes_that_a_hot_read_gave() {
    let disk = disk();
    let opened = open(&disk, Options { segment_bytes: 50_000, ..Options::default() });
    let log = topic(&opened.store);
    for i in 0..300_usize {
        let body = vec![u8::try_from(i % 251).unwrap(); i * 37 % 5000];
        let batch: Vec<&[u8]> = (0..=i % 5).map(|_| &body[..]).collect();
        append(&log, &batch);
    }
    let hot = read_all(&log, 10_000);
    let end = log.end();
    log.sync().unwrap();
    drop((opened, log));
    let opened = open(&disk.restart(Stop::Kill), Options::default());
    let log = recovered(&opened);
    assert_eq!((log.end(), log.tail_start()), (end, end));
    for bytes in [1, 100_000] {
        assert_eq!(read_all(&log, bytes), hot);
    }
    for seq in (0..end).rev().step_by(13) {
        let mut slices = Vec::new();
        assert_eq!(log.load(seq, 1).unwrap().read(seq..seq + 1, 1, &mut slices), Read::Taken(1));
        assert_eq!(messages(&slices)[&seq], hot[&seq]);
    }
}

#[test]
fn what_is_not_on_disk_yet_cannot_be_loaded() {
    let disk = disk();
    let opened = open(&disk, Options::default());
    let log = topic(&opened.store);
    append(&log, &[b"x"]);
    assert!(matches!(log.load(1, 1), Err(ReadError::Beyond { first: 1, end: 1 })));
}

#[test]
fn released_segments_are_deleted_and_their_messages_gone() {
    let disk = disk();
    let opened = open(&disk, small_segments());
    let log = topic(&opened.store);
    for _ in 0..5 {
        append(&log, &[&[0; 300], &[1; 300]]);
    }
    let ids: Vec<_> = read_all(&log, 1 << 20).into_values().map(|m| m.id).collect();
    assert_eq!(segment_files(&disk).len(), 5);
    assert_eq!(log.release(3), 1);
    assert_eq!(log.release(3), 0);
    assert_eq!((log.first(), segment_files(&disk).len()), (2, 4));
    assert_eq!(log.read(0..10, 1, &mut Vec::new()), Read::Gone(2));
    assert_eq!(log.read(0..1, 1, &mut Vec::new()), Read::Gone(1));
    assert_eq!(log.load(0, 1).unwrap().lost(), 0..2);
    assert_eq!((log.locate(ids[0]), log.locate(ids[2])), (None, Some(2)));
    assert_eq!(log.release(u64::MAX), 3, "the newest stays");
    assert_eq!((log.first(), log.end()), (8, 10));
    drop((opened, log));
    let opened = open(&disk.restart(Stop::Kill), small_segments());
    let log = recovered(&opened);
    assert_eq!((log.first(), log.end()), (8, 10), "sequence numbers never go back");
    assert_eq!(append(&log, &[b"x"]), 10..11);
}

#[test]
fn a_release_frees_memory_at_once() {
    let disk = disk();
    let opened = open(&disk, Options::default());
    let log = topic(&opened.store);
    for _ in 0..10 {
        append(&log, &[&[0; 10_000]]);
    }
    log.release(7);
    assert_eq!(log.tail_start(), 7);
    assert_eq!(log.read(3..4, 1, &mut Vec::new()), Read::Cold, "it is still on disk");
}

#[test]
fn an_ephemeral_topic_is_in_memory_only_and_keeps_all_until_released() {
    let disk = disk();
    let options = Options { tail_messages: 0, tail_bytes: 0, ..small_segments() };
    let opened = open(&disk, options);
    let before = disk.files(Path::new(ROOT)).len();
    let log = opened.store.create_topic(&name("t#ephemeral")).unwrap();
    for _ in 0..50 {
        append(&log, &[&[0; 100]]);
    }
    assert_eq!(read_all(&log, 1000).len(), 50);
    let ids: Vec<_> = read_all(&log, 1000).into_values().map(|m| m.id).collect();
    assert_eq!(log.locate(ids[49]), Some(49));
    log.release(20);
    assert_eq!(log.read(0..50, 1, &mut Vec::new()), Read::Gone(log.tail_start()));
    assert!(log.tail_start() > 0 && log.tail_start() <= 20);
    log.release(50);
    assert_eq!(log.tail_start(), 50);
    assert_eq!(append(&log, &[b"x"]), 50..51);
    log.sync().unwrap();
    opened.store.close().unwrap();
    assert_eq!(disk.files(Path::new(ROOT)).len(), before);
    drop(opened);
    assert!(open(&disk, options).topics.is_empty());
}

#[test]
fn a_full_disk_refuses_a_batch_and_takes_it_when_there_is_room() {
    for durability in [Durability::Log, Durability::Fsync, Durability::Memory] {
        let disk = disk();
        let opened = open(&disk, Options { durability, ..Options::default() });
        let log = topic(&opened.store);
        append(&log, &[b"before"]);
        log.flush().unwrap();
        disk.limit_space(Some(disk.used() + 1000));
        let mut batch = BatchBuilder::default();
        batch.push(&[1; 300_000]);
        let error = log.append(&mut batch, Append::default()).unwrap_err();
        assert!(matches!(error, AppendError::Temporary(_)), "{error}");
        assert_eq!((batch.count(), log.end()), (1, 1), "the batch is still in the builder");
        assert!(try_append(&log, &[b"small"], None).is_err(), "the last space is for journals");
        assert!(!opened.store.recover_space().unwrap());
        disk.limit_space(None);
        assert!(opened.store.recover_space().unwrap());
        append(&log, &[b"small"]);
        assert_eq!(log.append(&mut batch, Append::default()).unwrap(), 2..3);
        assert!(batch.is_empty());
        log.flush().unwrap();
        drop((opened, log));
        let opened = open(&disk.restart(Stop::Kill), Options::default());
        let log = recovered(&opened);
        assert_eq!(opened.report, []);
        assert_eq!(dense(&log), [b"before".to_vec(), b"small".to_vec(), vec![1; 300_000]]);
    }
}

#[test]
fn lack_of_descriptors_is_temporary() {
    let disk = disk();
    let opened = open(&disk, small_segments());
    let log = topic(&opened.store);
    disk.deny(Denied { open: Some(Errno::MFILE), ..Denied::default() });
    assert!(matches!(try_append(&log, &[b"x"], None), Err(AppendError::Temporary(_))));
    disk.deny(Denied::default());
    assert_eq!(append(&log, &[b"x"]), 0..1);
    log.rest().unwrap();
    disk.deny(Denied { open: Some(Errno::NFILE), ..Denied::default() });
    assert!(matches!(try_append(&log, &[b"y"], None), Err(AppendError::Temporary(_))));
    disk.deny(Denied::default());
    assert_eq!(append(&log, &[b"y"]), 1..2);
}

#[test]
fn a_failing_device_stops_the_topic_until_it_is_reopened() {
    for denied in [
        Denied { write: Some(Errno::IO), ..Denied::default() },
        Denied { write: Some(Errno::NOSPC), truncate: Some(Errno::IO), ..Denied::default() },
    ] {
        let disk = disk();
        let opened = open(&disk, Options::default());
        let log = topic(&opened.store);
        let other = opened.store.create_topic(&name("other")).unwrap();
        append(&log, &[b"a", b"b"]);
        disk.deny(denied);
        assert!(matches!(try_append(&log, &[b"c"], None), Err(AppendError::Stopped { .. })));
        assert!(log.reopen().is_err());
        disk.deny(Denied::default());
        assert!(matches!(try_append(&log, &[b"c"], None), Err(AppendError::Stopped { .. })));
        assert_eq!(dense(&log).len(), 2, "reading goes on");
        assert!(opened.store.recover_space().unwrap());
        append(&other, &[b"others go on"]);
        assert_eq!(log.reopen().unwrap(), Reopened::default());
        assert_eq!(append(&log, &[b"c"]), 2..3);
        drop((opened, log, other));
        let opened = open(&disk.restart(Stop::Kill), Options::default());
        assert_eq!(opened.report, []);
        assert_eq!(dense(&recovered(&opened)), [b"a", b"b", b"c"]);
    }
}

#[test]
fn after_a_failed_sync_everything_is_written_anew_before_the_topic_goes_on() {
    let disk = disk();
    let opened = open(&disk, Options { segment_bytes: 300, ..Options::default() });
    let log = topic(&opened.store);
    for body in [[b'a'; 100], [b'b'; 100], [b'c'; 100]] {
        append(&log, &[&body]);
    }
    disk.deny(Denied { sync: Some(Errno::IO), ..Denied::default() });
    assert!(log.sync().is_err());
    assert_eq!(log.synced(), 0);
    assert!(matches!(try_append(&log, &[b"d"], None), Err(AppendError::Stopped { .. })));
    disk.deny(Denied::default());
    assert_eq!(log.reopen().unwrap(), Reopened::default());
    assert_eq!(log.synced(), 3);
    append(&log, &[b"d"]);
    let opened = open(&disk.restart(Stop::PowerCut { seed: 1 }), Options::default());
    assert!(dense(&recovered(&opened)).starts_with(&[
        vec![b'a'; 100],
        vec![b'b'; 100],
        vec![b'c'; 100]
    ]));
}

#[test]
fn a_reopen_reports_what_the_disk_lost() {
    let disk = disk();
    let opened = open(&disk, Options { tail_bytes: 0, ..Options::default() });
    let log = topic(&opened.store);
    append(&log, &[b"a"]);
    append(&log, &[b"%"]);
    append(&log, &[b"c"]);
    disk.deny(Denied { write: Some(Errno::IO), ..Denied::default() });
    try_append(&log, &[b"d"], None).unwrap_err();
    disk.deny(Denied::default());
    let (path, bytes) = segment_files(&disk).remove(0);
    let at = bytes.windows(1).rposition(|b| b == b"%").unwrap();
    disk.edit(&path, |bytes| bytes[at] ^= 1);
    let notices = log.reopen().unwrap().notices;
    assert!(
        matches!(&notices[..], [n] if matches!(&n.event, Event::Damage { lost, .. } if *lost == (1..2)))
    );
    append(&log, &[b"d"]);
    let found = read_all(&log, 1);
    assert_eq!(found.into_keys().collect::<Vec<_>>(), [0, 2, 3]);
}

#[test]
fn messages_lost_before_they_were_flushed_never_count_as_synced() {
    let disk = disk();
    let opened = open(&disk, Options { tail_bytes: 0, ..Options::default() });
    let log = topic(&opened.store);
    append(&log, &[b"flushed"]);
    log.sync().unwrap();
    for body in [b"a", b"%", b"c", b"d"] {
        append(&log, &[body]);
    }
    disk.deny(Denied { sync: Some(Errno::IO), ..Denied::default() });
    log.sync().unwrap_err();
    assert_eq!(log.synced(), 1);
    disk.deny(Denied::default());
    let (path, bytes) = segment_files(&disk).remove(0);
    let at = bytes.iter().rposition(|byte| *byte == b'%').unwrap();
    disk.edit(&path, |bytes| {
        bytes[at] ^= 1;
        bytes.pop();
    });
    assert_eq!(log.reopen().unwrap().lost, [2..3, 4..5]);
    assert_eq!(append(&log, &[b"e"]), 5..6);
    assert_eq!(log.sync().unwrap(), 6);
    let survived = (0..6).filter(|seq| log.survived(*seq..seq + 1));
    assert_eq!(survived.collect::<Vec<_>>(), [0, 1, 3, 5]);
    assert!(!log.survived(0..6) && !log.survived(1..3));
    log.release(6);
    assert!(!log.survived(2..3), "also when it is no longer kept");
    let opened = open(&disk.restart(Stop::PowerCut { seed: 3 }), Options::default());
    let found = read_all(&recovered(&opened), 1);
    assert_eq!(found.into_keys().collect::<Vec<_>>(), [0, 1, 3, 5]);
}

#[test]
fn level_memory_writes_in_the_background_and_loses_nothing_on_a_clean_stop() {
    let disk = disk();
    let options = Options {
        durability: Durability::Memory,
        tail_messages: 1,
        tail_bytes: 1,
        ..Options::default()
    };
    let opened = open(&disk, options);
    let log = topic(&opened.store);
    append(&log, &[b"a", b"b"]);
    assert_eq!((log.end(), log.written(), log.tail_start()), (2, 0, 0), "not evicted unwritten");
    log.flush().unwrap();
    assert_eq!(log.written(), 2);
    append(&log, &[&[7; 200_000]]);
    append(&log, &[&[8; 200_000]]);
    assert!(log.written() >= 3, "much is written without being asked");
    append(&log, &[b"z"]);
    opened.store.close().unwrap();
    drop((opened, log));
    let opened = open(&disk, options);
    assert_eq!(dense(&recovered(&opened)).len(), 5);
}

#[test]
fn deleted_topics_and_closed_stores_take_nothing() {
    let disk = disk();
    let opened = open(&disk, Options::default());
    let log = topic(&opened.store);
    append(&log, &[b"x"]);
    let topic_id = || segment_files(&disk)[0].1[32..40].to_vec();
    let before = topic_id();
    opened.store.delete_topic(&name(TOPIC)).unwrap();
    assert!(matches!(try_append(&log, &[b"y"], None), Err(AppendError::Deleted(_))));
    assert!(segment_files(&disk).is_empty());
    let again = topic(&opened.store);
    assert_eq!(append(&again, &[b"z"]), 0..1);
    assert_ne!(topic_id(), before, "a topic of the same name is another topic");
    opened.store.close().unwrap();
    assert!(matches!(try_append(&again, &[b"y"], None), Err(AppendError::Closed)));
    assert!(opened.store.create_topic(&name("late")).is_err());
}

#[test]
fn a_batch_larger_than_a_segment_has_a_file_of_its_own() {
    let disk = disk();
    let opened = open(&disk, small_segments());
    let log = topic(&opened.store);
    append(&log, &[b"a"]);
    append(&log, &[&[1; 5000]]);
    append(&log, &[b"b"]);
    assert_eq!(segment_files(&disk).len(), 3);
    assert_eq!(dense(&log).len(), 3);
}

#[test]
fn buffers_of_released_messages_are_used_again() {
    let disk = disk();
    let opened = open(&disk, Options::default());
    let log = topic(&opened.store);
    let pool = opened.store.pool();
    let mut batch = BatchBuilder::new(Arc::clone(pool));
    (0..20).for_each(|_| batch.push(&[0; 1000]));
    let range = log.append(&mut batch, Append::default()).unwrap();
    assert_eq!(pool.free_bytes(), 0);
    let mut slices = Vec::new();
    assert_eq!(log.read(range.clone(), 1 << 20, &mut slices), Read::Taken(20));
    log.release(range.end);
    assert_eq!(pool.free_bytes(), 0, "a reader still has it");
    drop(slices);
    assert!(pool.free_bytes() > 20_000);
}

#[test]
fn a_sync_that_cannot_begin_for_lack_of_descriptors_stops_nothing() {
    let disk = disk();
    let opened = open(&disk, Options::default());
    let log = topic(&opened.store);
    append(&log, &[b"x"]);
    log.rest().unwrap();
    disk.deny(Denied { open: Some(Errno::MFILE), ..Denied::default() });
    assert!(log.sync().is_err());
    disk.deny(Denied::default());
    assert_eq!(log.synced(), 0);
    append(&log, &[b"y"]);
    assert_eq!(log.sync().unwrap(), 2);
}

#[test]
fn a_topic_at_rest_goes_on_where_it_stopped() {
    let disk = disk();
    let opened = open(&disk, Options::default());
    let log = topic(&opened.store);
    for i in 0..20_u8 {
        append(&log, &[&[i; 100]]);
        log.rest().unwrap();
    }
    assert_eq!(log.tail_start(), 0);
    assert_eq!(dense(&log), (0..20_u8).map(|i| vec![i; 100]).collect::<Vec<_>>());
    assert_eq!(segment_files(&disk).len(), 1);
}

#[test]
fn readers_and_writers_of_one_topic_do_not_disturb_one_another() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 20_000,
        tail_messages: 50,
        open_files_max: 2,
        read_bytes_max: 200_000,
        ..Options::default()
    };
    let opened = open_real(folder.path(), options).unwrap();
    let log = topic(&opened.store);
    const WRITERS: u64 = 2;
    const BATCHES: u64 = 3000;
    let total: u64 = (0..BATCHES).map(|i| 1 + i % 4).sum::<u64>() * WRITERS;
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let log = &log;
            scope.spawn(move || {
                for i in 0..BATCHES {
                    let body =
                        format!("{writer} {i} {}", "x".repeat(usize::try_from(i % 50).unwrap()));
                    let batch = vec![body.as_bytes(); usize::try_from(1 + i % 4).unwrap()];
                    append(log, &batch);
                }
            });
        }
        for reader in 0..2 {
            let log = &log;
            scope.spawn(move || {
                let (mut seq, mut next) = (0, vec![0; usize::try_from(WRITERS).unwrap()]);
                while seq < total {
                    let mut slices = Vec::new();
                    let read = match log.read(seq..log.end(), 5000, &mut slices) {
                        Read::Cold => {
                            let chunk = log.load(seq, 1 + 5000 * reader).unwrap();
                            assert!(chunk.notices().is_empty(), "{:?}", chunk.notices());
                            chunk.read(seq..log.end(), 5000, &mut slices)
                        }
                        read => read,
                    };
                    let Read::Taken(count) = read else { panic!("{read:?} at {seq}") };
                    for (at, message) in messages(&slices) {
                        assert_eq!(log.locate(message.id), Some(at));
                        let text = String::from_utf8(message.body).unwrap();
                        let mut words = text.split(' ').map(|word| word.parse::<usize>());
                        let (writer, i) =
                            (words.next().unwrap().unwrap(), words.next().unwrap().unwrap());
                        assert!(i == next[writer] || i == next[writer] + 1, "order of a writer");
                        next[writer] = i;
                    }
                    seq += count;
                }
            });
        }
        scope.spawn(|| {
            while log.end() < total {
                log.sync().unwrap();
                log.prepare().unwrap();
            }
        });
    });
    assert_eq!(log.end(), total);
    assert!(log.release(total) > 10);
}

fn open_real(path: &Path, options: Options) -> Result<Opened, OpenError> {
    Store::open(path, Arc::new(RealDisk), options, Clocks::default())
}

#[test]
fn a_data_folder_is_open_once_and_the_texts_are_those_that_users_know() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let opened = open_real(path, Options::default()).unwrap();
    let again = open_real(path, Options::default()).unwrap_err();
    assert!(matches!(again, OpenError::Lock(LockError::Flock { .. })));
    assert_eq!(
        again.to_string(),
        format!(
            "failed to lock data-path: cannot flock directory {} - resource temporarily unavailable \
             (possibly in use by another instance of nsqd)",
            path.display()
        )
    );
    drop(opened);
    open_real(path, Options::default()).unwrap();
    let missing = path.join("missing");
    let error = open_real(&missing, Options::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("failed to lock data-path: open {}: no such file or directory", missing.display())
    );
}

#[test]
fn the_real_disk_keeps_topics_of_every_valid_name() {
    let folder = tempfile::tempdir().unwrap();
    let names = [".", "..", "a", &"x".repeat(64)];
    for round in 0..3_u64 {
        let opened = open_real(folder.path(), small_segments()).unwrap();
        assert_eq!(opened.report, []);
        assert_eq!(opened.topics.len(), if round == 0 { 0 } else { 4 });
        for topic in names {
            let log = opened.store.create_topic(&name(topic)).unwrap();
            assert_eq!(log.end(), 10 * round);
            for _ in 0..10 {
                append(&log, &[&[0; 200]]);
            }
            assert_eq!(dense(&log).len() as u64, 10 * round + 10);
            try_append(&log, &[], Some(Duration::from_secs(1))).unwrap();
        }
        if round < 2 {
            opened.store.close().unwrap();
        }
        opened.store.delete_topic(&name("none")).unwrap();
    }
    let opened = open_real(folder.path(), small_segments()).unwrap();
    for topic in names {
        opened.store.delete_topic(&name(topic)).unwrap();
    }
    assert_eq!(std::fs::read_dir(folder.path().join("topics")).unwrap().count(), 0);
}
