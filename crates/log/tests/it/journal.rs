//! The journal: replay gives the state back, again and again, and a torn one costs repetitions only.

use std::{ops::Range, path::Path, time::Duration};

use nsq_log::{
    ChannelDelta, ChannelState, Disk, Error, Event, JournalRecord, Options, Outstanding, TopicLog,
    TopicState,
    testing::{Denied, FaultyDisk, Stop},
};
use nsq_protocol::ChannelName;
use proptest::prelude::*;
use rustix::io::Errno;

use crate::support::*;

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

fn outstanding(range: Range<u64>, attempts: u16, due_ns: Option<u64>) -> Outstanding {
    Outstanding { range, attempts, due_ns }
}

fn delta(log: &TopicLog, name: &str, delta: &ChannelDelta) {
    log.journal(&[JournalRecord::ChannelDelta { channel: &channel(name), delta }], NOW).unwrap();
}

/// The state that a restart finds.
fn restarted(disk: &FaultyDisk) -> TopicState {
    let mut opened = open(&disk.restart(Stop::Kill), Options::default());
    assert_eq!(opened.report, []);
    opened.topics.remove(0).state
}

/// The same, where a record may be torn.
fn restarted_with_cut(disk: &FaultyDisk) -> TopicState {
    let restarted = disk.restart(Stop::Kill);
    open(&restarted, Options::default()).topics.remove(0).state
}

fn with_messages(count: usize) -> (FaultyDisk, std::sync::Arc<TopicLog>, nsq_log::Store) {
    let disk = disk();
    let opened = open(&disk, Options::default());
    let log = topic(&opened.store);
    append(&log, &vec![&b"x"[..]; count]);
    (disk, log, opened.store)
}

fn journal_path() -> std::path::PathBuf {
    Path::new(ROOT).join("topics/orders.topic/journal.00000001")
}

#[test]
fn the_state_of_topic_and_channels_survives() {
    let (disk, log, _store) = with_messages(20);
    let created = ChannelState { end: 20, cursor: 3, ..ChannelState::default() };
    let (a, b) = (channel("a"), channel("b"));
    let second = Duration::from_secs(1);
    log.journal(
        &[
            JournalRecord::ChannelCreated { channel: &a, state: &created },
            JournalRecord::ChannelCreated { channel: &b, state: &created },
            JournalRecord::Topic { fanout: 15, paused: true, deferred: &[(17..19, second)] },
            JournalRecord::ChannelPaused { channel: &a, paused: true },
        ],
        NOW,
    )
    .unwrap();
    let change = ChannelDelta {
        end: 20,
        cursor: 10,
        finished: vec![3..7],
        outstanding: vec![outstanding(8..9, 4, Some(99))],
    };
    delta(&log, "a", &change);
    log.journal(&[JournalRecord::ChannelDeleted { channel: &b }], NOW).unwrap();
    let a_state = ChannelState {
        end: 20,
        cursor: 10,
        finished: vec![],
        outstanding: vec![
            outstanding(7..8, 1, None),
            outstanding(8..9, 4, Some(99)),
            outstanding(9..10, 1, None),
        ],
        paused: true,
    };
    let expected = TopicState {
        fanout: 15,
        paused: true,
        deferred: vec![(17..19, second)],
        channels: vec![(a, a_state)],
    };
    assert_eq!(restarted(&disk), expected);
}

#[test]
fn a_snapshot_replaces_what_was_recorded_of_a_channel() {
    let (disk, log, _store) = with_messages(20);
    let change = ChannelDelta { end: 20, cursor: 10, ..ChannelDelta::default() };
    delta(&log, "a", &change);
    let emptied = ChannelState { end: 20, cursor: 20, ..ChannelState::default() };
    log.journal(&[JournalRecord::ChannelSnapshot { channel: &channel("a"), state: &emptied }], NOW)
        .unwrap();
    assert_eq!(restarted(&disk).channels, [(channel("a"), emptied)]);
}

