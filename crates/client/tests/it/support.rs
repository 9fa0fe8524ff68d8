//! A scripted nsqd that reports received commands as text: `SUB t c`, `RDY 5`, `FIN <id>`.

use std::{fmt::Debug, future::Future, net::SocketAddr, time::Duration};

use nsq_client::{Config, Consumer, ConsumerBuilder, Message, Producer};
use nsq_protocol::{
    Command, Decoded, FrameType, HEARTBEAT, Limits, MAGIC_V2, MessageFrame, MessageId, Phase,
    decode_command, encode_frame, encode_message_frame,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::{mpsc, oneshot},
    time::timeout,
};

/// The time after which something counts as hanging.
const LIMIT: Duration = Duration::from_secs(10);

/// Returns the output of `future`, which must not hang.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(LIMIT, future).await.expect("took too long")
}

pub(crate) struct Nsqd {
    listener: TcpListener,
    address: String,
}

impl Nsqd {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    pub(crate) async fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self { listener, address }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Accepts the next connection, before it has sent anything.
    pub(crate) async fn accept(&self) -> Peer {
        let (stream, remote) = soon(self.listener.accept()).await.unwrap();
        let limits = Limits { message_bytes_max: 64 << 20, ..Limits::default() };
        Peer {
            stream: Box::new(stream),
            remote,
            buffer: Vec::new(),
            used: 0,
            phase: Phase::Init,
            limits,
            identify: Vec::new(),
            reads: 0,
        }
    }

    /// Accepts the next connection and answers IDENTIFY.
    pub(crate) async fn identified(&self) -> Peer {
        let mut peer = self.accept().await;
        peer.magic().await;
        peer.said(&["IDENTIFY"]).await;
        peer.respond(br#"{"max_rdy_count":2500,"version":"1.3.0"}"#).await;
        peer
    }

    /// Accepts the next connection and answers IDENTIFY and SUB.
    pub(crate) async fn subscribed(&self) -> Peer {
        let mut peer = self.identified().await;
        peer.said(&["SUB t c"]).await;
        peer.respond(b"OK").await;
        peer
    }
}

/// TCP, or a layer over it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// nsqd's end of one connection.
pub(crate) struct Peer {
    stream: Box<dyn Stream>,
    remote: SocketAddr,
    buffer: Vec<u8>,
    used: usize,
    phase: Phase,
    limits: Limits,
    identify: Vec<u8>,
    reads: usize,
}

impl Peer {
    pub(crate) async fn magic(&mut self) {
        let mut magic = [0; 4];
        soon(self.stream.read_exact(&mut magic)).await.unwrap();
        assert_eq!(magic, MAGIC_V2); // W01
    }

    /// The body of the last IDENTIFY.
    pub(crate) fn identify(&self) -> &[u8] {
        &self.identify
    }

    /// The client's address.
    pub(crate) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// The number of reads so far.
    pub(crate) fn reads(&self) -> usize {
        self.reads
    }

