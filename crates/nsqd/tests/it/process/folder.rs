//! What nsqd keeps in its folder for others to read, and what it reads from others.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use nsq_protocol::Command;

use super::{post, run_on};
use crate::support::{NsqdProcess, eventually, http};

fn catalog(folder: &Path) -> String {
    fs::read_to_string(folder.join("nsqd.dat")).unwrap()
}

/// The number of times nsqd has started, not counting those after a clean stop.
fn incarnation(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("node")).unwrap()[12..16].to_vec()
}

#[test]
fn nsqd_dat_lists_topics_and_channels_as_they_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    let is = |topics: &str| {
        let expected = format!(r#"{{"topics":{topics},"version":"1.3.0"}}"#);
        eventually(|| catalog(folder.path()) == expected);
    };
    is("null");
    post(&nsqd, "/topic/create?topic=t");
    is(r#"[{"name":"t","paused":false,"channels":null}]"#);
    nsqd.client().subscribe("t", "c", 0);
    nsqd.client().subscribe("t", "d#ephemeral", 0);
    post(&nsqd, "/topic/create?topic=u%23ephemeral");
    is(r#"[{"name":"t","paused":false,"channels":[{"name":"c","paused":false}]}]"#);
    // A pause is written before it is answered, and so is the end of a topic.
    let now = |topics: &str| {
        let expected = format!(r#"{{"topics":{topics},"version":"1.3.0"}}"#);
        assert_eq!(catalog(folder.path()), expected);
    };
    post(&nsqd, "/channel/pause?topic=t&channel=c");
    now(r#"[{"name":"t","paused":false,"channels":[{"name":"c","paused":true}]}]"#);
    post(&nsqd, "/topic/pause?topic=t");
    now(r#"[{"name":"t","paused":true,"channels":[{"name":"c","paused":true}]}]"#);
    post(&nsqd, "/channel/unpause?topic=t&channel=c");
    post(&nsqd, "/topic/unpause?topic=t");
    now(r#"[{"name":"t","paused":false,"channels":[{"name":"c","paused":false}]}]"#);
    post(&nsqd, "/channel/delete?topic=t&channel=c");
    is(r#"[{"name":"t","paused":false,"channels":null}]"#);
    post(&nsqd, "/topic/delete?topic=t");
    now("null");
    let mode = fs::metadata(folder.path().join("nsqd.dat")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // What was deleted stays deleted.
    let _ = nsqd.kill();
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    assert_eq!(nsqd.stats()["topics"], serde_json::json!([]));
}

#[test]
fn the_catalog_of_another_nsqd_is_taken_over_at_the_first_start() {
    let folder = tempfile::tempdir().unwrap();
    let text = concat!(
        r#"{"topics":[{"channels":[{"name":"c","paused":true},{"name":"d"}],"name":"t","paused":false},"#,
        r#"{"name":"bare","extra":[1,2],"paused":true},"#,
        r#"{"name":"not valid","channels":[]},{"name":"u","channels":[{"name":"also not valid"}]}],"#,
        r#""version":"1.3.0","something":{"else":null}}"#
    );
    fs::write(folder.path().join("nsqd.dat"), text).unwrap();
    let expect = |nsqd: &NsqdProcess| {
        let stats = nsqd.stats();
        let topics = stats["topics"].as_array().unwrap();
        let seen: Vec<_> = topics
            .iter()
            .map(|topic| {
                let channels = topic["channels"].as_array().unwrap().iter();
                let channels: Vec<_> = channels
                    .map(|channel| format!("{} {}", channel["channel_name"], channel["paused"]))
                    .collect();
                format!("{} {} {}", topic["topic_name"], topic["paused"], channels.join(", "))
            })
            .collect();
        let expected = [r#""bare" true "#, r#""t" false "c" true, "d" false"#, r#""u" false "#];
        assert_eq!(seen, expected);
    };
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    expect(&nsqd);
    let log = nsqd.kill();
    assert!(log.contains("skipping creation of invalid topic not valid"), "{log}");
    assert!(log.contains("skipping creation of invalid channel also not valid"), "{log}");
    // By now it is nsqd's own, and a kill changes nothing of it.
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    expect(&nsqd);
    assert_eq!(nsqd.stop().0, Some(0));
}

#[test]
fn a_broken_catalog_is_one_clear_line_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nsqd.dat");
    for text in ["", "{", "[1,2", r#"{"topics":7}"#] {
        fs::write(&path, text).unwrap();
        let ended = run_on(folder.path(), &[]);
        let line = ended.fatal().to_owned();
        let expected =
            format!("failed to load metadata - failed to parse metadata in {} - ", path.display());
        assert!(line.starts_with(&expected), "{line}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    fs::remove_file(&path).unwrap();
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    assert_eq!(nsqd.stop().0, Some(0));
}

#[test]
fn after_a_clean_stop_there_is_nothing_to_report() {
    let folder = tempfile::tempdir().unwrap();
    let nsqd = NsqdProcess::start(folder.path(), &["-max-bytes-per-file=1000"]);
    let mut consumer = nsqd.consumer("t", "c", 3);
    let mut producer = nsqd.client();
    for number in 0..50 {
        producer.publish("t", format!("{number}").as_bytes());
    }
    producer.ok(Command::DeferredPub { topic: "t", delay_ms: 3_600_000, body: b"later" });
    let [finished, requeued, _in_flight] =
        [consumer.message(), consumer.message(), consumer.message()];
    consumer.send(Command::Rdy(0));
    consumer.fin(finished.id);
    consumer.req(requeued.id, 3_600_000);
    consumer.expect_nothing();
    let (code, _) = nsqd.stop();
    assert_eq!(code, Some(0));
    let first = incarnation(folder.path());
    for _ in 0..3 {
        let nsqd = NsqdProcess::start(folder.path(), &[]);
        let channel = nsqd.stats()["topics"][0]["channels"][0].clone();
        assert_eq!((&channel["depth"], &channel["deferred_count"]), (&48.into(), &2.into()));
        let (code, log) = nsqd.stop();
        assert_eq!(code, Some(0), "{log}");
        assert!(!log.contains("WARNING") && !log.contains("ERROR"), "{log}");
        assert_eq!(incarnation(folder.path()), first);
    }
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    let _ = nsqd.kill();
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    assert_ne!(incarnation(folder.path()), first);
    assert_eq!(http(nsqd.http, "GET", "/ping", b"").0, 200);
}

#[test]
fn a_topic_that_was_drained_holds_little_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    let mut consumer = nsqd.consumer("t", "c", 100);
    let mut producer = nsqd.client();
    let bytes = || {
        let files = fs::read_dir(folder.path().join("topics/t.topic")).unwrap();
        files.map(|file| file.unwrap().metadata().map_or(0, |it| it.len())).sum::<u64>()
    };
    for _ in 0..60 {
        producer.publish("t", &[b'x'; 100_000]);
    }
    let held = consumer.message();
    consumer.finish_next(59);
    consumer.expect_nothing();
    assert!(bytes() > 6_000_000, "one message is still needed");
    consumer.fin(held.id);
    eventually(|| bytes() < 100_000);
    producer.publish("t", b"next");
    let next = consumer.message();
    assert_ne!(next.id, held.id);
    let _ = nsqd.kill();
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    let mut consumer = nsqd.consumer("t", "c", 100);
    assert_eq!(consumer.message().id, next.id);
    consumer.expect_nothing();
    let (_, log) = nsqd.stop();
    assert!(!log.contains("WARNING"), "{log}");
}