#[test]
fn a_topic_without_a_journal_starts_at_the_first_message_kept() {
    let (disk, log, _store) = with_messages(3);
    assert_eq!(restarted(&disk), TopicState::default());
    delta(&log, "a", &ChannelDelta { end: 3, cursor: 3, ..ChannelDelta::default() });
    disk.edit(&journal_path(), |bytes| bytes[9] ^= 7);
    let opened = open(&disk.restart(Stop::Kill), Options::default());
    assert_eq!(opened.topics[0].state, TopicState::default());
    assert!(matches!(&opened.report[..], [n] if matches!(n.event, Event::JournalReset { .. })));
    append(&opened.topics[0].log, &[b"y"]);
}

#[test]
fn state_of_messages_that_are_gone_is_dropped() {
    let disk = disk();
    let opened = open(&disk, small_segments());
    let log = topic(&opened.store);
    (0..4).for_each(|_| drop(append(&log, &[&[0; 900]])));
    let change = ChannelDelta {
        end: 4,
        cursor: 1,
        outstanding: vec![outstanding(0..1, 9, None), outstanding(1..4, 2, None)],
        ..ChannelDelta::default()
    };
    delta(&log, "a", &change);
    log.release(2);
    let state = restarted(&disk);
    assert_eq!(state.fanout, 2);
    let (_, a) = &state.channels[0];
    assert_eq!((a.cursor, &a.outstanding[..]), (2, &[outstanding(2..4, 2, None)][..]));
}

#[test]
fn deferred_batches_are_found_again_whatever_was_journaled() {
    let second = Duration::from_secs(1);
    for stop in [None, Some(Stop::Kill)] {
        let disk = disk();
        let opened = open(&disk, small_segments());
        let log = topic(&opened.store);
        append(&log, &[b"a"]);
        try_append(&log, &[b"b", b"c"], Some(second)).unwrap();
        try_append(&log, &[b"d"], Some(second)).unwrap();
        append(&log, &[&[0; 900]]);
        try_append(&log, &[&[0; 900]], Some(2 * second)).unwrap();
        append(&log, &[&[0; 900]]);
        try_append(&log, &[b"e"], Some(3 * second)).unwrap();
        drop(log);
        let state = match stop {
            None => {
                opened.store.close().unwrap();
                drop(opened);
                // Twice: the second clean start must find as much as the first.
                open(&disk, small_segments()).store.close().unwrap();
                open(&disk, small_segments()).topics.remove(0).state
            }
            Some(stop) => open(&disk.restart(stop), small_segments()).topics.remove(0).state,
        };
        assert_eq!(
            state.deferred,
            [(1..4, second), (5..6, 2 * second), (7..8, 3 * second)],
            "{stop:?}"
        );
    }
}

#[test]
fn a_journal_that_has_grown_asks_for_compaction_and_shrinks() {
    let (disk, log, _store) = with_messages(2000);
    let mut rounds = 0;
    while !log.needs_compaction() {
        rounds += 1;
        let change = ChannelDelta {
            end: 2000,
            cursor: rounds,
            finished: vec![0..rounds],
            ..ChannelDelta::default()
        };
        delta(&log, "a", &change);
    }
    assert!((1000..1200).contains(&rounds), "{rounds} records before 64 KiB");
    let before = restarted(&disk);
    assert_eq!(log.compact().unwrap(), None);
    assert!(!log.needs_compaction());
    assert_eq!(restarted(&disk), before);
    delta(
        &log,
        "a",
        &ChannelDelta {
            end: 2000,
            cursor: 1999,
            finished: vec![0..1999],
            ..ChannelDelta::default()
        },
    );
    assert_eq!(restarted(&disk).channels[0].1.cursor, 1999);
}