    /// Reads the next command as text; returns `None` at the end of the stream.
    pub(crate) async fn command(&mut self) -> Option<String> {
        loop {
            match decode_command(&self.buffer[self.used..], self.phase, &self.limits) {
                Decoded::Command(command, used) => {
                    let text = text_of(&command);
                    match command {
                        Command::Sub { .. } => self.phase = Phase::Subscribed,
                        Command::Cls => self.phase = Phase::Closing,
                        Command::Identify(body) => self.identify = body.to_vec(),
                        _ => {}
                    }
                    self.used += used;
                    return Some(text);
                }
                Decoded::Incomplete { .. } => {}
                refused => panic!("the client sent what nsqd refuses: {refused:?}"),
            }
            self.buffer.drain(..std::mem::take(&mut self.used));
            self.reads += 1;
            match soon(self.stream.read_buf(&mut self.buffer)).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Reads commands and compares them with `expected`.
    pub(crate) async fn said(&mut self, expected: &[&str]) {
        for expected in expected {
            assert_eq!(self.command().await.as_deref(), Some(*expected));
        }
    }

    /// Proves that no command has been sent: the answer to a heartbeat is the next.
    pub(crate) async fn says_nothing(&mut self) {
        self.respond(HEARTBEAT).await;
        self.said(&["NOP"]).await;
    }

    /// Waits until the client closes the connection, without another command.
    pub(crate) async fn is_closed(&mut self) {
        assert_eq!(self.command().await, None);
    }

    pub(crate) async fn respond(&mut self, data: &[u8]) {
        self.frame(FrameType::Response, data).await;
    }

    pub(crate) async fn error(&mut self, text: &str) {
        self.frame(FrameType::Error, text.as_bytes()).await;
    }

    /// Continues the connection in the stream that `upgrade` returns.
    #[cfg(any(feature = "compression", feature = "tls"))]
    pub(crate) async fn upgraded<S: Stream + 'static>(
        self,
        upgrade: impl AsyncFnOnce(Box<dyn Stream>) -> S,
    ) -> Self {
        assert_eq!(self.used, self.buffer.len(), "the client spoke before the upgrade");
        let stream = Box::new(soon(upgrade(self.stream)).await);
        Self { stream, buffer: Vec::new(), used: 0, ..self }
    }

    async fn frame(&mut self, kind: FrameType, data: &[u8]) {
        let mut out = Vec::new();
        encode_frame(kind, data, &mut out);
        self.raw(&out).await;
    }

    /// Sends messages in one write: their numbers make their ids and bodies.
    pub(crate) async fn messages(&mut self, numbers: impl IntoIterator<Item = u64>) {
        let mut out = Vec::new();
        for number in numbers {
            out.extend(message_frame(number, 1, number.to_string().as_bytes()));
        }
        self.raw(&out).await;
    }

    pub(crate) async fn message(&mut self, number: u64, attempts: u16) {
        let frame = message_frame(number, attempts, number.to_string().as_bytes());
        self.raw(&frame).await;
    }

    /// Sends bytes to a client that may close the connection.
    pub(crate) async fn try_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        soon(self.stream.write_all(bytes)).await
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        soon(self.stream.write_all(bytes)).await.unwrap();
        soon(self.stream.flush()).await.unwrap();
    }
}

pub(crate) fn message_frame(number: u64, attempts: u16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let id = MessageId::from_u64(number);
    encode_message_frame(MessageFrame { timestamp_ns: 1_000, attempts, id, body }, &mut out);
    out
}

/// `FIN` with the id of the message with this number.
pub(crate) fn fin(number: u64) -> String {
    format!("FIN {number:016x}")
}

pub(crate) fn req(number: u64, delay_ms: u64) -> String {
    format!("REQ {number:016x} {delay_ms}")
}

pub(crate) fn touch(number: u64) -> String {
    format!("TOUCH {number:016x}")
}

fn text_of(command: &Command<'_>) -> String {
    let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match command {
        Command::Identify(_) => "IDENTIFY".to_owned(),
        Command::Auth(secret) => format!("AUTH {}", show(secret)),
        Command::Sub { topic, channel } => format!("SUB {topic} {channel}"),
        Command::Pub { topic, body } => format!("PUB {topic} {}", show(body)),
        Command::MultiPub { topic, bodies } => {
            let bodies: Vec<_> = bodies.into_iter().map(show).collect();
            format!("MPUB {topic} {}", bodies.join(","))
        }
        Command::DeferredPub { topic, delay_ms, body } => {
            format!("DPUB {topic} {delay_ms} {}", show(body))
        }
        Command::Rdy(count) => format!("RDY {count}"),
        Command::Fin(id) => format!("FIN {id}"),
        Command::Req { id, delay_ms } => format!("REQ {id} {delay_ms}"),
        Command::Touch(id) => format!("TOUCH {id}"),
        Command::Cls => "CLS".to_owned(),
        Command::Nop => "NOP".to_owned(),
    }
}

pub(crate) fn producer_of(nsqd: &Nsqd) -> Producer {
    Producer::new(nsqd.address(), Config::default()).unwrap()
}

/// A consumer of channel `c` of topic `t`.
pub(crate) fn consumer(max_in_flight: u32) -> ConsumerBuilder {
    Consumer::builder("t", "c").config(quick(max_in_flight))
}

/// A configuration that reconnects at once and does not back off.
pub(crate) fn quick(max_in_flight: u32) -> Config {
    Config {
        max_in_flight,
        lookupd_poll_interval: Duration::from_millis(10),
        max_backoff_duration: Duration::ZERO,
        ..Config::default()
    }
}

/// Connects `consumer` to `nsqd` and returns nsqd's end of the connection, before its first RDY.
pub(crate) async fn connect(consumer: &Consumer, nsqd: &Nsqd) -> Peer {
    let connecting = consumer.connect_to_nsqd(nsqd.address());
    let (connected, peer) = soon(async { tokio::join!(connecting, nsqd.subscribed()) }).await;
    connected.unwrap();
    peer
}

/// A message in a handler, whose result the test decides.
pub(crate) struct InHand {
    pub(crate) message: Message,
    pub(crate) result: oneshot::Sender<Result<(), &'static str>>,
}

impl InHand {
    /// The handler drops the message and ends with `result`.
    pub(crate) fn end(self, result: Result<(), &'static str>) {
        drop(self.message);
        self.result.send(result).unwrap();
    }
}

/// Adds a handler that passes its messages to the test.
pub(crate) fn with_hands(
    builder: ConsumerBuilder,
    concurrency: usize,
) -> (ConsumerBuilder, mpsc::UnboundedReceiver<InHand>) {
    let (hand, hands) = mpsc::unbounded_channel();
    let builder = builder.concurrent_handlers(concurrency, move |message| {
        let hand = hand.clone();
        async move {
            let (result, ended) = oneshot::channel();
            assert!(hand.send(InHand { message, result }).is_ok(), "the test is over");
            ended.await.unwrap_or(Err("dropped"))
        }
    });
    (builder, hands)
}

/// A handler that finishes everything.
pub(crate) async fn ok(_: Message) -> Result<(), &'static str> {
    Ok(())
}

/// A handler that fails with everything.
pub(crate) async fn fail(_: Message) -> Result<(), &'static str> {
    Err("on purpose")
}

/// Returns the error of a result whose success has no `Debug`.
pub(crate) fn error<T, E: Debug>(result: Result<T, E>) -> E {
    match result {
        Ok(_) => panic!("should have failed"),
        Err(error) => error,
    }
}
