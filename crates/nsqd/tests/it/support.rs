//! A client of few words, and nsqd in this process or in one of its own.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Lines, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, ChildStderr, Command as Process, Stdio},
    thread::JoinHandle,
    time::Duration,
};

use nsq_daemon::log::Logger;
use nsq_protocol::{Command, Frame, MessageFrame, MessageId, decode_frame, encode_multi_pub};
use nsqd::{Nsqd, Options, World};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::test_clocks::TestClocks;

/// Far more than anything here takes; it only turns a hang into a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what comes true soon, without anybody saying when.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "only turns a hang into a failure")]
pub(crate) fn eventually(mut condition: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never came true");
        std::thread::yield_now();
    }
}

/// An nsqd in this process, on ports and in a folder of its own.
pub(crate) struct Server {
    pub(crate) tcp: SocketAddr,
    pub(crate) http: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    folder: Option<TempDir>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
        Self::on(tempfile::tempdir().unwrap(), change)
    }

    /// As [`Server::with`], by the given clocks.
    pub(crate) fn by(clocks: &TestClocks, change: impl FnOnce(&mut Options)) -> Self {
        Self::in_world(clocks.world(), tempfile::tempdir().unwrap(), change)
    }

    pub(crate) fn on(folder: TempDir, change: impl FnOnce(&mut Options)) -> Self {
        Self::in_world(World::default(), folder, change)
    }

    pub(crate) fn in_world(
        world: World,
        folder: TempDir,
        change: impl FnOnce(&mut Options),
    ) -> Self {
        Self::logging_to(Logger::discard(), world, folder, change)
    }

    pub(crate) fn logging_to(
        logger: Logger,
        world: World,
        folder: TempDir,
        change: impl FnOnce(&mut Options),
    ) -> Self {
        let mut options = Options {
            data_path: folder.path().to_owned(),
            tcp_address: "127.0.0.1:0".to_owned(),
            http_address: "127.0.0.1:0".to_owned(),
            ..Options::default()
        };
        change(&mut options);
        let (stop, stopped) = oneshot::channel();
        let (started, addresses) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let nsqd = Nsqd::start_in(world, options, logger).await.unwrap();
                let tcp = nsqd.tcp_address().unwrap();
                started.send((tcp, nsqd.http_address().unwrap())).unwrap();
                nsqd.run(async {
                    // Dropped or sent: both mean stop.
                    let _ = stopped.await;
                })
                .await
                .unwrap();
            });
        });
        let (tcp, http) = addresses.recv_timeout(PATIENCE).unwrap();
        Self { tcp, http, stop: Some(stop), thread: Some(thread), folder: Some(folder) }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.tcp)
    }

    /// A client that is subscribed and ready for `ready` messages.
    pub(crate) fn consumer(&self, topic: &str, channel: &str, ready: u64) -> Client {
        let mut client = self.client();
        client.subscribe(topic, channel, ready);
        client
    }

    /// Stops in order and gives back the folder.
    pub(crate) fn stop(mut self) -> TempDir {
        self.shut_down();
        self.folder.take().unwrap()
    }

    /// Stops in order and starts again on the same folder.
    pub(crate) fn restart(self) -> Self {
        Self::on(self.stop(), |_| ())
    }

    pub(crate) fn post(&self, target: &str) {
        assert_eq!(http(self.http, "POST", target, b"").0, 200, "{target}");
    }

    pub(crate) fn stats(&self) -> serde_json::Value {
        let (status, body) = http(self.http, "GET", "/stats?format=json", b"");
        assert_eq!(status, 200);
        serde_json::from_slice(&body).unwrap()
    }

    /// How often a peer has reached a limit.
    pub(crate) fn reached(&self, limit: &str) -> u64 {
        self.figure(&format!("nsqd_limit_reached_total{{limit=\"{limit}\"}}"))
    }

    /// A figure of `/metrics`, by its series.
    pub(crate) fn figure(&self, series: &str) -> u64 {
        let (status, page) = http(self.http, "GET", "/metrics", b"");
        assert_eq!(status, 200);
        let page = String::from_utf8(page).unwrap();
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap().parse().unwrap()
    }

    /// The figures of the only topic.
    pub(crate) fn topic_stats(&self) -> serde_json::Value {
        self.stats()["topics"][0].clone()
    }

    /// The figures of a channel of the only topic.
    pub(crate) fn channel_stats(&self, name: &str) -> serde_json::Value {
        let stats = self.stats();
        let channels = stats["topics"][0]["channels"].as_array().unwrap().clone();
        channels.into_iter().find(|channel| channel["channel_name"] == name).unwrap()
    }

    fn shut_down(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.shut_down();
        }
    }
}

/// One HTTP request; the status and the body of its answer.
pub(crate) fn http(address: SocketAddr, method: &str, target: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    (status, answer[split..].to_vec())
}

