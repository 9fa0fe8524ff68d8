//! nsqd as a process: how it starts, refuses to start, keeps its files and ends.

mod config;
mod flags;
mod folder;
mod log;
mod stop;

use std::{
    fs,
    io::Read,
    net::TcpListener,
    path::Path,
    process::{Child, Command as Process, Stdio},
};

use crate::support::{NsqdProcess, eventually, http};

/// What a process that ends by itself leaves.
pub(crate) struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    /// The only line of the log of a start that failed.
    pub(crate) fn fatal(&self) -> &str {
        assert_eq!(self.code, Some(1), "{}", self.stderr);
        let lines: Vec<_> = self.stderr.lines().filter(|line| line.contains("FATAL: ")).collect();
        let [line] = lines[..] else { panic!("{}", self.stderr) };
        assert!(line.starts_with("[nsqd] "), "{line}");
        assert_eq!(Some(line), self.stderr.lines().last());
        line.split_once("FATAL: ").unwrap().1
    }
}

/// Ends the process if it does not end by itself.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        // It has ended already unless the test has failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs nsqd, which is expected to end by itself.
fn run(args: &[&str]) -> Ended {
    let mut command = Process::new(env!("CARGO_BIN_EXE_nsqd"));
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut nsqd = Guarded(command.spawn().unwrap());
    // What it says fits into a pipe, so that it can be read afterwards.
    eventually(|| nsqd.0.try_wait().unwrap().is_some());
    let (mut stdout, mut stderr) = (String::new(), String::new());
    nsqd.0.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    nsqd.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    Ended { code: nsqd.0.wait().unwrap().code(), stdout, stderr }
}

/// Runs nsqd on a folder and on ports of its own.
pub(crate) fn run_on(folder: &Path, args: &[&str]) -> Ended {
    let all = NsqdProcess::args(folder, args);
    let all: Vec<_> = all.iter().map(|arg| arg.to_str().unwrap()).collect();
    run(&all)
}

#[test]
fn a_wrong_flag_is_named_and_the_usage_follows() {
    for (args, text) in [
        (["-no-such-flag"], "flag provided but not defined: -no-such-flag"),
        (["--data-path"], "flag needs an argument: -data-path"),
        (["-sync-timeout=soon"], "invalid value \"soon\" for flag -sync-timeout: parse error"),
        (["-mem-queue-size=many"], "invalid value \"many\" for flag -mem-queue-size: parse error"),
    ] {
        let ended = run(&args);
        assert_eq!(ended.code, Some(2), "{args:?}");
        let mut lines = ended.stderr.lines();
        assert_eq!(lines.next(), Some(text));
        assert_eq!(lines.next(), Some("Usage of nsqd:"));
        assert!(ended.stderr.contains("\n  -durability string\n"), "{}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for flag in ["-h", "-help", "--help"] {
        let ended = run(&[flag]);
        assert_eq!(ended.code, Some(0), "{flag}");
        assert!(ended.stderr.starts_with("Usage of nsqd:\n"), "{}", ended.stderr);
    }
    for flag in ["-version", "--version", "-version=true"] {
        let ended = run(&[flag]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{flag}");
        assert_eq!(ended.stdout, format!("{}\n", nsqd::version_line()));
    }
}

#[test]
fn a_value_out_of_range_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    for (arg, reason) in [
        ("-max-deflate-level=0", "--max-deflate-level must be [1,9]"),
        ("-node-id=1024", "--node-id must be [0,1024)"),
        ("-durability=tape", "--durability must be memory, log or fsync, not \"tape\""),
    ] {
        let ended = run_on(folder.path(), &[arg]);
        assert_eq!(ended.fatal(), format!("failed to instantiate nsqd - {reason}"));
    }
}

#[test]
fn a_folder_that_is_not_there_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let ended = run_on(&missing, &[]);
    let expected = format!(
        "failed to instantiate nsqd - failed to lock data-path: open {}: no such file or directory",
        missing.display()
    );
    assert_eq!(ended.fatal(), expected);
}

#[test]
fn a_folder_in_use_is_one_clear_line_and_its_user_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    let ended = run_on(folder.path(), &[]);
    let expected = format!(
        "failed to instantiate nsqd - failed to lock data-path: cannot flock directory {} - resource temporarily unavailable (possibly in use by another instance of nsqd)",
        folder.path().display()
    );
    assert_eq!(ended.fatal(), expected);
    nsqd.client().publish("t", b"x");
    assert_eq!(nsqd.stop().0, Some(0));
}

