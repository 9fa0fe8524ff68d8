//! The binary: command line, configuration file, signals and exit codes.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::{UnixDatagram, UnixStream},
    path::Path,
    process::{Child, ChildStderr, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

const FREE_PORTS: [&str; 2] = ["-tcp-address=127.0.0.1:0", "-http-address=127.0.0.1:0"];

fn nsqlookupd(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nsqlookupd"));
    command.args(args);
    command
}

/// Runs nsqlookupd until it exits by itself.
fn run(args: &[&str]) -> Output {
    nsqlookupd(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A running nsqlookupd; killed when a test fails.
struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
    tcp: String,
    http: String,
    /// The log up to the open ports.
    lines: Vec<String>,
}

impl Running {
    fn start(args: &[&str]) -> Self {
        Self::spawn(&mut nsqlookupd(args))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let (mut tcp, mut http, mut lines) = (None, None, Vec::new());
        while tcp.is_none() || http.is_none() {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it listens: {lines:?}");
            let address = |of: &str| {
                line.trim_end()
                    .split_once(&format!("{of}: listening on "))
                    .map(|(_, a)| a.to_owned())
            };
            tcp = tcp.or_else(|| address("TCP"));
            http = http.or_else(|| address("HTTP"));
            lines.push(line.trim_end().to_owned());
        }
        Self { child, log, tcp: tcp.unwrap(), http: http.unwrap(), lines }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its exit. Returns the exit code and the rest of the log.
    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config_file(text: &str) -> (tempfile::NamedTempFile, String) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let arg = format!("-config={}", file.path().display());
    (file, arg)
}

#[test]
fn the_version_is_one_line_on_stdout() {
    for args in [&["-version"][..], &["--version", "-config=/nonexistent"]] {
        let output = run(args);
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        assert!(text.starts_with("nsqlookupd v1.3.0 (built w/") && text.ends_with(")\n"), "{text}");
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    for (args, text) in [
        (&["-nope"][..], "flag provided but not defined: -nope"),
        (&["-tombstone-lifetime=45"], "invalid value \"45\" for flag -tombstone-lifetime"),
        (&["-log-level=warning"], "invalid value \"warning\" for flag -log-level"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2));
        let text_of = stderr(&output);
        assert!(text_of.starts_with(text) && text_of.contains("Usage of nsqlookupd:"), "{text_of}");
    }
    let help = run(&["-h"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(stderr(&help).contains("-inactive-producer-timeout duration"));
}

#[test]
fn a_wrong_configuration_file_is_fatal() {
    for (toml, text) in [
        ("log_level = 'warning'", "FATAL: failed parsing log_level warning"),
        ("tombstone_lifetime = 'xx'", "FATAL: failed to coerce value xx for tombstone_lifetime"),
        ("broadcast_address = 5", "FATAL: failed to coerce value 5 for broadcast_address"),
        ("tcp_address =", "FATAL: failed to load config file /"),
    ] {
        let (_file, config) = config_file(toml);
        let output = run(&[&config, FREE_PORTS[0], FREE_PORTS[1]]);
        assert_eq!(output.status.code(), Some(1), "{toml}");
        let line = stderr(&output);
        assert!(line.starts_with("[nsqlookupd] ") && line.contains(text), "{line}");
    }
    let output = run(&["-config=/nonexistent/nsqlookupd.cfg"]);
    assert_eq!(output.status.code(), Some(1));
    let text = "FATAL: failed to load config file /nonexistent/nsqlookupd.cfg - ";
    assert!(stderr(&output).contains(text));
}

#[test]
fn a_configuration_file_says_what_the_command_line_does_not() {
    let toml = "tcp_address = '127.0.0.1:0'\nhttp_address = '127.0.0.1:0'\nlog_prefix = '<file> '\n\
                broadcast_address = 'from.file'\ninactive_producer_timeout = 1000\nnope = 1\n";
    let (_file, config) = config_file(toml);
    let running = Running::start(&[&config, "-log-prefix=<flag> ", "-verbose"]);
    assert!(running.lines.iter().all(|line| line.starts_with("<flag> ")), "{:?}", running.lines);
    assert!(
        running.lines[0].ends_with("WARNING: config file: nope is not an option, it has no effect")
    );
    let mut stream = TcpStream::connect(&running.tcp).unwrap();
    let body = br#"{"broadcast_address":"a","tcp_port":1,"http_port":2,"version":"v"}"#;
    let mut bytes = b"  V1".to_vec();
    nsq_protocol::v1::Command::Identify(body).encode(&mut bytes);
    stream.write_all(&bytes).unwrap();
    let mut answer = [0; 60];
    stream.read_exact(&mut answer).unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("{\"broadcast_address\":\"from.file\","));
}

#[test]
fn signals_stop_it_cleanly_whoever_is_connected() {
    for signal in [Signal::TERM, Signal::INT] {
        let running = Running::start(&FREE_PORTS);
        // Neither ever sends a complete request.
        let silent = TcpStream::connect(&running.tcp).unwrap();
        let slow = TcpStream::connect(&running.http).unwrap();
        running.signal(signal);
        let (code, rest) = running.end();
        assert_eq!(code, Some(0), "{rest}");
        assert!(rest.contains("TCP: closing") && rest.contains("HTTP: closing"), "{rest}");
        drop((silent, slow));
    }
}

#[test]
fn an_address_in_use_is_fatal() {
    let running = Running::start(&FREE_PORTS);
    let tcp = format!("-tcp-address={}", running.tcp);
    let output = run(&[&tcp, FREE_PORTS[1]]);
    assert_eq!(output.status.code(), Some(1));
    let text =
        format!("FATAL: failed to instantiate nsqlookupd - listen ({}) failed - ", running.tcp);
    assert!(stderr(&output).contains(&text), "{}", stderr(&output));
}

#[test]
fn unix_sockets_serve_like_ports_and_are_removed_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let args = [format!("-tcp-address={}", path("tcp")), format!("-http-address={}", path("http"))];
    let running = Running::start(&[&args[0], &args[1]]);
    assert_eq!((&running.tcp, &running.http), (&path("tcp"), &path("http")));
    let mut nsqd = UnixStream::connect(&running.tcp).unwrap();
    nsqd.write_all(b"  V1PING\n").unwrap();
    let mut response = [0; 6];
    nsqd.read_exact(&mut response).unwrap();
    assert_eq!(&response, b"\0\0\0\x02OK");
    let mut http = UnixStream::connect(&running.http).unwrap();
    http.write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    http.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nOK"), "{answer}");
    running.signal(Signal::TERM);
    let (code, log) = running.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("TCP: new client(@)"), "{log}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_service_manager_is_told_of_its_life_and_hangups_are_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let hear = || {
        let mut text = [0; 256];
        let size = manager.recv(&mut text).unwrap();
        String::from_utf8(text[..size].to_vec()).unwrap()
    };
    let mut command = nsqlookupd(&FREE_PORTS);
    let running = Running::spawn(command.arg("-log-format=text").env("NOTIFY_SOCKET", &path));
    while hear() != "READY=1\nSTATUS=Serving" {}
    running.signal(Signal::USR1);
    running.signal(Signal::HUP);
    assert!(hear().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(hear(), "READY=1\nSTATUS=Serving");
    running.signal(Signal::TERM);
    assert_eq!(hear(), "STOPPING=1\nSTATUS=Stopping");
    assert_eq!(running.end().0, Some(0));
}

/// The resident memory of a process, in kB.
fn resident_kilobytes(child: &Child) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// An nsqd that has registered channels of a topic by its own name.
fn nsqd_with_channels(socket: &Path, name: &str, count: usize) -> UnixStream {
    let mut nsqd = UnixStream::connect(socket).unwrap();
    let body = format!(
        "{{\"broadcast_address\":\"{name}\",\"tcp_port\":1,\"http_port\":2,\"version\":\"1\"}}"
    );
    let size = u32::try_from(body.len()).unwrap().to_be_bytes();
    nsqd.write_all(&[b"  V1IDENTIFY\n", &size[..], body.as_bytes()].concat()).unwrap();
    let mut size = [0; 4];
    nsqd.read_exact(&mut size).unwrap();
    nsqd.read_exact(&mut vec![0; u32::from_be_bytes(size) as usize]).unwrap();
    let lines: String = (0..count).map(|i| format!("REGISTER {name} channel-{i:06}\n")).collect();
    let mut writer = nsqd.try_clone().unwrap();
    let write = std::thread::spawn(move || writer.write_all(lines.as_bytes()).unwrap());
    nsqd.read_exact(&mut vec![0; 6 * count]).unwrap();
    write.join().unwrap();
    nsqd
}

#[test]
fn registrations_take_little_memory_and_leave_it_to_those_that_follow() {
    const COUNT: usize = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let manager = UnixDatagram::bind(path("notify")).unwrap();
    let mut command = nsqlookupd(&["-log-level=error", "-max-orphans=1000"]);
    command.arg(format!("-tcp-address={}", path("tcp").display()));
    command.arg(format!("-http-address={}", path("http").display()));
    command.env("NOTIFY_SOCKET", path("notify")).env("MALLOC_ARENA_MAX", "1");
    let child = Killed(command.spawn().unwrap());
    let mut text = [0; 256];
    while !text.starts_with(b"READY=1") {
        manager.recv(&mut text).unwrap();
    }
    let before = resident_kilobytes(&child.0);
    for round in 0..4 {
        drop(nsqd_with_channels(&path("tcp"), &format!("nsqd-{round}"), COUNT));
    }
    let grown = resident_kilobytes(&child.0) - before;
    // The registrations of one nsqd, and of those before as far as they are not gone yet.
    assert!(grown < 3 * COUNT * 130 / 1024, "{grown} kB for {COUNT} registrations");
}

/// A process that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
