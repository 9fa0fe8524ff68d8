//! Crashes at every change: all acknowledged messages are there, in order, under their ids.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use nsq_log::{
    ChannelDelta, Durability, JournalRecord, Opened, Options, TopicLog, TopicState,
    testing::{FaultyDisk, Stop},
};
use nsq_protocol::{ChannelName, MessageId};

use crate::support::*;

/// The contents that a topic must have after a crash.
#[derive(Clone, Debug, Default)]
struct Promise {
    /// Every batch that was tried, acknowledged or not: the last may be either.
    batches: Vec<Vec<Vec<u8>>>,
    acknowledged: u64,
    synced: u64,
    released: u64,
    /// The cursors that were journaled, the last of them perhaps without success.
    cursors: Vec<u64>,
    deleting: bool,
}

#[derive(Debug, Default)]
struct World {
    topics: BTreeMap<&'static str, Promise>,
    ids: HashMap<MessageId, Vec<u8>>,
}

const TOPICS: [&str; 2] = ["orders", "clicks"];

fn options(durability: Durability) -> Options {
    Options { segment_bytes: 1500, durability, tail_messages: 5, ..Options::default() }
}

fn channel() -> ChannelName {
    ChannelName::new("c").unwrap()
}

impl World {
    /// Works until the disk stops or the work is done.
    fn work(&mut self, opened: &Opened, round: usize) -> Option<()> {
        let logs: Vec<_> = TOPICS
            .iter()
            .map(|topic| Some((*topic, opened.store.create_topic(&name(topic)).ok()?)))
            .collect::<Option<_>>()?;
        for step in 0..24_usize {
            for (topic, log) in &logs {
                let promise = self.topics.entry(topic).or_default();
                let count = 1 + step * 7 % 5;
                let body = |i| format!("{topic} {round} {step} {i} {}", "x".repeat(step * 31 % 97));
                let batch: Vec<_> = (0..count).map(|i| body(i).into_bytes()).collect();
                promise.batches.push(batch.clone());
                let defer = (step % 6 == 5).then_some(Duration::from_secs(9));
                let batch: Vec<_> = batch.iter().map(Vec::as_slice).collect();
                let range = try_append(log, &batch, defer).ok()?;
                promise.acknowledged = range.end;
                for (_, message) in read_some(log, range)? {
                    let other = self.ids.insert(message.id, message.body.clone());
                    assert!(other.is_none_or(|body| body == message.body), "an id was given twice");
                }
                self.keep_books(topic, log, step)?;
            }
        }
        opened.store.delete_topic(&name(TOPICS[1])).ok();
        self.topics.entry(TOPICS[1]).or_default().deleting = true;
        None
    }

    /// Syncs, journals, compacts and releases now and then.
    fn keep_books(&mut self, topic: &'static str, log: &TopicLog, step: usize) -> Option<()> {
        let promise = self.topics.entry(topic).or_default();
        let end = log.end();
        if step % 3 == 1 {
            promise.synced = log.sync().ok()?;
        }
        promise.cursors.push(end);
        let delta = ChannelDelta { end, cursor: end, finished: vec![0..end], outstanding: vec![] };
        let topic = JournalRecord::Topic { fanout: end, paused: false, deferred: &[] };
        let channel = channel();
        let delta = JournalRecord::ChannelDelta { channel: &channel, delta: &delta };
        log.journal(&[topic, delta], NOW).ok()?;
        if step % 8 == 7 {
            log.compact().ok()?;
        }
        if step % 7 == 6 {
            log.waypoint().ok()?;
        }
        if step % 5 == 4 {
            promise.released = end / 2;
            log.release(end / 2);
        }
        Some(())
    }

