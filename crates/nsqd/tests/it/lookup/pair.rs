//! nsqd and nsqlookupd in one runtime with a paused clock: time passes only while both are idle.

use std::{net::SocketAddr, time::Duration};

use nsq_daemon::log::{Capture, Level, Logger};
use nsqd::{Nsqd, Options};
use nsqlookupd::Nsqlookupd;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep},
};

/// Only turns a hang into a failure; measured by the paused clock.
const PATIENCE: Duration = Duration::from_secs(300);

/// An nsqd that announces itself to an nsqlookupd. Both end with the runtime.
pub(super) struct Pair {
    nsqd: SocketAddr,
    lookupd: SocketAddr,
    /// The log of nsqlookupd.
    pub(super) log: Capture,
    _folder: TempDir,
}

impl Pair {
    /// Starts both and waits until nsqd has identified itself.
    pub(super) async fn start() -> Self {
        let log = Capture::new();
        let options = nsqlookupd::Options {
            tcp_address: "127.0.0.1:0".to_owned(),
            http_address: "127.0.0.1:0".to_owned(),
            broadcast_address: "127.0.0.1".to_owned(),
            ..nsqlookupd::Options::default()
        };
        let logger = Logger::with_sink("", Level::Debug, log.clone());
        let nsqlookupd = Nsqlookupd::start(options, logger).await.unwrap();
        let (nsqd, folder) = start_nsqd(nsqlookupd.tcp_address().unwrap()).await;
        let pair = Self { nsqd, lookupd: nsqlookupd.http_address().unwrap(), log, _folder: folder };
        tokio::spawn(nsqlookupd.run(std::future::pending()));
        pair.logged("IDENTIFY", 1).await;
        pair
    }

    /// The address that identifies nsqd in a tombstone.
    pub(super) fn node(&self) -> SocketAddr {
        self.nsqd
    }

    pub(super) async fn post_to_nsqd(&self, target: &str) {
        assert_eq!(ask(self.nsqd, "POST", target).await.0, 200, "{target}");
    }

    pub(super) async fn post_to_lookupd(&self, target: &str) {
        assert_eq!(ask(self.lookupd, "POST", target).await.0, 200, "{target}");
    }

    /// Returns `true` if a consumer of the topic would find nsqd.
    pub(super) async fn is_found(&self, topic: &str) -> bool {
        let (_, body) = ask(self.lookupd, "GET", &format!("/lookup?topic={topic}")).await;
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
        answer["producers"].as_array().is_some_and(|producers| !producers.is_empty())
    }

    /// Waits until a consumer of the topic finds nsqd.
    pub(super) async fn found(&self, topic: &str) {
        let mut polls = Polls::start();
        while !self.is_found(topic).await {
            assert!(polls.next().await, "{topic} is never found");
        }
    }

    /// Waits until nsqlookupd has logged a number of lines with this text.
    pub(super) async fn logged(&self, text: &str, count: usize) {
        let mut polls = Polls::start();
        while self.log.lines().iter().filter(|line| line.contains(text)).count() < count {
            assert!(polls.next().await, "{text} in {:#?}", self.log.lines());
        }
    }
}

/// Starts an nsqd that announces itself to an nsqlookupd. Returns its HTTP address and its data folder.
pub(super) async fn start_nsqd(lookupd: SocketAddr) -> (SocketAddr, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        data_path: folder.path().to_owned(),
        tcp_address: "127.0.0.1:0".to_owned(),
        http_address: "127.0.0.1:0".to_owned(),
        broadcast_address: "127.0.0.1".to_owned(),
        lookupd_tcp_addresses: vec![lookupd.to_string()],
        ..Options::default()
    };
    let nsqd = Nsqd::start(options, Logger::discard()).await.unwrap();
    let http = nsqd.http_address().unwrap();
    tokio::spawn(nsqd.run(std::future::pending()));
    (http, folder)
}

/// Paces polling: less often the longer it takes.
struct Polls {
    start: Instant,
}

impl Polls {
    fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Waits before the next poll. Returns `false` when it has taken too long.
    async fn next(&mut self) -> bool {
        sleep(Duration::from_millis(1) + self.start.elapsed() / 10).await;
        self.start.elapsed() < PATIENCE
    }
}

pub(super) async fn ask(address: SocketAddr, method: &str, target: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}
