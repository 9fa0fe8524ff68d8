//! Clients that come when all slots are taken: they get an answer, those before them notice nothing.

use std::{io, net::SocketAddr};

use nsq_daemon::{
    http::{Response, Router, Server},
    log::{Capture, Level, Logger},
    net::{Admission, Admissions, Gate, Permit, Slots, accept},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::harness::PATIENCE;

const REFUSAL: &[u8] = b"too many";
const PING: &[u8] = b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n";

/// A listener that hands out its connections.
struct Accepting {
    address: SocketAddr,
    accepted: mpsc::UnboundedReceiver<(TcpStream, Permit)>,
    log: Capture,
    shutdown: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

impl Accepting {
    async fn start(admission: Admission) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (hand_out, accepted) = mpsc::unbounded_channel();
        let (log, shutdown) = (Capture::new(), CancellationToken::new());
        let logger = Logger::with_sink("", Level::Warn, log.clone());
        let stop = shutdown.clone();
        let task = tokio::spawn(async move {
            let gate = Gate { protocol: "TCP", admission: &admission, refusal: REFUSAL };
            accept(gate, listener, &logger, &stop, |stream, _, permit| {
                hand_out.send((stream, permit)).unwrap();
            })
            .await
        });
        Self { address, accepted, log, shutdown, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Stops; the lines of the log.
    async fn stop(self) -> Vec<String> {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
        self.log.texts()
    }
}

async fn all_that_comes(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn the_newest_client_is_refused_with_an_answer_and_a_slot_comes_back_with_its_connection() {
    let mut listener = Accepting::start(Slots::new(10).admission(1, 0)).await;
    let _first = listener.connect().await;
    let held = listener.accepted.recv().await.unwrap();
    let second = listener.connect().await;
    let who = second.local_addr().unwrap();
    assert_eq!(all_that_comes(second).await, REFUSAL);
    drop(held);
    let _third = listener.connect().await;
    listener.accepted.recv().await.unwrap();
    let reason = "the limit of 1 connections is reached";
    let line = format!("WARNING: TCP: client({who}) refused - {reason}");
    assert_eq!(listener.stop().await, [line]);
}

#[tokio::test]
async fn a_client_that_has_sent_something_gets_the_answer_too() {
    let listener = Accepting::start(Slots::new(0).admission(1, 0)).await;
    // In the queue before anything is accepted: the test has the only thread.
    let mut stream = std::net::TcpStream::connect(listener.address).unwrap();
    io::Write::write_all(&mut stream, b"  V2IDENTIFY\n").unwrap();
    stream.set_nonblocking(true).unwrap();
    let stream = TcpStream::from_std(stream).unwrap();
    assert_eq!(all_that_comes(stream).await, REFUSAL);
}

#[tokio::test]
async fn a_client_that_has_hung_up_before_its_turn_is_dropped_and_takes_no_slot() {
    let mut listener = Accepting::start(Slots::new(1).admission(1, 0)).await;
    // All of this is in the queue before anything is accepted: the test has the only thread.
    for _ in 0..10 {
        drop(std::net::TcpStream::connect(listener.address).unwrap());
    }
    let mut brief = std::net::TcpStream::connect(listener.address).unwrap();
    io::Write::write_all(&mut brief, b"said something").unwrap();
    let address = brief.local_addr().unwrap();
    drop(brief);
    let (stream, _permit) = listener.accepted.recv().await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), address);
    assert_eq!(all_that_comes(stream).await, b"said something");
    assert_eq!(listener.stop().await, [] as [&str; 0]);
}

/// Serves `/ping` to as many clients as `admission` takes.
async fn serve_ping(admission: Admission) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().get("/ping", async |_| Response::text("OK"));
    let server = Server::new(router, Logger::discard()).with_admission(admission);
    tokio::spawn(server.serve(listener, CancellationToken::new()));
    address
}

#[tokio::test]
async fn an_http_client_that_is_not_admitted_is_answered_503_as_others_are_answered() {
    let address = serve_ping(Slots::new(1).admission(usize::MAX, 0)).await;
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(PING).await.unwrap();
    first.readable().await.unwrap();
    let second = TcpStream::connect(address).await.unwrap();
    let answer = String::from_utf8(all_that_comes(second).await).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
    for line in [
        "Connection: close",
        "Content-Type: application/json; charset=utf-8",
        &format!("Content-Length: {}", body.len()),
    ] {
        assert!(head.lines().any(|it| it == line), "{head}");
    }
    assert_eq!(body, r#"{"message":"TOO_MANY_CONNECTIONS"}"#);

    drop(first);
    timeout(PATIENCE, served(address)).await.unwrap();
}

/// Asks until the server has seen that an earlier client is gone.
async fn served(address: SocketAddr) {
    loop {
        let mut next = TcpStream::connect(address).await.unwrap();
        if next.write_all(PING).await.is_err() {
            continue;
        }
        let mut answer = [0; 12];
        if next.read_exact(&mut answer).await.is_ok() && answer == *b"HTTP/1.1 200" {
            return;
        }
    }
}

#[tokio::test]
async fn neither_kind_of_client_locks_out_the_other() {
    let admissions = Admissions::new(100, 0, 0);
    let take_all = |admission: &Admission| -> Vec<Permit> {
        std::iter::from_fn(|| admission.admit().ok()).collect()
    };
    let of_http = take_all(&admissions.http);
    assert_eq!((of_http.len(), take_all(&admissions.tcp).len()), (75, 25));
    drop(of_http);
    let of_tcp = take_all(&admissions.tcp);
    assert_eq!((of_tcp.len(), take_all(&admissions.http).len()), (88, 12));
}