    /// Compares the recovered topics with the promises, and continues from them.
    fn check(&mut self, opened: &Opened, stop: Stop, durability: Durability) {
        for topic in TOPICS {
            let promise = self.topics.entry(topic).or_default();
            let found = opened.topics.iter().find(|found| found.name.as_str() == topic);
            let Some(found) = found else {
                let kept = match stop {
                    Stop::Kill => promise.acknowledged,
                    Stop::PowerCut { .. } => promise.synced,
                };
                assert!(kept == 0 || promise.deleting, "{topic} is gone");
                *promise = Promise::default();
                continue;
            };
            let log = &found.log;
            let all = read_all(log, 700);
            check_content(promise, log, &all, stop);
            for message in all.values() {
                let other = self.ids.insert(message.id, message.body.clone());
                assert!(other.is_none_or(|body| body == message.body), "an id was given twice");
            }
            check_state(promise, &found.state, log, stop);
            let batches =
                (0..log.end()).map(|seq| vec![all.get(&seq).map_or(vec![], |m| m.body.clone())]);
            *promise = Promise {
                batches: batches.collect(),
                acknowledged: log.end(),
                synced: if durability == Durability::Fsync { log.sync().unwrap() } else { 0 },
                released: log.first(),
                cursors: found.state.channels.iter().map(|(_, c)| c.cursor).collect(),
                deleting: false,
            };
        }
    }
}

fn read_some(log: &Arc<TopicLog>, range: std::ops::Range<u64>) -> Option<BTreeMap<u64, Message>> {
    let mut slices = Vec::new();
    match log.read(range.clone(), 1 << 20, &mut slices) {
        nsq_log::Read::Taken(_) => Some(messages(&slices)),
        _ => {
            let read = log.load(range.start, 1 << 20).ok()?.read(range, 1 << 20, &mut slices);
            matches!(read, nsq_log::Read::Taken(_)).then(|| messages(&slices))
        }
    }
}

fn check_content(promise: &Promise, log: &TopicLog, all: &BTreeMap<u64, Message>, stop: Stop) {
    let tried: Vec<_> = promise.batches.iter().flatten().collect();
    let mut ends = promise.batches.iter().scan(0, |end, batch| {
        *end += batch.len() as u64;
        Some(*end)
    });
    let end = log.end();
    assert!(end == 0 || ends.any(|e| e == end), "{end} is no end of a batch");
    let kept = match stop {
        Stop::Kill => promise.acknowledged,
        Stop::PowerCut { .. } => promise.synced,
    };
    assert!(end >= kept, "the log ends at {end}, {kept} were promised");
    for seq in promise.released..end {
        match all.get(&seq) {
            Some(message) => {
                let index = usize::try_from(seq).unwrap();
                assert_eq!(&message.body, tried[index], "sequence {seq}");
            }
            // A later segment outlived a power cut, but not all of the one before it.
            None => assert!(
                seq >= kept || tried[usize::try_from(seq).unwrap()].is_empty(),
                "sequence {seq} is lost"
            ),
        }
    }
}

fn check_state(promise: &Promise, state: &TopicState, log: &TopicLog, stop: Stop) {
    let kept = log.first()..=log.end();
    assert!(kept.contains(&state.fanout));
    let cursor = state.channels.first().map(|(_, channel)| channel.cursor);
    if let Some((_, channel)) = state.channels.first() {
        assert!(kept.contains(&channel.cursor) && kept.contains(&channel.end));
        let known = promise.cursors.contains(&channel.cursor);
        assert!(known || channel.cursor == log.end() || channel.cursor == log.first());
    }
    if let Stop::Kill = stop {
        let journaled = promise.cursors.len().checked_sub(2).map(|at| promise.cursors[at]);
        assert!(cursor >= journaled, "{cursor:?} is before {journaled:?}");
    }
    let deferred = state.deferred.iter().flat_map(|(range, _)| range.clone());
    assert!(deferred.into_iter().all(|seq| seq < log.end()));
}

fn crash_everywhere(durability: Durability, stops: impl Fn(u64) -> Vec<Stop>) {
    let whole = disk();
    let opened = open(&whole, options(durability));
    World::default().work(&opened, 0);
    let changes = whole.changes();
    assert!(changes > 150);
    for at in 1..=changes {
        for stop in stops(at) {
            let first = disk();
            first.crash_at(at);
            let mut world = World::default();
            if let Ok(opened) = try_open(&first, options(durability)) {
                world.work(&opened, 0);
            }
            let second = first.restart(stop);
            let opened = open(&second, options(durability));
            world.check(&opened, stop, durability);
            world.work(&opened, 1);
            let third = second.restart(Stop::Kill);
            let opened = open(&third, options(durability));
            world.check(&opened, Stop::Kill, durability);
        }
    }
}

