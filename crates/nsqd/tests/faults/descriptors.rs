//! Few descriptors for many topics.

use std::process::Command as Process;

use crate::support::{NsqdProcess, http};

const TOPICS: usize = 1000;

/// Bounds the descriptors, also of what follows.
const WITH_FEW_DESCRIPTORS: &str = r#"ulimit -n 128 && exec "$0" "$@""#;

fn start(folder: &std::path::Path) -> NsqdProcess {
    let mut command = Process::new("sh");
    command.args(["-c", WITH_FEW_DESCRIPTORS, env!("CARGO_BIN_EXE_nsqd")]);
    NsqdProcess::spawn(command.args(NsqdProcess::args(folder, &[])))
}

#[test]
fn a_thousand_topics_share_a_hundred_descriptors_with_their_clients() {
    let folder = tempfile::tempdir().unwrap();
    let topics: Vec<_> = (0..TOPICS).map(|number| format!("t{number}")).collect();
    let nsqd = start(folder.path());
    let mut clients: Vec<_> = (0..20).map(|_| nsqd.client()).collect();
    for round in 0..2_u8 {
        for (topic, client) in topics.iter().zip((0..20).cycle()) {
            clients[client].publish(topic, &[round]);
        }
    }
    assert_eq!(http(nsqd.http, "GET", "/ping", b"").0, 200);
    let log = nsqd.kill();
    assert!(!log.contains("Too many open files"), "{log}");

    let nsqd = start(folder.path());
    for topic in topics.iter().step_by(20) {
        let mut consumer = nsqd.consumer(topic, "c", 2);
        assert_eq!(consumer.finish_next(2), [[0], [1]]);
        consumer.settle();
    }
    let (code, log) = nsqd.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("Too many open files"), "{log}");
}
