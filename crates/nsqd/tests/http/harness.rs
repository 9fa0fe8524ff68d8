//! An nsqd on free ports, an HTTP client that sends bytes as they are given, and a consumer.

use std::{net::SocketAddr, time::Duration};

use nsq_daemon::log::Logger;
use nsq_protocol::{Command, Frame, HEARTBEAT, MAGIC_V2, decode_frame};
use nsqd::{Nsqd, Options, RunError};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

/// How long a test waits before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct TestNsqd {
    pub(crate) http: SocketAddr,
    pub(crate) tcp: SocketAddr,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) folder: TempDir,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), RunError>>,
}

impl TestNsqd {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Options)) -> Self {
        Self::start_logging(change, Logger::discard()).await
    }

    pub(crate) async fn start_logging(change: impl FnOnce(&mut Options), logger: Logger) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), change, logger).await
    }

    pub(crate) async fn start_in(
        folder: TempDir,
        change: impl FnOnce(&mut Options),
        logger: Logger,
    ) -> Self {
        let mut options = Options {
            data_path: folder.path().to_owned(),
            tcp_address: "127.0.0.1:0".to_owned(),
            http_address: "127.0.0.1:0".to_owned(),
            https_address: "127.0.0.1:0".to_owned(),
            ..Options::default()
        };
        change(&mut options);
        let nsqd = Nsqd::start(options, logger).await.unwrap();
        let (http, tcp) = (nsqd.http_address().unwrap(), nsqd.tcp_address().unwrap());
        let https = nsqd.https_address();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(nsqd.run(async {
            let _ = stopped.await;
        }));
        Self { http, tcp, https, folder, stop, running }
    }

    /// Stops nsqd and hands back its folder.
    pub(crate) async fn stop(self) -> TempDir {
        let Self { folder, stop, running, .. } = self;
        stop.send(()).unwrap();
        timeout(PATIENCE, running).await.expect("nsqd stops in time").unwrap().unwrap();
        folder
    }

    /// Reads `nsqd.dat`.
    pub(crate) fn metadata(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("nsqd.dat")).unwrap()
    }

    pub(crate) async fn send(&self, request: impl AsRef<[u8]>) -> Http {
        let mut http = Http::on(TcpStream::connect(self.http).await.unwrap());
        http.send(request).await;
        http
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.send(request(method, path, body)).await.answer().await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    pub(crate) async fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.ask("POST", path, body).await
    }

    pub(crate) async fn put(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.ask("PUT", path, body).await
    }

    /// `/stats` as JSON, with these parameters.
    pub(crate) async fn stats(&self, params: &str) -> Value {
        let answer = self.get(&format!("/stats?format=json&{params}")).await;
        serde_json::from_str(&answer.body).unwrap()
    }

    /// Reads `/stats` until the figures fulfil a condition.
    pub(crate) async fn stats_until(
        &self,
        params: &str,
        reached: impl Fn(&Value) -> bool,
    ) -> Value {
        let wait = async {
            loop {
                let stats = self.stats(params).await;
                if reached(&stats) {
                    return stats;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, wait).await.expect("the figures become what they should")
    }

    pub(crate) async fn connect(&self) -> Consumer {
        self.connect_with(&MAGIC_V2).await
    }

    /// A connection that begins with this magic.
    pub(crate) async fn connect_with(&self, magic: &[u8; 4]) -> Consumer {
        let mut stream = TcpStream::connect(self.tcp).await.unwrap();
        stream.write_all(magic).await.unwrap();
        Consumer { stream, read: Vec::new() }
    }

    /// A connection that is subscribed.
    pub(crate) async fn subscribe(&self, topic: &str, channel: &str) -> Consumer {
        let mut consumer = self.connect().await;
        consumer.send(Command::Sub { topic, channel }).await;
        assert_eq!(consumer.response().await, "OK");
        consumer
    }

    /// Finishes the messages of a channel, which is created if it does not exist, and returns their bodies.
    pub(crate) async fn drain(&self, topic: &str, channel: &str, count: usize) -> Vec<String> {
        let mut consumer = self.subscribe(topic, channel).await;
        consumer.send(Command::Rdy(2500)).await;
        let mut bodies = Vec::new();
        for _ in 0..count {
            let (id, body) = consumer.message().await;
            consumer.send(Command::Fin(id)).await;
            bodies.push(body);
        }
        consumer.leave().await;
        bodies
    }
}

/// The bytes of a request.
pub(crate) fn request(method: &str, path: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

pub(crate) struct Http<S = TcpStream> {
    stream: S,
    read: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header whose name is spelled exactly so.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Status and body, for comparing.
    pub(crate) fn brief(&self) -> (u16, &str) {
        (self.status, &self.body)
    }

    /// Status and message of an error, whose body must have the form of one.
    pub(crate) fn refusal(&self) -> (u16, &str) {
        assert_eq!(
            self.header("Content-Type"),
            Some("application/json; charset=utf-8"),
            "{self:?}"
        );
        let message =
            self.body.strip_prefix("{\"message\":\"").and_then(|rest| rest.strip_suffix("\"}"));
        (self.status, message.unwrap_or_else(|| panic!("not an error: {self:?}")))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http<S> {
    pub(crate) fn on(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    pub(crate) async fn close_write(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Everything that nsqd sends until it closes the connection.
    pub(crate) async fn rest(&mut self) -> String {
        let read = self.stream.read_to_end(&mut self.read);
        timeout(PATIENCE, read).await.expect("the end in time").unwrap();
        String::from_utf8_lossy(&self.read).into_owned()
    }

    /// The next answer, interim ones (100) included.
    pub(crate) async fn answer(&mut self) -> Answer {
        let head_end = loop {
            if let Some(at) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            fill(&mut self.stream, &mut self.read).await;
        };
        let head = String::from_utf8(self.read.drain(..head_end).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        let headers = lines.map(|line| header(line).unwrap()).collect();
        let mut answer = Answer { status, headers, body: String::new() };
        let bytes: usize =
            answer.header("Content-Length").map_or(0, |bytes| bytes.parse().unwrap());
        while self.read.len() < bytes {
            fill(&mut self.stream, &mut self.read).await;
        }
        answer.body =
            String::from_utf8_lossy(&self.read.drain(..bytes).collect::<Vec<_>>()).into_owned();
        answer
    }
}

async fn fill(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) {
    let read =
        timeout(PATIENCE, stream.read_buf(buffer)).await.expect("an answer in time").unwrap();
    assert_ne!(read, 0, "closed after {:?}", String::from_utf8_lossy(buffer));
}

/// A connection of the V2 protocol.
pub(crate) struct Consumer {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Consumer {
    pub(crate) async fn send(&mut self, command: Command<'_>) {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// The next answer to a command.
    pub(crate) async fn response(&mut self) -> String {
        self.frame(|frame| match frame {
            Frame::Response(HEARTBEAT) => None,
            Frame::Response(data) | Frame::Error(data) => {
                Some(String::from_utf8_lossy(data).into_owned())
            }
            Frame::Message(_) => panic!("a message where an answer is due"),
        })
        .await
    }

    /// Id and body of the next message.
    pub(crate) async fn message(&mut self) -> (nsq_protocol::MessageId, String) {
        self.frame(|frame| match frame {
            Frame::Response(HEARTBEAT) => None,
            Frame::Message(message) => {
                Some((message.id, String::from_utf8_lossy(message.body).into_owned()))
            }
            other => panic!("{other:?} where a message is due"),
        })
        .await
    }

    async fn frame<T>(&mut self, take: impl Fn(Frame<'_>) -> Option<T>) -> T {
        loop {
            let decoded = decode_frame(&self.read, 10 << 20).unwrap();
            let Some((frame, bytes)) = decoded else {
                fill(&mut self.stream, &mut self.read).await;
                continue;
            };
            let taken = take(frame);
            self.read.drain(..bytes);
            if let Some(taken) = taken {
                return taken;
            }
        }
    }

    /// Waits for nsqd to close the connection.
    pub(crate) async fn end(&mut self) {
        let read = self.stream.read_to_end(&mut self.read);
        timeout(PATIENCE, read).await.expect("the end in time").unwrap();
    }

    /// Ends the connection in order: everything that was sent has been acted on when this returns.
    pub(crate) async fn leave(mut self) {
        self.send(Command::Cls).await;
        assert_eq!(self.response().await, "CLOSE_WAIT");
    }
}