/// The value of a metric without labels, or with those given as they are written.
pub(crate) fn metric(address: SocketAddr, name: &str) -> u64 {
    let (status, page) = http(address, "GET", "/metrics", b"");
    assert_eq!(status, 200);
    let page = String::from_utf8(page).unwrap();
    let mut values = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    values.next().unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

/// A frame that was received, with its data copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Response(String),
    Error(String),
    Message(Message),
    /// nsqd has closed the connection.
    Closed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: MessageId,
    pub(crate) attempts: u16,
    pub(crate) timestamp_ns: i64,
    pub(crate) body: Vec<u8>,
}

/// A connection that sends commands and reads frames, one at a time.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    /// Connects and sends the magic.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let mut client = Self::silent(address);
        client.send_bytes(b"  V2");
        client
    }

    /// Connects and says nothing.
    pub(crate) fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, input: Vec::new() }
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends `bytes` again and again, and reads nothing, until `is_enough`. nsqd may stop listening meanwhile, or close.
    pub(crate) fn flood(&mut self, bytes: &[u8], mut is_enough: impl FnMut() -> bool) {
        self.stream.set_nonblocking(true).unwrap();
        let mut sent = 0;
        eventually(|| {
            while let Ok(more) = self.stream.write(&bytes[sent..]) {
                sent = (sent + more) % bytes.len();
            }
            is_enough()
        });
        self.stream.set_nonblocking(false).unwrap();
    }

    pub(crate) fn send(&mut self, command: Command<'_>) {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        self.send_bytes(&bytes);
    }

    /// Sends a command that is answered with `OK`.
    pub(crate) fn ok(&mut self, command: Command<'_>) {
        self.send(command);
        assert_eq!(self.receive(), Received::Response("OK".to_owned()), "{command:?}");
    }

    pub(crate) fn publish(&mut self, topic: &str, body: &[u8]) {
        self.ok(Command::Pub { topic, body });
    }

    pub(crate) fn publish_all<B: AsRef<[u8]>>(&mut self, topic: &str, bodies: &[B]) {
        let mut bytes = Vec::new();
        encode_multi_pub(topic, bodies, &mut bytes);
        self.send_bytes(&bytes);
        assert_eq!(self.receive(), Received::Response("OK".to_owned()));
    }

    pub(crate) fn identify(&mut self, json: &str) -> Received {
        self.send(Command::Identify(json.as_bytes()));
        self.receive()
    }

    pub(crate) fn subscribe(&mut self, topic: &str, channel: &str, ready: u64) {
        self.ok(Command::Sub { topic, channel });
        if ready > 0 {
            self.send(Command::Rdy(ready));
        }
    }

    /// The next frame, `None` when the connection broke off in another way than by being closed.
    pub(crate) fn try_receive(&mut self) -> std::io::Result<Received> {
        loop {
            if let Some((frame, used)) = decode_frame(&self.input, u32::MAX).unwrap() {
                let received = match frame {
                    Frame::Response(data) => {
                        Received::Response(String::from_utf8_lossy(data).into_owned())
                    }
                    Frame::Error(data) => {
                        Received::Error(String::from_utf8_lossy(data).into_owned())
                    }
                    Frame::Message(MessageFrame { timestamp_ns, attempts, id, body }) => {
                        Received::Message(Message {
                            id,
                            attempts,
                            timestamp_ns,
                            body: body.to_vec(),
                        })
                    }
                };
                self.input.drain(..used);
                return Ok(received);
            }
            let mut chunk = [0; 64 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(Received::Closed),
                Ok(read) => self.input.extend_from_slice(&chunk[..read]),
                // The process was suspended.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next frame that is not a heartbeat. Heartbeats are answered: a busy machine may take its time over a test.
    pub(crate) fn receive(&mut self) -> Received {
        loop {
            match self.frame() {
                Received::Response(data) if data == "_heartbeat_" => {
                    // If the connection is closed by now, the next read says so.
                    let _ = self.stream.write_all(b"NOP\n");
                }
                other => return other,
            }
        }
    }

    /// The next frame. A reset counts as closed: it is what a peer sees that had sent more.
    pub(crate) fn frame(&mut self) -> Received {
        match self.try_receive() {
            Ok(received) => received,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Received::Closed,
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn message(&mut self) -> Message {
        match self.receive() {
            Received::Message(message) => message,
            other => panic!("expected a message, got {other:?}"),
        }
    }

    pub(crate) fn error(&mut self) -> String {
        match self.receive() {
            Received::Error(data) => data,
            other => panic!("expected an error, got {other:?}"),
        }
    }

    pub(crate) fn fin(&mut self, id: MessageId) {
        self.send(Command::Fin(id));
    }

    /// The next `count` messages.
    pub(crate) fn messages(&mut self, count: usize) -> Vec<Message> {
        (0..count).map(|_| self.message()).collect()
    }

    /// The bodies of the next `count` messages, which are finished.
    pub(crate) fn finish_next(&mut self, count: usize) -> Vec<Vec<u8>> {
        let finish = |_| {
            let message = self.message();
            self.fin(message.id);
            message.body
        };
        (0..count).map(finish).collect()
    }

    pub(crate) fn req(&mut self, id: MessageId, delay_ms: u64) {
        self.send(Command::Req { id, delay_ms });
    }

    /// nsqd closes the connection without another word.
    pub(crate) fn expect_closed(&mut self) {
        assert_eq!(self.receive(), Received::Closed);
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub(crate) fn end_stream(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// The messages that are on their way when everything sent so far has been acted on.
    pub(crate) fn drain(&mut self) -> Vec<Message> {
        self.send(Command::Touch(MessageId::from_u64(u64::MAX)));
        let mut messages = Vec::new();
        while let Received::Message(message) = self.receive() {
            messages.push(message);
        }
        messages
    }

    /// Everything sent so far has been acted on, without a word about it.
    pub(crate) fn settle(&mut self) {
        self.expect_nothing();
    }

    /// Nothing has arrived once everything sent so far has been acted on.
    pub(crate) fn expect_nothing(&mut self) {
        // A refused TOUCH is answered in order, so whatever came before it is here already.
        let id = MessageId::from_u64(u64::MAX);
        self.send(Command::Touch(id));
        assert_eq!(self.error(), format!("E_TOUCH_FAILED TOUCH {id} failed ID not in flight"));
    }
}

/// nsqd as a process of its own.
pub(crate) struct NsqdProcess {
    pub(crate) child: Child,
    pub(crate) tcp: SocketAddr,
    pub(crate) http: SocketAddr,
    /// Reads the log to its end, so that none of it is dropped.
    log: Option<JoinHandle<String>>,
}

impl NsqdProcess {
    pub(crate) fn start(folder: &Path, args: &[&str]) -> Self {
        Self::spawn(Process::new(env!("CARGO_BIN_EXE_nsqd")).args(Self::args(folder, args)))
    }

    /// What nsqd is to be told, to run on ports of its own.
    pub(crate) fn args(folder: &Path, args: &[&str]) -> Vec<OsString> {
        let ports = ["-tcp-address", "127.0.0.1:0", "-http-address", "127.0.0.1:0"];
        let all = ports.into_iter().chain(["-data-path"]).map(OsString::from);
        all.chain([folder.into()]).chain(args.iter().map(OsString::from)).collect()
    }

    /// Starts a command that turns into nsqd.
    pub(crate) fn spawn(command: &mut Process) -> Self {
        let (mut nsqd, mut seen, lines) = Self::spawn_unread(command);
        nsqd.log = Some(std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                seen.push_str(&line);
                seen.push('\n');
            }
            seen
        }));
        nsqd
    }

    /// As [`NsqdProcess::spawn`], but reads the log only up to the addresses. Returns the text read, and the unread rest.
    pub(crate) fn spawn_unread(
        command: &mut Process,
    ) -> (Self, String, Lines<BufReader<ChildStderr>>) {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (mut tcp, mut http, mut seen) = (None, None, String::new());
        while tcp.is_none() || http.is_none() {
            let Some(line) = lines.next() else { panic!("nsqd did not start:\n{seen}") };
            let line = line.unwrap();
            let address =
                |what: &str| line.split_once(what).and_then(|(_, address)| address.parse().ok());
            tcp = tcp.or_else(|| address("TCP: listening on "));
            http = http.or_else(|| address("HTTP: listening on "));
            seen.push_str(&line);
            seen.push('\n');
        }
        let nsqd = Self { child, tcp: tcp.unwrap(), http: http.unwrap(), log: None };
        (nsqd, seen, lines)
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.tcp)
    }

    pub(crate) fn consumer(&self, topic: &str, channel: &str, ready: u64) -> Client {
        let mut client = self.client();
        client.subscribe(topic, channel, ready);
        client
    }

    pub(crate) fn stats(&self) -> serde_json::Value {
        let (status, body) = http(self.http, "GET", "/stats?format=json", b"");
        assert_eq!(status, 200);
        serde_json::from_slice(&body).unwrap()
    }

    /// Asks nsqd to stop and waits until it has; its exit code and its log.
    pub(crate) fn stop(mut self) -> (Option<i32>, String) {
        self.signal(rustix::process::Signal::TERM);
        self.ended()
    }

    pub(crate) fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.ended().1
    }

    /// Waits until nsqd has ended; its exit code and its log.
    pub(crate) fn ended(&mut self) -> (Option<i32>, String) {
        eventually(|| self.child.try_wait().unwrap().is_some());
        (self.child.wait().unwrap().code(), self.log.take().unwrap().join().unwrap())
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for NsqdProcess {
    fn drop(&mut self) {
        // One that has ended already is no error here, and a failed test leaves nothing behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