#[test]
fn a_port_in_use_is_one_clear_line_and_leaves_the_folder_as_it_was() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    nsqd.client().publish("t", b"x");
    assert_eq!(nsqd.stop().0, Some(0));
    let before = fs::read(folder.path().join("node")).unwrap();
    for flag in ["-tcp-address", "-http-address"] {
        let ended = run_on(folder.path(), &[flag, &address]);
        let expected = format!("failed to instantiate nsqd - listen ({address}) failed - ");
        assert!(ended.fatal().starts_with(&expected), "{}", ended.stderr);
    }
    // The next start has nothing to recover from.
    assert_eq!(fs::read(folder.path().join("node")).unwrap(), before);
}

#[test]
fn the_limit_of_open_files_is_raised_as_far_as_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Process::new("sh");
    command.args(["-c", r#"ulimit -Sn 40 && ulimit -Hn 300 && exec "$0" "$@""#]);
    command.arg(env!("CARGO_BIN_EXE_nsqd")).args(NsqdProcess::args(folder.path(), &[]));
    let nsqd = NsqdProcess::spawn(&mut command);
    let clients: Vec<_> = (0..100).map(|_| nsqd.client()).collect();
    for mut client in clients {
        client.publish("t", b"x");
    }
}

#[test]
fn every_level_of_durability_survives_what_it_promises() {
    for (level, killed) in [("memory", false), ("log", true), ("fsync", true)] {
        let folder = tempfile::tempdir().unwrap();
        let durability = format!("-durability={level}");
        // Nothing is flushed but what somebody waits for.
        let args = [durability.as_str(), "-sync-timeout=1h", "-mem-queue-size=10"];
        let nsqd = NsqdProcess::start(folder.path(), &args);
        drop(nsqd.consumer("t", "c", 0));
        std::thread::scope(|scope| {
            for publisher in 0..8 {
                let mut client = nsqd.client();
                let address = nsqd.http;
                scope.spawn(move || {
                    for number in 0..25 {
                        client.publish("t", format!("{publisher} {number}").as_bytes());
                    }
                    let last = http(address, "POST", "/pub?topic=t", b"http");
                    assert_eq!(last, (200, b"OK".to_vec()));
                });
            }
        });
        if killed {
            let _ = nsqd.kill();
        } else {
            assert_eq!(nsqd.stop().0, Some(0));
        }
        let nsqd = NsqdProcess::start(folder.path(), &args);
        let mut consumer = nsqd.consumer("t", "c", 1000);
        let mut bodies = consumer.finish_next(8 * 26);
        bodies.sort();
        bodies.dedup();
        assert_eq!(bodies.len(), 8 * 25 + 1, "{level}");
        consumer.expect_nothing();
    }
}

#[test]
fn hundreds_of_topics_come_and_go_without_a_trace() {
    const COUNT: usize = 300;
    let folder = tempfile::tempdir().unwrap();
    let nsqd = NsqdProcess::start(folder.path(), &["-sync-timeout=20ms"]);
    let fd = format!("/proc/{}/fd", nsqd.child.id());
    let files = || fs::read_dir(&fd).unwrap().count();
    let before = files();
    let mut producer = nsqd.client();
    for number in 0..COUNT {
        let topic = format!("topic{number}");
        let mut consumer = nsqd.consumer(&topic, "c", 10);
        producer.publish(&topic, b"1");
        producer.publish(&topic, b"2");
        let [first, second] = [consumer.message(), consumer.message()];
        consumer.fin(first.id);
        consumer.req(second.id, 0);
    }
    // Idle topics hold no files open.
    eventually(|| files() < before + 20);
    for number in 0..COUNT {
        post(&nsqd, &format!("/topic/delete?topic=topic{number}"));
    }
    assert_eq!(fs::read_dir(folder.path().join("topics")).unwrap().count(), 0);
    let catalog = fs::read_to_string(folder.path().join("nsqd.dat")).unwrap();
    assert_eq!(catalog, r#"{"topics":null,"version":"1.3.0"}"#);
    assert_eq!(http(nsqd.http, "GET", "/ping", b""), (200, b"OK".to_vec()));
    producer.publish("again", b"x");
    let (code, log) = nsqd.stop();
    assert_eq!(code, Some(0));
    let wrong: Vec<_> = log.lines().filter(|line| line.contains("ERROR: TOPIC")).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

pub(crate) fn post(nsqd: &NsqdProcess, target: &str) {
    assert_eq!(http(nsqd.http, "POST", target, b"").0, 200, "{target}");
}
