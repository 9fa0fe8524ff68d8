//! The first thing a newcomer does: start everything with one command, and see messages go through.
#![expect(clippy::unwrap_used, reason = "a test helper that fails fails the test")]

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

/// `nsq up` in a folder of its own, stopped when dropped.
struct Up {
    child: Child,
    greeting: Vec<String>,
}

impl Up {
    fn start(folder: &Path) -> Self {
        let mut child = nsq(folder)
            .args(["up", "-tcp-address=127.0.0.1:0", "-http-address", "127.0.0.1:0"])
            .args(["-nsqlookupd-tcp-address=127.0.0.1:0", "-nsqlookupd-http-address=127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut greeting = Vec::new();
        for line in lines {
            let is_last = line.starts_with("stop with");
            greeting.push(line);
            if is_last {
                break;
            }
        }
        Self { child, greeting }
    }

    fn address(&self) -> &str {
        let line = self.greeting.first().expect("nsq up greets");
        line.split_whitespace().nth(3).unwrap()
    }

    fn interrupt(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Already gone when the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn nsq(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nsq"));
    command.current_dir(folder);
    command
}

fn publish(folder: &Path, address: &str, lines: &[u8]) -> Output {
    let mut child = nsq(folder)
        .args(["pub", "greetings", "-nsqd-tcp-address", address])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn one_command_starts_everything_and_the_lines_of_a_file_arrive() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path());
    assert!(
        up.greeting.iter().any(|line| line.starts_with("a message went through in ")),
        "{:?}",
        up.greeting
    );
    let file = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let published = publish(folder.path(), up.address(), &file);
    assert!(published.status.success(), "{published:?}");
    let lines: Vec<_> = file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let count = lines.len().to_string();
    let tail = nsq(folder.path())
        .args(["tail", "greetings", "-nsqd-tcp-address", up.address(), "-n", &count])
        .output()
        .unwrap();
    assert!(tail.status.success(), "{tail:?}");
    let mut seen: Vec<_> =
        tail.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let mut expected = lines;
    seen.sort_unstable();
    expected.sort_unstable();
    assert_eq!(seen, expected);
    assert_eq!(up.interrupt(), Some(0));
}

#[test]
fn the_data_is_where_it_was_left() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path());
    assert!(publish(folder.path(), up.address(), b"kept").status.success());
    assert_eq!(up.interrupt(), Some(0));
    assert!(folder.path().join("nsq-data").is_dir());
    let up = Up::start(folder.path());
    let tail = nsq(folder.path())
        .args(["tail", "greetings", "-nsqd-tcp-address", up.address(), "-n", "1"])
        .output()
        .unwrap();
    assert_eq!(tail.stdout, b"kept\n");
}

#[test]
fn a_wrong_command_line_is_told_in_one_line_with_the_usage() {
    let folder = tempfile::tempdir().unwrap();
    for (args, what) in [
        (&[][..], "nsq: a command is missing"),
        (&["down"], "nsq: unknown command \"down\""),
        (&["pub"], "nsq: a topic is missing"),
        (&["tail", "no topic"], "nsq: \"no topic\" is no valid topic name"),
    ] {
        let output = nsq(folder.path()).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(stderr.lines().next(), Some(what));
        assert!(stderr.contains("Usage: nsq COMMAND"));
    }
}
