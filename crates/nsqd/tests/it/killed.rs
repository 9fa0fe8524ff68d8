//! kill -9 at any moment: nothing acknowledged is lost, and what a client may rely on is not undone.

mod damage;
mod disk;
mod ledger;
mod load;

use std::{
    path::{Path, PathBuf},
    process::Command as Process,
    time::Duration,
};

use nsq_protocol::Command;

use self::load::{Load, Random};
use crate::support::{NsqdProcess, http};

const ROUNDS: u64 = 25;
/// A kill comes at most after so many answers and deliveries.
const EVENTS_MAX: u64 = 3000;
/// Small files and little memory: kills hit new segments, deletions and reads from disk.
const SMALL: [&str; 3] = ["-max-bytes-per-file=100000", "-mem-queue-size=50", "-mem-bytes=20000"];

#[test]
fn nothing_acknowledged_is_lost_or_undone_by_kills_under_load() {
    let seed = Random::seed();
    eprintln!("seed {seed}, to be repeated with NSQ_TEST_SEED={seed}");
    let mut random = Random(seed);
    let folder = tempfile::tempdir().unwrap();
    let load = Load::default();
    for round in 0..ROUNDS {
        if round % 5 == 4 {
            kill_while_starting(folder.path(), &mut random);
        }
        let nsqd = NsqdProcess::start(folder.path(), &SMALL);
        let log = load.until_killed(nsqd, random.below(EVENTS_MAX), &mut random);
        for line in log.lines().filter(|line| line.contains("WARNING")) {
            eprintln!("round {round}: {line}");
        }
        expect_no_damage(&log);
        load.expect_no_violations(seed, round);
    }
    let nsqd = NsqdProcess::start(folder.path(), &SMALL);
    load.drain(&nsqd);
    let (acknowledged, deliveries) = load.close();
    eprintln!("{acknowledged} messages acknowledged, {deliveries} deliveries");
    load.expect_no_violations(seed, ROUNDS);
    let (code, log) = nsqd.stop();
    assert_eq!(code, Some(0), "{log}");
    expect_no_damage(&log);
    nothing_is_left(folder.path());
}

/// Kills nsqd at some moment of its recovery.
fn kill_while_starting(folder: &Path, random: &mut Random) {
    let args = NsqdProcess::args(folder, &SMALL);
    let mut command = Process::new(env!("CARGO_BIN_EXE_nsqd"));
    let mut child = command.args(args).stderr(std::process::Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_micros(random.below(20_000)));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A torn tail is what a kill may leave; anything else is a fault.
fn expect_no_damage(log: &str) {
    for word in ["lost", "missing", "damage", "panic", "FATAL"] {
        assert!(!log.contains(word), "{log}");
    }
}

/// After everything was finished and nsqd stopped in order there is nothing to deliver and little on disk.
fn nothing_is_left(folder: &Path) {
    let nsqd = NsqdProcess::start(folder, &SMALL);
    for channel in ledger::CHANNELS {
        nsqd.consumer(load::TOPIC, channel, 10).expect_nothing();
    }
    let segments = std::fs::read_dir(folder.join("topics/load.topic")).unwrap();
    let is_segment = |name: &std::ffi::OsStr| Path::new(name).extension() == Some("seg".as_ref());
    let segments = segments.filter(|entry| is_segment(&entry.as_ref().unwrap().file_name()));
    assert_eq!(segments.count(), 1, "only the newest segment stays");
    let (code, log) = nsqd.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("WARNING"), "{log}");
}

#[test]
fn a_requeue_survives_once_a_later_command_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    let mut consumer = nsqd.consumer("t", "c", 10);
    nsqd.client().publish_all("t", &["later", "again"]);
    let [later, mut again] = [consumer.message(), consumer.message()];
    consumer.req(later.id, 3_600_000);
    for attempts in 2..6 {
        consumer.req(again.id, 0);
        again = consumer.message();
        assert_eq!(again.attempts, attempts);
    }
    // First, or the message might come again before.
    consumer.send(Command::Rdy(0));
    consumer.req(again.id, 0);
    consumer.settle();
    let _ = nsqd.kill();

    let nsqd = NsqdProcess::start(folder.path(), &[]);
    let channel = nsqd.stats()["topics"][0]["channels"][0].clone();
    assert_eq!((&channel["deferred_count"], &channel["depth"]), (&1.into(), &1.into()));
    let mut consumer = nsqd.consumer("t", "c", 10);
    let message = consumer.message();
    assert_eq!((message.body.as_slice(), message.attempts), (b"again".as_slice(), 6));
    consumer.expect_nothing();
}

#[test]
fn a_deferred_publish_survives_once_it_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    for channel in ["a", "b"] {
        nsqd.consumer("t", channel, 0);
    }
    let mut producer = nsqd.client();
    producer.ok(Command::DeferredPub { topic: "t", delay_ms: 3_600_000, body: b"later" });
    producer.publish("t", b"now");
    let _ = nsqd.kill();
    for attempts in 1..4 {
        let nsqd = NsqdProcess::start(folder.path(), &[]);
        for (index, channel) in ["a", "b"].into_iter().enumerate() {
            let stats = nsqd.stats()["topics"][0]["channels"][index].clone();
            assert_eq!((&stats["deferred_count"], &stats["depth"]), (&1.into(), &1.into()));
            let mut consumer = nsqd.consumer("t", channel, 10);
            let message = consumer.message();
            assert_eq!((message.body.as_slice(), message.attempts), (b"now".as_slice(), attempts));
            consumer.send(Command::Rdy(0));
            consumer.req(message.id, 0);
            consumer.expect_nothing();
        }
        let _ = nsqd.kill();
    }
}

#[test]
fn messages_of_a_deleted_last_channel_do_not_come_again_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    let post = |nsqd: &NsqdProcess, target| {
        assert_eq!(http(nsqd.http, "POST", target, b"").0, 200, "{target}");
    };
    post(&nsqd, "/topic/create?topic=t");
    post(&nsqd, "/channel/create?topic=t&channel=c");
    nsqd.client().publish_all("t", &["1", "2", "3"]);
    post(&nsqd, "/channel/delete?topic=t&channel=c");
    let _ = nsqd.kill();
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    let mut consumer = nsqd.consumer("t", "d", 100);
    nsqd.client().publish("t", b"4");
    assert_eq!(consumer.message().body, b"4");
    consumer.expect_nothing();
}

#[test]
fn what_a_channel_was_given_before_its_topic_was_paused_is_delivered_after_a_kill() {
    for then in ["/topic/pause?topic=t", "/channel/empty?topic=t&channel=other"] {
        let folder = tempfile::tempdir().unwrap();
        let nsqd = NsqdProcess::start(folder.path(), &[]);
        let post = |target| assert_eq!(http(nsqd.http, "POST", target, b"").0, 200, "{target}");
        post("/topic/create?topic=t");
        post("/channel/create?topic=t&channel=c");
        post("/channel/create?topic=t&channel=other");
        nsqd.client().publish_all("t", &["1", "2"]);
        post("/topic/pause?topic=t");
        post(then);
        let _ = nsqd.kill();
        let nsqd = NsqdProcess::start(folder.path(), &[]);
        // The pause holds back what is published later only.
        nsqd.client().publish("t", b"held back");
        let mut consumer = nsqd.consumer("t", "c", 100);
        assert_eq!(consumer.finish_next(2), [b"1", b"2"]);
        consumer.expect_nothing();
    }
}

/// The files of a topic's journal.
fn journal_files(topic: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(topic).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|file| {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("journal.") || name.starts_with("snapshot.")
        })
        .collect();
    files.sort();
    files
}
