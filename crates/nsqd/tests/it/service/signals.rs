//! Signals, apart from those that stop nsqd while it serves.

use std::os::unix::process::ExitStatusExt;

use nsq_protocol::Command;
use rustix::process::Signal;

use super::{Service, SocketClient, certificate, folder, tcp_path};

#[test]
fn sighup_and_signals_without_effect_on_nsq_do_not_disturb_anyone() {
    let folder = folder();
    let mut nsqd = Service::on_sockets(folder.path(), &[]).wait_until_served();
    let mut client = SocketClient::connect(&tcp_path(folder.path()));
    client.ok(Command::Pub { topic: "t", body: b"before" });
    for harmless in
        [Signal::USR1, Signal::USR2, Signal::XFSZ, Signal::XCPU, Signal::ALARM, Signal::VTALARM]
    {
        nsqd.signal(harmless);
    }
    nsqd.signal(Signal::HUP);
    nsqd.wait_for("INFO: SIGHUP: ");
    nsqd.signal(Signal::HUP);
    nsqd.wait_for("INFO: SIGHUP: ");
    client.ok(Command::Pub { topic: "t", body: b"after" });
    nsqd.stop();
}

#[test]
fn sighup_reads_the_certificate_again_and_keeps_the_last_good_one() {
    let folder = folder();
    let tls = certificate(folder.path());
    let args: Vec<_> =
        tls.iter().map(String::as_str).chain(["-https-address=127.0.0.1:0"]).collect();
    let mut nsqd = Service::on_sockets(folder.path(), &args);
    nsqd.wait_for("HTTPS: listening on ");
    nsqd.signal(Signal::HUP);
    nsqd.wait_for("INFO: TLS: now using the certificate in ");
    std::fs::write(folder.path().join("key.pem"), "").unwrap();
    nsqd.signal(Signal::HUP);
    nsqd.wait_for("ERROR: TLS: keeping the certificate in use - ");
    nsqd.stop();
}

/// Returns whether this process ignores a signal, and so makes those that it starts ignore it: a shell without job
/// control starts what it runs in the background like that.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
    ignored & (1 << (signal.as_raw() - 1)) != 0
}

#[test]
fn sigquit_ends_it_at_once() {
    if is_ignored(Signal::QUIT) {
        eprintln!("not tested: SIGQUIT is ignored here");
        return;
    }
    let folder = folder();
    let nsqd = Service::on_sockets(folder.path(), &[]).wait_until_served();
    nsqd.signal(Signal::QUIT);
    let (status, log) = nsqd.ended();
    assert_eq!(status.signal(), Some(Signal::QUIT.as_raw()), "{log}");
    assert!(!log.contains("NSQ: bye"), "{log}");
}

#[test]
fn the_limit_of_open_files_is_reported() {
    let folder = folder();
    let mut nsqd = Service::on_sockets(folder.path(), &[]);
    nsqd.wait_for("INFO: open files: ");
    nsqd.wait_until_served().stop();
}

#[test]
fn a_log_in_json_is_json_from_the_first_line_to_the_last() {
    let folder = folder();
    let nsqd = Service::on_sockets(folder.path(), &["-log-format=json"]).wait_until_served();
    let mut client = SocketClient::connect(&tcp_path(folder.path()));
    client.send(Command::Sub { topic: "t\u{1}\"", channel: "c" });
    assert!(client.receive().unwrap().starts_with(b"E_BAD_TOPIC"));
    let log = nsqd.stop();
    let texts: Vec<_> = log.lines().map(text_of).collect();
    assert!(texts.iter().any(|text| text.starts_with("nsqd v")), "{texts:?}");
    assert_eq!(texts.last().unwrap(), "NSQ: bye");
    // Also the line of a start that fails.
    let args = ["-log-format=json", "-tcp-address=127.0.0.1:65536"];
    let (status, log) = Service::spawn(Service::command(folder.path()).args(args)).ended();
    assert_eq!(status.code(), Some(1));
    let last = text_of(log.lines().last().unwrap());
    assert!(last.ends_with("address 65536: invalid port"), "{last}");
}

/// The text of a line in JSON.
fn text_of(line: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(value["program"], "nsqd", "{line}");
    value["msg"].as_str().unwrap().to_owned()
}