#[test]
fn a_killed_process_leaves_everything_that_was_acknowledged() {
    crash_everywhere(Durability::Log, |_| vec![Stop::Kill]);
}

#[test]
fn a_power_cut_leaves_everything_that_was_synced() {
    crash_everywhere(Durability::Fsync, |at| {
        (0..3).map(|i| Stop::PowerCut { seed: at * 1000 + i }).collect()
    });
}

#[test]
fn a_crash_while_recovering_loses_nothing_more() {
    let first = disk();
    let opened = open(&first, options(Durability::Log));
    let mut world = World::default();
    world.work(&opened, 0);
    for seed in 0..40 {
        let torn = first.restart(Stop::PowerCut { seed });
        let before = torn.changes();
        let opened = open(&torn, Options::default());
        let (steps, end) =
            (torn.changes() - before, opened.topics.iter().map(|t| t.log.end()).max());
        drop(opened);
        for at in 1..=steps {
            let torn = first.restart(Stop::PowerCut { seed });
            torn.crash_at(at);
            // Some steps are not needed, and their failure is passed over.
            drop(try_open(&torn, Options::default()));
            assert!(torn.crashed());
            let opened = open(&torn.restart(Stop::Kill), Options::default());
            assert_eq!(opened.topics.iter().map(|t| t.log.end()).max(), end);
        }
    }
}

#[test]
fn the_incarnation_rises_with_every_unclean_start_and_only_then() {
    let first = disk();
    let opened = open(&first, Options::default());
    let id = opened.store.node_id();
    assert_eq!(opened.store.incarnation(), 1);
    opened.store.close().unwrap();
    drop(opened);
    let opened = open(&first, Options::default());
    assert_eq!((opened.store.incarnation(), opened.store.node_id()), (1, id));
    let killed = first.restart(Stop::Kill);
    let opened = open(&killed, Options::default());
    assert_eq!((opened.store.incarnation(), opened.store.node_id()), (2, id));
    let cut = killed.restart(Stop::PowerCut { seed: 5 });
    let opened = open(&cut, Options::default());
    assert_eq!((opened.store.incarnation(), opened.store.node_id()), (3, id), "it was synced");
}

fn ids(log: &TopicLog) -> Vec<MessageId> {
    read_all(log, 1 << 20).into_values().map(|message| message.id).collect()
}

#[test]
fn ids_are_unique_over_topics_and_clean_and_unclean_restarts() {
    let mut disk: FaultyDisk = disk();
    let mut seen = HashMap::new();
    for round in 0..8 {
        let opened = open(&disk, small_segments());
        for topic in ["a", "b", "c"] {
            let log = opened.store.create_topic(&name(topic)).unwrap();
            for _ in 0..3 {
                append(&log, &[&[0; 300], &[0; 300]]);
            }
            for (seq, message) in read_all(&log, 1 << 20) {
                assert_eq!(*seen.entry(message.id).or_insert((topic, seq)), (topic, seq));
                assert_eq!(log.locate(message.id), Some(seq));
            }
        }
        if round % 2 == 0 {
            opened.store.close().unwrap();
        } else {
            disk = disk.restart(if round % 4 == 1 {
                Stop::Kill
            } else {
                Stop::PowerCut { seed: round }
            });
        }
    }
    assert!(seen.len() > 100);
}

#[test]
fn a_deleted_topic_stays_deleted_whatever_happens_next() {
    for seed in 0..20 {
        let first = disk();
        let opened = open(&first, Options::default());
        append(&topic(&opened.store), &[b"a"]);
        topic(&opened.store).sync().unwrap();
        opened.store.delete_topic(&name(TOPIC)).unwrap();
        assert!(
            open(&first.restart(Stop::PowerCut { seed }), Options::default()).topics.is_empty()
        );
    }
}

#[test]
fn a_deletion_that_a_crash_interrupts_is_whole_or_not_at_all() {
    let prepared = || {
        let first = disk();
        let opened = open(&first, small_segments());
        let log = topic(&opened.store);
        (0..3).for_each(|_| drop(append(&log, &[&[0; 900]])));
        log.sync().unwrap();
        (first, opened)
    };
    let (first, opened) = prepared();
    let before = first.changes();
    opened.store.delete_topic(&name(TOPIC)).unwrap();
    for at in before + 1..=first.changes() {
        let (first, opened) = prepared();
        first.crash_at(at);
        assert!(opened.store.delete_topic(&name(TOPIC)).is_err());
        let opened = open(&first.restart(Stop::Kill), small_segments());
        let kept = opened.topics.first().map(|found| dense(&found.log).len());
        assert_eq!(kept, (at == before + 1).then_some(3));
    }
}

