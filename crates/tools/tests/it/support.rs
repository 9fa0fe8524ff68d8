//! A running tool and a scripted nsqd.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Output, Stdio},
    thread,
    time::Duration,
};

use nsq_protocol::{
    Command as Said, Decoded, FrameType, HEARTBEAT, Limits, MessageFrame, MessageId, Phase,
    decode_command, encode_frame, encode_message_frame,
};
use rustix::{
    net::sockopt::{Timeout, set_socket_timeout},
    process::{Pid, Signal, kill_process},
};

/// The time after which something counts as hanging.
const LIMIT: Duration = Duration::from_secs(10);

pub(crate) const NSQ_TAIL: &str = env!("CARGO_BIN_EXE_nsq_tail");
pub(crate) const TO_NSQ: &str = env!("CARGO_BIN_EXE_to_nsq");

/// A running tool, killed when the test ends.
pub(crate) struct Tool(Child);

impl Tool {
    pub(crate) fn start(program: &str, args: &[&str]) -> Self {
        Self::start_with_stdout(program, args, Stdio::piped())
    }

    pub(crate) fn start_with_stdout(program: &str, args: &[&str], stdout: Stdio) -> Self {
        let child = Command::new(program)
            .args(args)
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }

    /// Writes all of stdin and closes it.
    pub(crate) fn feed(&mut self, input: &[u8]) {
        self.0.stdin.take().unwrap().write_all(input).unwrap();
    }

    /// Returns stdin, to keep it open.
    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.0.stdin.take().unwrap()
    }

    pub(crate) fn stdout(&mut self) -> ChildStdout {
        self.0.stdout.take().unwrap()
    }

    pub(crate) fn stderr(&mut self) -> ChildStderr {
        self.0.stderr.take().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Waits until the tool ends.
    pub(crate) fn end(mut self) -> Ended {
        let stdout = collect(self.0.stdout.take());
        let stderr = collect(self.0.stderr.take());
        let status = self.0.wait().unwrap();
        Ended {
            code: status.code(),
            stdout: stdout.join().unwrap(),
            stderr: String::from_utf8(stderr.join().unwrap()).unwrap(),
        }
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

fn collect(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        if let Some(mut stream) = stream {
            stream.read_to_end(&mut all).unwrap();
        }
        all
    })
}

/// The exit code of a tool and the unread part of its output.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// Runs a tool without input until it ends.
pub(crate) fn run(program: &str, args: &[&str]) -> Ended {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let Output { status, stdout, stderr } = output.unwrap();
    Ended { code: status.code(), stdout, stderr: String::from_utf8(stderr).unwrap() }
}

pub(crate) struct Nsqd {
    listener: TcpListener,
    /// `-nsqd-tcp-address=` and the address.
    pub(crate) flag: String,
}

impl Nsqd {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        set_socket_timeout(&listener, Timeout::Recv, Some(LIMIT)).unwrap();
        let flag = format!("-nsqd-tcp-address={}", listener.local_addr().unwrap());
        Self { listener, flag }
    }

    /// Accepts the next connection and answers IDENTIFY.
    pub(crate) fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().expect("the tool connects in time");
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        let mut peer =
            Peer { stream, buffer: Vec::new(), phase: Phase::Init, identify: Vec::new() };
        let mut magic = [0; 4];
        peer.stream.read_exact(&mut magic).unwrap();
        assert_eq!(&magic, b"  V2");
        peer.said(&["IDENTIFY"]);
        peer.respond(b"{}");
        peer
    }

    /// Accepts the next connection and subscribes it to channel `c` of `topic`.
    pub(crate) fn subscribed(&self, topic: &str) -> Peer {
        let mut peer = self.accept();
        peer.said(&[&format!("SUB {topic} c")]);
        peer.respond(b"OK");
        peer
    }
}

/// nsqd's end of one connection.
pub(crate) struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
    phase: Phase,
    /// The body of IDENTIFY.
    pub(crate) identify: Vec<u8>,
}

impl Peer {
    /// Reads the next command as text; returns `None` at the end of the stream.
    pub(crate) fn command(&mut self) -> Option<String> {
        loop {
            match decode_command(&self.buffer, self.phase, &Limits::default()) {
                Decoded::Command(command, used) => {
                    let text = text_of(&command);
                    match command {
                        Said::Sub { .. } => self.phase = Phase::Subscribed,
                        Said::Cls => self.phase = Phase::Closing,
                        Said::Identify(body) => self.identify = body.to_vec(),
                        _ => {}
                    }
                    self.buffer.drain(..used);
                    return Some(text);
                }
                Decoded::Incomplete { .. } => {}
                refused => panic!("the tool sent what nsqd refuses: {refused:?}"),
            }
            let mut read = [0; 4096];
            let n = loop {
                match self.stream.read(&mut read) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    read => break read.expect("something is said in time"),
                }
            };
            if n == 0 {
                return None;
            }
            self.buffer.extend_from_slice(&read[..n]);
        }
    }

    /// Reads commands and compares them with `expected`.
    pub(crate) fn said(&mut self, expected: &[&str]) {
        for expected in expected {
            assert_eq!(self.command().as_deref(), Some(*expected));
        }
    }

    /// Proves that no command has been sent: the answer to a heartbeat is the next.
    pub(crate) fn says_nothing(&mut self) {
        self.respond(HEARTBEAT);
        self.said(&["NOP"]);
    }

    /// Answers CLS and waits until the tool closes the connection.
    pub(crate) fn closes(&mut self) {
        self.respond(b"CLOSE_WAIT");
        assert_eq!(self.command(), None);
    }

    pub(crate) fn respond(&mut self, data: &[u8]) {
        self.frame(FrameType::Response, data);
    }

    pub(crate) fn error(&mut self, text: &str) {
        self.frame(FrameType::Error, text.as_bytes());
    }

    fn frame(&mut self, kind: FrameType, data: &[u8]) {
        let mut out = Vec::new();
        encode_frame(kind, data, &mut out);
        self.stream.write_all(&out).unwrap();
    }

    /// Sends messages in one write: numbers, attempts and bodies.
    pub(crate) fn messages(&mut self, messages: &[(u64, u16, &[u8])]) {
        let mut out = Vec::new();
        for &(number, attempts, body) in messages {
            let id = MessageId::from_u64(number);
            encode_message_frame(MessageFrame { timestamp_ns: 0, attempts, id, body }, &mut out);
        }
        self.stream.write_all(&out).unwrap();
    }
}

fn text_of(command: &Said<'_>) -> String {
    match command {
        Said::Identify(_) => "IDENTIFY".to_owned(),
        Said::Sub { topic, channel } => format!("SUB {topic} {channel}"),
        Said::Pub { topic, body } => format!("PUB {topic} {}", String::from_utf8_lossy(body)),
        Said::Rdy(count) => format!("RDY {count}"),
        Said::Fin(id) => format!("FIN {}", id.to_u64().unwrap()),
        Said::Req { id, delay_ms } => format!("REQ {} {delay_ms}", id.to_u64().unwrap()),
        Said::Cls => "CLS".to_owned(),
        Said::Nop => "NOP".to_owned(),
        other => panic!("the tools do not say {other:?}"),
    }
}