#[test]
fn deferrals_survive_compactions_and_waypoints_that_know_more_or_less_than_they() {
    let disk = disk();
    let opened = open(&disk, small_segments());
    let log = topic(&opened.store);
    let second = Duration::from_secs(1);
    try_append(&log, &[&[0; 900]], Some(second)).unwrap();
    log.compact().unwrap();
    append(&log, &[&[0; 900]]);
    log.waypoint().unwrap();
    assert_eq!(restarted(&disk).deferred, [(0..1, second)]);
    try_append(&log, &[&[0; 900]], Some(2 * second)).unwrap();
    log.compact().unwrap();
    log.compact().unwrap();
    assert_eq!(restarted(&disk).deferred, [(0..1, second), (2..3, 2 * second)]);
}

#[test]
fn deferrals_are_not_forgotten_while_the_journal_cannot_be_written() {
    let disk = disk();
    let opened = open(&disk, small_segments());
    let log = topic(&opened.store);
    let second = Duration::from_secs(1);
    append(&log, &[b"x"]);
    try_append(&log, &[&[0; 900]], Some(second)).unwrap();
    log.journal(&[JournalRecord::Topic { fanout: 0, paused: false, deferred: &[] }], NOW).unwrap();
    disk.remove(&journal_path()).unwrap();
    try_append(&log, &[&[1; 900]], Some(second)).unwrap();
    assert!(log.waypoint().is_err(), "there is no file to write it to");
    try_append(&log, &[&[2; 900]], Some(2 * second)).unwrap();
    append(&log, &[&[3; 900]]);
    let notice = log.compact().unwrap().unwrap();
    assert!(matches!(notice.event, Event::JournalReset { .. }), "{notice}");
    log.waypoint().unwrap();
    let expected = [(1..3, second), (3..4, 2 * second)];
    assert_eq!(restarted(&disk).deferred, expected);
}

fn cursor_at(cursor: u64) -> ChannelDelta {
    ChannelDelta { end: 10, cursor, finished: vec![0..cursor], ..ChannelDelta::default() }
}

#[test]
fn a_record_that_could_not_be_written_is_written_later_whatever_failed() {
    let failures = [
        Denied { open: Some(Errno::MFILE), ..Denied::default() },
        Denied { write: Some(Errno::NOSPC), ..Denied::default() },
        Denied { write: Some(Errno::IO), ..Denied::default() },
        Denied { write: Some(Errno::IO), truncate: Some(Errno::IO), ..Denied::default() },
    ];
    for denied in failures {
        let (disk, log, _store) = with_messages(10);
        delta(&log, "a", &cursor_at(1));
        let name = channel("a");
        let record = |delta: ChannelDelta| {
            log.journal(&[JournalRecord::ChannelDelta { channel: &name, delta: &delta }], NOW)
        };
        disk.deny(denied);
        assert!(record(cursor_at(2)).is_err());
        assert!(log.journal_behind());
        assert!(record(cursor_at(3)).is_err());
        assert!(log.retry_journal().is_err());
        assert!(log.compact().is_err());
        assert_eq!(restarted_with_cut(&disk).channels[0].1.cursor, 1, "{denied:?}");
        disk.deny(Denied::default());
        log.retry_journal().unwrap();
        assert!(!log.journal_behind());
        assert_eq!(restarted(&disk).channels[0].1.cursor, 3, "{denied:?}");
        delta(&log, "a", &cursor_at(4));
        assert_eq!(restarted(&disk).channels[0].1.cursor, 4, "{denied:?}");
        log.compact().unwrap();
        assert_eq!(restarted(&disk).channels[0].1.cursor, 4, "{denied:?}");
    }
}

#[test]
fn a_shortage_loses_no_record_and_the_next_one_brings_it() {
    let (disk, log, _store) = with_messages(10);
    delta(&log, "a", &cursor_at(1));
    let (name, two) = (channel("a"), cursor_at(2));
    let record = [JournalRecord::ChannelDelta { channel: &name, delta: &two }];
    disk.limit_space(Some(disk.used() + 10));
    let refused = log.journal(&record, NOW);
    assert!(matches!(refused, Err(Error::JournalBehind { reason, .. }) if reason.is_temporary()));
    assert!(!log.needs_compaction());
    disk.limit_space(None);
    delta(&log, "b", &cursor_at(7));
    let state = restarted(&disk);
    assert_eq!(state.channels.iter().map(|(_, it)| it.cursor).collect::<Vec<_>>(), [2, 7]);
}

