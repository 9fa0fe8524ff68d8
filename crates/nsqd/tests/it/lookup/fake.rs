//! A scripted nsqlookupd that records commands.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
};

use nsq_protocol::v1::{Command, Decoded, Phase, decode_command, encode_response};

use crate::support::PATIENCE;

/// The answer to a query for a topic that is nowhere else.
pub(super) const NO_CHANNELS: &[&str] = &[];

/// A scripted nsqlookupd.
pub(super) struct Lookupd {
    pub(super) address: SocketAddr,
    heard: Receiver<String>,
}

/// A pending query for the channels of a topic.
pub(super) struct Query {
    head: Vec<u8>,
    stream: TcpStream,
}

impl Lookupd {
    /// Answers every query with no channels.
    pub(super) fn start() -> Self {
        let (lookupd, queries) = Self::with_queries();
        std::thread::spawn(move || {
            for query in queries {
                query.answer(NO_CHANNELS);
            }
        });
        lookupd
    }

    /// Leaves queries to the test.
    pub(super) fn with_queries() -> (Self, Receiver<Query>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (http_port, queries) = receive_queries();
        let (hears, heard) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let hears = hears.clone();
                // An error means that the test is over.
                std::thread::spawn(move || serve_nsqd(stream.unwrap(), http_port, &hears));
            }
        });
        (Self { address, heard }, queries)
    }

    /// Returns the next command, or `end of stream`.
    pub(super) fn hear(&self) -> String {
        self.heard.recv_timeout(PATIENCE).unwrap()
    }

    /// Asserts that this is the next command.
    #[track_caller]
    pub(super) fn expect(&self, expected: &str) {
        assert_eq!(self.hear(), expected);
    }

    pub(super) fn expect_identify(&self) -> serde_json::Value {
        let heard = self.hear();
        let body = heard.strip_prefix("IDENTIFY ").unwrap_or_else(|| panic!("{heard}"));
        serde_json::from_str(body).unwrap()
    }
}

fn serve_nsqd(mut stream: TcpStream, http_port: u16, hears: &Sender<String>) -> Option<()> {
    let mut magic = [0; 4];
    stream.read_exact(&mut magic).ok()?;
    assert_eq!(&magic, b"  V1");
    let (mut input, mut phase) = (Vec::new(), Phase::Connected);
    loop {
        match decode_command(&input, phase) {
            Decoded::Command(command, used) => {
                let (heard, answer) = match command {
                    Command::Identify(body) => {
                        phase = Phase::Identified;
                        let info = format!(
                            r#"{{"broadcast_address":"127.0.0.1","http_port":{http_port},"tcp_port":1,"version":"1"}}"#
                        );
                        (format!("IDENTIFY {}", String::from_utf8_lossy(body)), info)
                    }
                    other => {
                        let mut line = Vec::new();
                        other.encode(&mut line);
                        (String::from_utf8(line).unwrap().trim_end().to_owned(), "OK".to_owned())
                    }
                };
                input.drain(..used);
                let mut out = Vec::new();
                encode_response(answer.as_bytes(), &mut out);
                stream.write_all(&out).ok()?;
                hears.send(heard).ok()?;
            }
            Decoded::Incomplete { .. } => {
                let mut chunk = [0; 4096];
                // A connection that is closed with a response unread is reset.
                let read = stream.read(&mut chunk).unwrap_or(0);
                if read == 0 {
                    // Fails when the test is over.
                    let _ = hears.send("end of stream".to_owned());
                    return None;
                }
                input.extend_from_slice(&chunk[..read]);
            }
            Decoded::Rejected(error) | Decoded::TooLong(error) => panic!("{error}"),
        }
    }
}

fn receive_queries() -> (u16, Receiver<Query>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asks, queries) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut head) = (stream.unwrap(), Vec::new());
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            if asks.send(Query { head, stream }).is_err() {
                return;
            }
        }
    });
    (port, queries)
}

impl Query {
    pub(super) fn is_for(&self, topic: &str) -> bool {
        self.head.starts_with(format!("GET /channels?topic={topic} ").as_bytes())
    }

    pub(super) fn answer(self, channels: &[impl AsRef<str>]) {
        let channels: Vec<_> = channels.iter().map(AsRef::as_ref).collect();
        let body = serde_json::json!({ "channels": channels }).to_string();
        self.answer_with(&body).unwrap();
    }

    /// Sends any body as the answer. Fails when nsqd does not read all of it.
    pub(super) fn answer_with(mut self, body: &str) -> std::io::Result<()> {
        let length = body.len();
        write!(
            self.stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    }
}
