//! A disk that does not take what nsqd writes, and then does again.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command as Process, Stdio},
};

use nsq_protocol::Command;

use crate::support::{NsqdProcess, Received, eventually, http};

/// Mounts a small disk over a folder, for itself alone, and becomes what follows.
const ON_SMALL_DISK: &str = r#"mount -t tmpfs -o size=2m none "$0" && exec "$@""#;

fn unshare() -> Process {
    let mut command = Process::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", ON_SMALL_DISK]);
    command
}

/// nsqd on a disk of its own, and where to find that disk; `None` where nothing can be mounted.
#[expect(clippy::print_stderr, reason = "a test that proves nothing has to say so")]
fn start_on_small_disk(folder: &Path) -> Option<(NsqdProcess, PathBuf)> {
    let tried = unshare().arg(folder).arg("true").stderr(Stdio::piped()).output();
    let refusal = match &tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Some(error.to_string()),
    };
    if let Some(refusal) = refusal {
        let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!in_ci, "cannot mount a small disk: {refusal}");
        eprintln!("SKIPPED: cannot mount a small disk: {refusal}");
        return None;
    }
    let mut command = unshare();
    command.arg(folder).arg(env!("CARGO_BIN_EXE_nsqd"));
    command.args(NsqdProcess::args(folder, &["-max-bytes-per-file=100000"]));
    let nsqd = NsqdProcess::spawn(&mut command);
    let root = PathBuf::from(format!("/proc/{}/root", nsqd.child.id()));
    let disk = root.join(folder.strip_prefix("/").unwrap());
    Some((nsqd, disk))
}

/// Takes all the space there is.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    while file.write_all(&[0; 1 << 12]).is_ok() {}
}

fn ping(nsqd: &NsqdProcess) -> (u16, String) {
    let (status, body) = http(nsqd.http, "GET", "/ping", b"");
    (status, String::from_utf8(body).unwrap())
}

#[test]
fn a_full_disk_refuses_publishes_and_nothing_else_until_there_is_space() {
    let folder = tempfile::tempdir().unwrap();
    let Some((nsqd, disk)) = start_on_small_disk(folder.path()) else { return };
    let mut consumer = nsqd.consumer("t", "c", 10);
    let body = vec![b'x'; 20_000];
    for _ in 0..20 {
        nsqd.client().publish("t", &body);
    }
    fill(&disk.join("filler"));

    // What still fits between two pages is taken.
    let refusal = loop {
        let mut producer = nsqd.client();
        producer.send(Command::Pub { topic: "t", body: &body });
        match producer.receive() {
            Received::Response(_) => {}
            Received::Error(text) => {
                assert_eq!(producer.receive(), Received::Closed);
                break text;
            }
            other => panic!("{other:?}"),
        }
    };
    assert!(refusal.starts_with("E_PUB_FAILED PUB failed "), "{refusal}");
    assert_eq!(http(nsqd.http, "POST", "/pub?topic=t", &body).0, 503);
    let mpub = [body.as_slice(), body.as_slice()].join(&b'\n');
    assert_eq!(http(nsqd.http, "POST", "/mpub?topic=t", &mpub).0, 503);
    // Before the first retry and after it.
    let health = || {
        let (status, health) = ping(&nsqd);
        assert_eq!(status, 500, "{health}");
        assert!(health.starts_with("NOK - ") && health.contains("No space left"), "{health}");
        health
    };
    eventually(|| health().contains("on the file system of the data path"));

    // Consuming goes on, and so does requeueing.
    let again = consumer.message();
    consumer.req(again.id, 0);
    eventually(|| {
        let message = consumer.message();
        consumer.fin(message.id);
        (message.id, message.attempts) == (again.id, 2)
    });
    fs::remove_file(disk.join("filler")).unwrap();

    eventually(|| ping(&nsqd) == (200, "OK".to_owned()));
    nsqd.client().publish("t", b"last");
    eventually(|| consumer.finish_next(1)[0] == b"last");
    let (_, log) = nsqd.stop();
    assert!(log.contains("TOPIC(t): writing works again"), "{log}");
    let lines = log.lines().filter(|line| line.contains("ERROR: TOPIC(t)")).count();
    assert!(lines < 10, "one line for each beginning, not for each try:\n{log}");
}

#[test]
fn finishing_everything_frees_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let Some((nsqd, disk)) = start_on_small_disk(folder.path()) else { return };
    let mut consumer = nsqd.consumer("t", "c", 0);
    let body = vec![b'x'; 10_000];
    for _ in 0..100 {
        nsqd.client().publish("t", &body);
    }
    fill(&disk.join("filler"));
    consumer.send(Command::Rdy(100));
    consumer.finish_next(100);
    // Nobody frees anything but nsqd.
    eventually(|| http(nsqd.http, "POST", "/pub?topic=t", &body).0 == 200);
    eventually(|| ping(&nsqd).0 == 200);
    assert_eq!(consumer.message().body, body);
}

#[test]
fn a_topic_that_could_not_write_goes_on_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let nsqd = NsqdProcess::start(folder.path(), &["-sync-timeout=20ms"]);
    let mut consumer = nsqd.consumer("t", "c", 1);
    let mut producer = nsqd.client();
    producer.publish_all("t", &["1", "2", "3"]);
    nsqd.client().publish("other", b"x");
    let topic = folder.path().join("topics/t.topic");
    // An idle topic holds no file, so that the next write has to open one.
    let open_files = || {
        let files = fs::read_dir(format!("/proc/{}/fd", nsqd.child.id())).unwrap();
        let targets = files.filter_map(|file| fs::read_link(file.unwrap().path()).ok());
        targets.filter(|target| target.starts_with(&topic)).count()
    };
    eventually(|| open_files() == 0);
    let aside = folder.path().join("aside");
    fs::rename(&topic, &aside).unwrap();
    producer.send(Command::Pub { topic: "t", body: b"refused" });
    assert!(producer.error().starts_with("E_PUB_FAILED"));
    assert_eq!(ping(&nsqd).0, 500);
    // The others go on, and so do the consumers.
    nsqd.client().publish("other", b"y");
    assert_eq!(consumer.finish_next(2), [b"1", b"2"]);

    fs::rename(&aside, &topic).unwrap();
    eventually(|| ping(&nsqd).0 == 200);
    nsqd.client().publish("t", b"4");
    let _ = nsqd.kill();
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    let mut consumer = nsqd.consumer("t", "c", 10);
    assert_eq!(consumer.finish_next(2), [b"3", b"4"]);
    consumer.expect_nothing();
}
