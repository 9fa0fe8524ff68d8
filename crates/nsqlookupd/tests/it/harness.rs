//! An nsqlookupd on free ports, nsqd's end of a connection, and an HTTP client that sends requests verbatim.

use std::{net::SocketAddr, time::Duration};

use nsq_daemon::log::{Capture, Level, Logger};
use nsq_protocol::{
    MAGIC_V1,
    v1::{self, Command},
};
use nsqlookupd::{Nsqlookupd, Options, RunError};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

/// Only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// Awaits what must happen soon.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it happens in time")
}

pub(crate) struct TestLookupd {
    pub(crate) tcp: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) log: Capture,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), RunError>>,
}

impl TestLookupd {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options {
            tcp_address: "127.0.0.1:0".to_owned(),
            http_address: "127.0.0.1:0".to_owned(),
            broadcast_address: "lookup.example".to_owned(),
            ..Options::default()
        };
        change(&mut options);
        let log = Capture::new();
        let logger = Logger::with_sink("", Level::Debug, log.clone());
        let nsqlookupd = Nsqlookupd::start(options, logger).await.unwrap();
        let (tcp, http) = (nsqlookupd.tcp_address().unwrap(), nsqlookupd.http_address().unwrap());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(nsqlookupd.run(async {
            let _ = stopped.await;
        }));
        Self { tcp, http, log, stop, running }
    }

    /// Stops it and waits until all connections are closed.
    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        soon(self.running).await.unwrap().unwrap();
    }

    /// A connection that has sent nothing.
    pub(crate) async fn connect(&self) -> Conn {
        Conn { stream: TcpStream::connect(self.tcp).await.unwrap() }
    }

    /// A connection that has sent the magic.
    pub(crate) async fn client(&self) -> Conn {
        let mut conn = self.connect().await;
        conn.send(MAGIC_V1).await;
        conn
    }

    /// An nsqd that has identified itself by this address.
    pub(crate) async fn nsqd(&self, address: &str) -> Conn {
        let mut conn = self.client().await;
        let answer = conn.command(Command::Identify(identity(address).as_bytes())).await;
        assert!(answer.starts_with('{'), "{answer}");
        conn
    }

    /// Sends a request without a body.
    pub(crate) async fn ask(&self, method: &str, path: &str) -> Answer {
        self.send(&format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
            .await
    }

    /// Sends a request verbatim.
    pub(crate) async fn send(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.http).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        soon(stream.read_to_end(&mut bytes)).await.unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer { head: head.to_owned(), body: body.to_owned() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path).await
    }

    pub(crate) async fn post(&self, path: &str) -> Answer {
        self.ask("POST", path).await
    }

    /// The answer to a GET that succeeds.
    pub(crate) async fn json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), 200, "{path}: {}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }

    /// The broadcast addresses that a lookup shows.
    pub(crate) async fn producers(&self, topic: &str) -> Vec<String> {
        let lookup = self.json(&format!("/lookup?topic={topic}")).await;
        let producers = lookup["producers"].as_array().unwrap();
        producers.iter().map(|peer| peer["broadcast_address"].as_str().unwrap().into()).collect()
    }

    /// Polls until the answer is `body`.
    pub(crate) async fn until(&self, path: &str, body: &str) {
        let wait = async {
            while self.get(path).await.body != body {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{path} becomes {body}"));
    }

    /// The figure of a metric, with its labels.
    pub(crate) async fn figure(&self, name: &str) -> u64 {
        let body = self.get("/metrics").await.body;
        let mut lines = body.lines().filter_map(|line| line.rsplit_once(' '));
        let (_, value) = lines.find(|(figure, _)| *figure == name).unwrap();
        value.parse().unwrap()
    }

    /// How often a limit was reached.
    pub(crate) async fn reached(&self, limit: &str) -> u64 {
        self.figure(&format!("nsqlookupd_limit_reached_total{{limit=\"{limit}\"}}")).await
    }

    /// Waits for a log line, given from its level on.
    pub(crate) async fn logged(&self, line: &str) {
        let wait = async {
            while !self.log.texts().iter().any(|text| text == line) {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("{line:?} is among {:#?}", self.log.texts()));
    }
}

/// The body of an IDENTIFY.
pub(crate) fn identity(address: &str) -> String {
    format!(
        "{{\"broadcast_address\":\"{address}\",\"hostname\":\"h\",\"http_port\":4151,\"tcp_port\":4150,\
         \"topology_region\":\"r\",\"topology_zone\":\"z\",\"version\":\"1.3.0\"}}"
    )
}

pub(crate) struct Conn {
    pub(crate) stream: TcpStream,
}

impl Conn {
    pub(crate) fn address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next response.
    pub(crate) async fn response(&mut self) -> String {
        let read = async {
            let size = self.stream.read_u32().await.unwrap();
            let mut data = vec![0; size as usize];
            self.stream.read_exact(&mut data).await.unwrap();
            String::from_utf8(data).unwrap()
        };
        soon(read).await
    }

    /// The response to a command.
    pub(crate) async fn command(&mut self, command: Command<'_>) -> String {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        self.send(bytes).await;
        self.response().await
    }

    pub(crate) async fn register(&mut self, topic: &str, channel: Option<&str>) {
        assert_eq!(self.command(Command::Register { topic, channel }).await, "OK");
    }

    pub(crate) async fn unregister(&mut self, topic: &str, channel: Option<&str>) {
        assert_eq!(self.command(Command::Unregister { topic, channel }).await, "OK");
    }

    /// Sends many commands at once. All are responded to with OK.
    pub(crate) async fn all_ok(&mut self, commands: &[Command<'_>]) {
        let mut bytes = Vec::new();
        for command in commands {
            command.encode(&mut bytes);
        }
        let (mut reader, mut writer) = self.stream.split();
        let responses = async {
            let mut all = vec![0; 6 * commands.len()];
            reader.read_exact(&mut all).await.unwrap();
            assert!(all.chunks(6).all(|response| response == b"\0\0\0\x02OK"));
        };
        let write = async { writer.write_all(&bytes).await.unwrap() };
        soon(async { tokio::join!(responses, write) }).await;
    }

    /// Registers for topics, each with a channel or without one.
    pub(crate) async fn register_all(&mut self, names: &[(String, Option<String>)]) {
        let commands: Vec<_> = names
            .iter()
            .map(|(topic, channel)| Command::Register { topic, channel: channel.as_deref() })
            .collect();
        self.all_ok(&commands).await;
    }

    pub(crate) async fn finish_sending(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// All bytes until the other end closes the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        soon(self.stream.read_to_end(&mut rest)).await.unwrap();
        rest
    }

    /// The responses until the other end closes the connection.
    pub(crate) async fn responses(&mut self) -> Vec<String> {
        let rest = self.rest().await;
        let (mut all, mut at) = (Vec::new(), 0);
        while let Some((data, used)) = v1::decode_response(&rest[at..], 1 << 20).unwrap() {
            all.push(String::from_utf8(data.to_vec()).unwrap());
            at += used;
        }
        assert_eq!(at, rest.len(), "a response is cut off");
        all
    }
}

pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}