#[test]
fn a_compaction_takes_nothing_from_records_written_meanwhile() {
    let (disk, log, _store) = with_messages(10);
    for cursor in 0..10 {
        delta(&log, "a", &cursor_at(cursor));
        log.compact().unwrap();
        delta(&log, "b", &cursor_at(cursor + 1));
        let state = restarted(&disk);
        let cursors: Vec<_> = state.channels.iter().map(|(_, it)| it.cursor).collect();
        assert_eq!(cursors, [cursor, cursor + 1]);
    }
    let files = disk.files(Path::new(ROOT));
    let names = files.iter().filter_map(|(path, _)| path.file_name()?.to_str());
    let count = |prefix| names.clone().filter(|name| name.starts_with(prefix)).count();
    assert_eq!((count("journal."), count("snapshot.")), (1, 1), "older ones are removed");
}

#[test]
fn compactions_flushes_and_waypoints_beside_writers_lose_no_record() {
    let (disk, log, _store) = with_messages(10);
    let names: Vec<_> = (0..4).map(|n| format!("c{n}")).collect();
    let running = std::sync::atomic::AtomicUsize::new(names.len());
    std::thread::scope(|scope| {
        for name in &names {
            let (log, running) = (&log, &running);
            scope.spawn(move || {
                for round in 0..300 {
                    let change = ChannelDelta { end: round, ..cursor_at(round) };
                    delta(log, name, &change);
                }
                running.fetch_sub(1, std::sync::atomic::Ordering::AcqRel);
            });
        }
        while running.load(std::sync::atomic::Ordering::Acquire) > 0 {
            assert_eq!(log.compact().unwrap(), None);
            log.sync().unwrap();
            append(&log, &[b"x"]);
            log.waypoint().unwrap();
        }
    });
    append(&log, &vec![&b"x"[..]; 300]);
    let state = restarted(&disk);
    assert!(state.channels.iter().all(|(_, channel)| channel.cursor == 299), "{state:?}");
    assert_eq!(state.channels.len(), names.len());
}

#[test]
fn many_deferred_messages_are_replayed_in_linear_time() {
    // A replay whose cost grew with the square would take minutes here.
    let count = 200_000_u64;
    let (disk, log, _store) = with_messages(usize::try_from(count).unwrap());
    let late = |seq: u64| outstanding(seq..seq + 1, 1, Some(1 + seq * 7919 % count));
    // From the middle outwards, so that neither end is the place to insert.
    for step in 0..count / 200 {
        let at = (step * 7919) % (count / 200) * 200;
        let change = ChannelDelta {
            end: count,
            cursor: count,
            finished: if step == 0 { vec![0..count] } else { vec![] },
            outstanding: (at..at + 200).map(late).collect(),
        };
        delta(&log, "a", &change);
    }
    let whole = restarted(&disk);
    assert_eq!(whole.channels[0].1.outstanding.len() as u64, count - 200, "the first are finished");
    log.compact().unwrap();
    assert_eq!(restarted(&disk), whole);
}

#[test]
fn a_failed_flush_of_the_journal_is_mended_by_a_compaction() {
    let (disk, log, _store) = with_messages(10);
    delta(&log, "a", &cursor_at(1));
    disk.deny(Denied { sync: Some(Errno::IO), ..Denied::default() });
    assert!(log.sync().is_err());
    disk.deny(Denied::default());
    log.reopen().unwrap();
    log.sync().unwrap();
    log.compact().unwrap();
    assert!(!log.needs_compaction());
    let cut = disk.restart(Stop::PowerCut { seed: 3 });
    assert_eq!(open(&cut, Options::default()).topics[0].state.channels[0].1.cursor, 1);
}

