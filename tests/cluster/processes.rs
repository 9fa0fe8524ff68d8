//! The processes of the cluster and the clients to talk to them.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::hosts::Host;

const NSQ: &str = env!("CARGO_BIN_EXE_nsq");

/// Only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that is killed on drop. Its output is collected.
pub(crate) struct Running {
    child: Child,
    pub(crate) out: Lines,
    pub(crate) log: Lines,
}

/// Lines of output so far.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn collect(source: impl Read + Send + 'static) -> (Self, JoinHandle<()>) {
        let lines = Self::default();
        let collected = lines.clone();
        let thread = std::thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                collected.0.lock().unwrap().push(line);
            }
        });
        (lines, thread)
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// The number of lines that contain `text`.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }
}

impl Running {
    pub(crate) fn start(host: &Host, args: &[&str]) -> Self {
        let mut child = host
            .command(NSQ)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (out, _) = Lines::collect(child.stdout.take().unwrap());
        let (log, _) = Lines::collect(child.stderr.take().unwrap());
        Self { child, out, log }
    }

    /// An nsqlookupd on its usual ports.
    pub(crate) fn nsqlookupd(host: &Host) -> Self {
        let running = Self::start(host, &["nsqlookupd", "-broadcast-address", &host.address]);
        wait_for("nsqlookupd to answer", || get(&host.port(4161), "/ping").is_ok());
        running
    }

    /// An nsqd on its usual ports, with its data in `folder`.
    pub(crate) fn nsqd(host: &Host, folder: &Path, lookupds: &[Host]) -> Self {
        let folder = folder.display().to_string();
        let lookupds: Vec<_> = lookupds.iter().map(|lookupd| lookupd.port(4160)).collect();
        let mut args = vec!["nsqd", "-broadcast-address", &host.address, "-data-path", &folder];
        for lookupd in &lookupds {
            args.extend(["-lookupd-tcp-address", lookupd]);
        }
        let running = Self::start(host, &args);
        wait_for("nsqd to answer", || get(&host.port(4151), "/ping").is_ok());
        running
    }

    /// A consumer that prints its messages.
    pub(crate) fn consumer(host: &Host, topic: &str, channel: &str, lookupds: &[Host]) -> Self {
        let lookupds: Vec<_> = lookupds.iter().map(|lookupd| lookupd.port(4161)).collect();
        let mut args = vec!["tail", topic, "-channel", channel, "-max-in-flight", "90"];
        args.extend([
            "-consumer-opt=lookupd_poll_interval,200ms",
            "-consumer-opt=lookupd_poll_timeout,1s",
        ]);
        for lookupd in &lookupds {
            args.extend(["-lookupd-http-address", lookupd]);
        }
        Self::start(host, &args)
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM and returns the exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails when the test has ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Publishes lines from `host` to one nsqd. Fails with what the publisher said if not all were acknowledged.
pub(crate) fn publish(
    host: &Host,
    nsqd: &Host,
    topic: &str,
    lines: &[String],
) -> Result<(), String> {
    let mut child = host
        .command(NSQ)
        .args(["pub", topic, "-nsqd-tcp-address", &nsqd.port(4150)])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The publisher may exit early when its nsqd is gone.
    let _ = child.stdin.take().unwrap().write_all(lines.join("\n").as_bytes());
    let ended = child.wait_with_output().unwrap();
    if ended.status.success() { Ok(()) } else { Err(String::from_utf8(ended.stderr).unwrap()) }
}

/// `count` distinct lines.
pub(crate) fn lines(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

/// The body of a 200 response.
pub(crate) fn get(address: &str, target: &str) -> Result<String, String> {
    request(address, "GET", target)
}

pub(crate) fn post(address: &str, target: &str) {
    request(address, "POST", target).unwrap();
}

fn request(address: &str, method: &str, target: &str) -> Result<String, String> {
    let address = address.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))
        .map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(answer),
    }
}

/// The RDY counts of the consumers of a channel on an nsqd, by their address without the port.
pub(crate) fn ready_counts(nsqd: &Host, topic: &str, channel: &str) -> BTreeMap<String, u64> {
    let target = format!("/stats?format=json&topic={topic}&channel={channel}");
    let Ok(body) = get(&nsqd.port(4151), &target) else { return BTreeMap::new() };
    let stats: serde_json::Value = serde_json::from_str(&body).unwrap();
    let clients =
        stats["topics"][0]["channels"][0]["clients"].as_array().cloned().unwrap_or_default();
    let count = |client: &serde_json::Value| {
        let remote = client["remote_address"].as_str()?.rsplit_once(':')?.0.to_owned();
        Some((remote, client["ready_count"].as_u64()?))
    };
    clients.iter().filter_map(count).collect()
}

/// Polls until `happened` returns `true`.
///
/// # Panics
/// When it takes longer than [`PATIENCE`].
#[expect(clippy::disallowed_methods, reason = "only to give up on what hangs")]
pub(crate) fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let started = Instant::now();
    while !happened() {
        assert!(started.elapsed() < PATIENCE, "waited too long for {what}");
        // Several processes share the machine with this loop.
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
