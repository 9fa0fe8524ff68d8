//! A log that is not read.

use std::process::Command as Process;

use nsq_protocol::Command;
use rustix::process::Signal;

use crate::{
    log::{forged_fins, reported},
    support::{NsqdProcess, eventually, http, metric},
};

/// More lines than the pipe and the queue hold.
const FORGED: usize = 30_000;
const DROPPED: &str = "nsqd_log_lines_dropped_total";

/// An nsqd whose stderr is full, and that drops further lines.
fn stuck(command: &mut Process) -> (NsqdProcess, impl Iterator<Item = String> + use<>) {
    let (nsqd, _, rest) = NsqdProcess::spawn_unread(command);
    assert_eq!(metric(nsqd.http, DROPPED), 0);
    let mut client = nsqd.client();
    forged_fins(&mut client, FORGED);
    client.end_stream();
    eventually(|| metric(nsqd.http, DROPPED) > 0);
    (nsqd, rest.map_while(Result::ok))
}

fn command(folder: &std::path::Path) -> Process {
    let mut command = Process::new(env!("CARGO_BIN_EXE_nsqd"));
    command.args(NsqdProcess::args(folder, &["-log-rate=0"]));
    command
}

#[test]
fn a_stderr_that_is_not_read_holds_up_no_client_and_lost_lines_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let (nsqd, mut log) = stuck(&mut command(folder.path()));
    let (mut producer, mut consumer) = (nsqd.client(), nsqd.consumer("t", "c", 1));
    for _ in 0..100 {
        producer.publish("t", b"x");
        let message = consumer.message();
        consumer.fin(message.id);
    }
    assert_eq!(http(nsqd.http, "GET", "/ping", b""), (200, b"OK".to_vec()));

    let dropped = metric(nsqd.http, DROPPED);
    let is_report = |line: &String| line.contains(" lines of the log dropped: ");
    let mut before = 0;
    let report = log.by_ref().inspect(|_| before += 1).find(is_report).unwrap();
    assert!(report.starts_with("[nsqd] ") && report.contains(" WARNING: "), "{report}");
    let told = reported(&report, " lines of the log dropped");
    assert!(told >= dropped, "{told} {dropped}");
    assert_eq!(metric(nsqd.http, DROPPED), told);
    assert!(before > 1000, "{before} lines came before the report");
    // The log goes on.
    producer.send(Command::Touch(nsq_protocol::MessageId(*b"0123456789abcdef")));
    assert!(producer.error().starts_with("E_INVALID"));
    assert!(log.any(|line| line.contains("cannot TOUCH in current state")));
}

#[test]
fn a_stderr_that_is_not_read_does_not_hold_up_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (mut nsqd, _log) = stuck(&mut command(folder.path()));
    nsqd.signal(Signal::TERM);
    eventually(|| nsqd.child.try_wait().unwrap().is_some());
    assert_eq!(nsqd.child.wait().unwrap().code(), Some(0));
}