#[test]
fn a_topic_takes_and_flushes_messages_while_its_journal_cannot_be_flushed() {
    let (disk, log, _store) = with_messages(10);
    delta(&log, "a", &cursor_at(1));
    disk.break_path(&journal_path(), Some(Errno::IO));
    assert!(log.sync().is_err());
    assert_eq!(log.synced(), 10);
    append(&log, &[b"goes on"]);
    // The journal may be tried again or left to a compaction.
    let _ = log.sync();
    assert_eq!(log.synced(), 11);
    disk.break_path(&journal_path(), None);
    log.compact().unwrap();
    assert_eq!(log.sync().unwrap(), 11);
}

#[test]
fn a_journal_cut_anywhere_gives_the_state_before_the_cut() {
    let (disk, log, _store) = with_messages(10);
    let mut lengths = vec![];
    for cursor in 1..=5 {
        let change =
            ChannelDelta { end: 10, cursor, finished: vec![0..cursor], ..ChannelDelta::default() };
        delta(&log, "a", &change);
        lengths.push(
            disk.files(Path::new(ROOT))
                .into_iter()
                .find(|(p, _)| *p == journal_path())
                .unwrap()
                .1
                .len(),
        );
    }
    for length in 0..*lengths.last().unwrap() {
        let torn = disk.restart(Stop::Kill);
        torn.edit(&journal_path(), |bytes| bytes.truncate(length));
        let opened = open(&torn, Options::default());
        let cursor = lengths.iter().filter(|end| **end <= length).count() as u64;
        let found = opened.topics[0].state.channels.first().map_or(0, |(_, state)| state.cursor);
        assert_eq!(found, cursor, "cut at {length}");
        let whole = lengths.contains(&length) || length == 32;
        assert_eq!(opened.report.is_empty(), whole, "cut at {length}: {:?}", opened.report);
        delta(
            &opened.topics[0].log,
            "b",
            &ChannelDelta { end: 10, cursor: 7, ..ChannelDelta::default() },
        );
        let again = restarted(&torn);
        assert_eq!(again.channels.last().map(|(_, state)| state.cursor), Some(7));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Delta(&'static str, ChannelDelta),
    Snapshot(&'static str, ChannelState),
    Deleted(&'static str),
    Paused(&'static str, bool),
    Topic(u64, bool),
}

const MESSAGES: u64 = 30;

fn ranges() -> impl Strategy<Value = Range<u64>> {
    (0..MESSAGES, 1..6_u64).prop_map(|(start, count)| start..(start + count).min(MESSAGES))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = || prop::sample::select(vec!["a", "b"]);
    let entries = || {
        prop::collection::vec((ranges(), 1..9_u16).prop_map(|(r, a)| outstanding(r, a, None)), 0..3)
    };
    let change = (0..MESSAGES, prop::collection::vec(ranges(), 0..3), entries());
    let change = change.prop_map(|(cursor, finished, outstanding)| ChannelDelta {
        end: MESSAGES,
        cursor,
        finished,
        outstanding,
    });
    let state = (0..MESSAGES, any::<bool>());
    let state = state.prop_map(|(cursor, paused)| ChannelState {
        end: MESSAGES,
        cursor,
        paused,
        ..ChannelState::default()
    });
    let step = prop_oneof![
        6 => (name(), change).prop_map(|(name, delta)| Step::Delta(name, delta)),
        1 => (name(), state).prop_map(|(name, state)| Step::Snapshot(name, state)),
        1 => name().prop_map(Step::Deleted),
        1 => (name(), any::<bool>()).prop_map(|(name, paused)| Step::Paused(name, paused)),
        1 => (0..MESSAGES, any::<bool>()).prop_map(|(fanout, paused)| Step::Topic(fanout, paused)),
    ];
    prop::collection::vec(step, 1..20)
}

fn record(log: &TopicLog, step: &Step) {
    let channel_of = |name: &&str| channel(name);
    let (Step::Delta(name, _)
    | Step::Snapshot(name, _)
    | Step::Deleted(name)
    | Step::Paused(name, _)) = step
    else {
        let Step::Topic(fanout, paused) = *step else { unreachable!() };
        log.journal(&[JournalRecord::Topic { fanout, paused, deferred: &[] }], NOW).unwrap();
        return;
    };
    let channel = &channel_of(name);
    let record = match step {
        Step::Delta(_, delta) => JournalRecord::ChannelDelta { channel, delta },
        Step::Snapshot(_, state) => JournalRecord::ChannelSnapshot { channel, state },
        Step::Paused(_, paused) => JournalRecord::ChannelPaused { channel, paused: *paused },
        _ => JournalRecord::ChannelDeleted { channel },
    };
    log.journal(&[record], NOW).unwrap();
}

/// The state of a message in a channel, by the words of the format: the model for replay.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Fate {
    Waiting,
    Outstanding(u16),
    Finished,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Model {
    cursor: u64,
    fates: Vec<Fate>,
}

impl Model {
    fn of(state: &ChannelState) -> Self {
        let fate = |seq| {
            if let Some(entry) = state.outstanding.iter().find(|o| o.range.contains(&seq)) {
                Fate::Outstanding(entry.attempts)
            } else if seq < state.cursor || state.finished.iter().any(|range| range.contains(&seq))
            {
                Fate::Finished
            } else {
                Fate::Waiting
            }
        };
        Self { cursor: state.cursor, fates: (0..MESSAGES).map(fate).collect() }
    }

    fn apply(&mut self, delta: &ChannelDelta) {
        self.cursor = self.cursor.max(delta.cursor);
        for (seq, fate) in (0..).zip(&mut self.fates) {
            if *fate == Fate::Waiting && seq < self.cursor {
                *fate = Fate::Outstanding(1);
            }
            if let Some(entry) = delta.outstanding.iter().rev().find(|o| o.range.contains(&seq)) {
                *fate = Fate::Outstanding(entry.attempts);
            }
            if delta.finished.iter().any(|range| range.contains(&seq)) {
                *fate = Fate::Finished;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replay_is_what_the_format_says_however_often_records_are_repeated(steps in steps()) {
        let (disk, log, _store) = with_messages(usize::try_from(MESSAGES).unwrap());
        let mut model: std::collections::BTreeMap<&str, (Model, bool)> = Default::default();
        let (mut fanout, mut paused) = (0, false);
        let blank = || (Model::of(&ChannelState::default()), false);
        for step in &steps {
            record(&log, step);
            match step {
                Step::Delta(name, delta) => model.entry(name).or_insert_with(blank).0.apply(delta),
                Step::Snapshot(name, state) => drop(model.insert(name, (Model::of(state), state.paused))),
                Step::Deleted(name) => drop(model.remove(name)),
                Step::Paused(name, paused) => model.entry(name).or_insert_with(blank).1 = *paused,
                Step::Topic(f, p) => (fanout, paused) = (*f, *p),
            }
        }
        let state = restarted(&disk);
        prop_assert_eq!((state.fanout, state.paused), (fanout, paused));
        let found: Vec<_> = state.channels.iter().map(|(name, s)| (name.as_str(), (Model::of(s), s.paused))).collect();
        prop_assert_eq!(found, model.into_iter().collect::<Vec<_>>());

        // The same records again behind the first ones, and in another order: nothing changes.
        let twice = disk.restart(Stop::Kill);
        twice.edit(&journal_path(), |bytes| {
            let records = bytes[32..].to_vec();
            bytes.extend(records);
        });
        prop_assert_eq!(&restarted(&twice), &state);
        let reversed = disk.restart(Stop::Kill);
        reversed.edit(&journal_path(), |bytes| {
            let mut records = Vec::new();
            let mut rest = &bytes[32..];
            while !rest.is_empty() {
                let length = 8 + u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
                records.push(rest[..length].to_vec());
                rest = &rest[length..];
            }
            records.reverse();
            bytes.truncate(32);
            bytes.extend(records.concat());
        });
        prop_assert_eq!(&restarted(&reversed), &state);
    }
}