#[test]
fn an_active_segment_goes_on_after_a_clean_stop_and_not_after_a_crash() {
    let first = disk();
    let opened = open(&first, Options::default());
    append(&topic(&opened.store), &[b"a"]);
    opened.store.close().unwrap();
    drop(opened);
    let opened = open(&first, Options::default());
    append(&recovered(&opened), &[b"b"]);
    assert_eq!(segment_files(&first).len(), 1);
    let second = first.restart(Stop::Kill);
    let opened = open(&second, Options::default());
    append(&recovered(&opened), &[b"c"]);
    assert_eq!(segment_files(&second).len(), 2);
    assert_eq!(dense(&recovered(&opened)), [b"a", b"b", b"c"]);
}

#[test]
fn a_clean_start_after_a_crash_without_appends_still_begins_a_new_segment() {
    let first = disk();
    let opened = open(&first, Options::default());
    append(&topic(&opened.store), &[b"a"]);
    let second = first.restart(Stop::Kill);
    open(&second, Options::default()).store.close().unwrap();
    let opened = open(&second, Options::default());
    append(&recovered(&opened), &[b"b"]);
    assert_eq!(segment_files(&second).len(), 2);
}

#[test]
fn a_lost_node_file_is_rebuilt_without_giving_ids_twice() {
    let first = disk();
    let opened = open(&first, small_segments());
    let log = topic(&opened.store);
    (0..5).for_each(|_| drop(append(&log, &[&[0; 700]])));
    let known = ids(&log);
    let id = opened.store.node_id();
    let second = first.restart(Stop::Kill);
    second.edit(&std::path::Path::new(ROOT).join("node"), |bytes| {
        bytes[20] ^= 1;
        bytes[512 + 20] ^= 1;
    });
    let opened = open(&second, small_segments());
    assert_eq!((opened.store.node_id(), opened.store.incarnation()), (id, 2));
    assert_eq!(opened.report.len(), 1, "{:?}", opened.report);
    let log = recovered(&opened);
    append(&log, &[b"x"]);
    let all = ids(&log);
    assert_eq!(all[..5], known);
    assert!(!known.contains(&all[5]));
    assert_eq!(
        all.iter().map(|id| log.locate(*id).unwrap()).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4, 5]
    );
}

/// Publishes deferred messages that no journal hears of, with snapshots between them that are older than they are.
/// Returns how many were acknowledged.
fn defer_until_stopped(opened: &Opened) -> u64 {
    let mut acknowledged = 0;
    let Ok(log) = opened.store.create_topic(&name("orders")) else { return 0 };
    for step in 0..40 {
        let delay = Duration::from_secs(acknowledged + 1);
        let Ok(range) = try_append(&log, &[&[b'x'; 300]], Some(delay)) else { break };
        acknowledged = range.end;
        if step % 16 == 15 && log.compact().is_err() {
            break;
        }
    }
    acknowledged
}

#[test]
fn no_kill_makes_a_deferred_message_forget_its_delay() {
    let whole = disk();
    let opened = open(&whole, options(Durability::Log));
    assert_eq!(defer_until_stopped(&opened), 40);
    for at in 1..=whole.changes() {
        let disk = disk();
        disk.crash_at(at);
        let Ok(opened) = try_open(&disk, options(Durability::Log)) else { continue };
        let acknowledged = defer_until_stopped(&opened);
        let opened = open(&disk.restart(Stop::Kill), options(Durability::Log));
        let delays: BTreeMap<_, _> = opened
            .topics
            .iter()
            .flat_map(|topic| &topic.state.deferred)
            .flat_map(|(range, delay)| range.clone().map(|seq| (seq, delay.as_secs())))
            .collect();
        for seq in 0..acknowledged {
            assert_eq!(delays.get(&seq), Some(&(seq + 1)), "crash at {at}, sequence {seq}");
        }
    }
}
