//! The end of the server, and the requests that it waits for.

use std::{collections::VecDeque, io};

use nsq_daemon::{
    http::{Response, Router, Server, StatusCode, serve},
    log::{Capture, Level, Logger},
    net::Listener,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::harness::{PATIENCE, TestServer};

const GATE: &str = "POST /gate HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn a_request_that_was_started_is_answered_and_an_idle_connection_closed() {
    let server = TestServer::start().await;
    let mut idle = server.connect().await;
    idle.send("GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(idle.answer().await.body, "OK");
    let mut busy = server.connect().await;
    busy.send(GATE).await;
    server.started.acquire().await.unwrap().forget();

    server.shutdown.cancel();
    assert_eq!(idle.read_to_end().await, "");
    assert!(!server.task.is_finished());

    server.gate.add_permits(1);
    let answer = busy.answer().await;
    assert_eq!(answer.body, "passed");
    assert_eq!(answer.header("Connection").map(str::to_lowercase).as_deref(), Some("close"));
    assert_eq!(busy.read_to_end().await, "");
    tokio::time::timeout(PATIENCE, server.task).await.unwrap().unwrap().unwrap();
    let last = server.log.texts();
    assert!(last.contains(&format!("INFO: HTTP: closing {}", server.address)), "{last:?}");
}

#[tokio::test]
async fn a_handler_runs_to_its_end_when_the_client_goes_away() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    client.send(GATE).await;
    server.started.acquire().await.unwrap().forget();
    drop(client);
    server.ask("GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").await;
    server.gate.add_permits(1);
    tokio::time::timeout(PATIENCE, server.finished.acquire()).await.unwrap().unwrap().forget();
}

#[tokio::test]
async fn a_gate_answers_before_any_route() {
    let router = Router::new().get("/ping", async |_| Response::text("OK")).gate(|request| {
        let refusal = Response::json("{\"message\": \"TLS_REQUIRED\"}");
        (request.header("x-pass").is_none()).then(|| refusal.with_status(StatusCode::FORBIDDEN))
    });
    let server = Server::new(router, Logger::discard());
    for (head, status) in
        [("", "HTTP/1.1 403 Forbidden"), ("X-Pass: 1\r\n", "HTTP/1.1 404 Not Found")]
    {
        let (mut client, io) = tokio::io::duplex(4096);
        let request = format!("GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        server.serve_connection(io, "@", &CancellationToken::new()).await;
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with(status), "{text}");
        assert!(text.contains("X-Nsq-Content-Type: nsq; version=1.0\r\n"), "{text}");
    }
}

#[tokio::test]
async fn a_unix_socket_is_served_like_a_port() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let listener = nsq_daemon::net::listen(path.to_str().unwrap()).await.unwrap();
    let capture = Capture::new();
    let log = Logger::with_sink("", Level::Info, capture.clone());
    let router = Router::new().get("/ping", async |_| Response::text("OK"));
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(serve(listener, router, log, shutdown.clone()));

    let mut client = tokio::net::UnixStream::connect(&path).await.unwrap();
    client.write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    assert!(text.ends_with("\r\n\r\nOK"), "{text}");
    shutdown.cancel();
    task.await.unwrap().unwrap();
    let texts = capture.texts();
    assert_eq!(texts[0], format!("INFO: HTTP: listening on {}", path.display()));
    assert!(texts[1].starts_with("INFO: 200 GET /ping (@) "), "{texts:?}");
}

/// A listener that plays a script: connections and failures, then nothing.
struct Scripted(VecDeque<io::Result<tokio::io::DuplexStream>>);

impl Listener for Scripted {
    type Accepted = tokio::io::DuplexStream;
    type Io = tokio::io::DuplexStream;
    type Remote = &'static str;

    async fn accept(&mut self) -> io::Result<(Self::Accepted, &'static str)> {
        match self.0.pop_front() {
            Some(next) => Ok((next?, "peer")),
            None => std::future::pending().await,
        }
    }

    async fn establish(stream: Self::Accepted) -> io::Result<Self::Io> {
        Ok(stream)
    }

    fn is_gone(_: &Self::Accepted) -> bool {
        false
    }

    fn refuse(_: Self::Accepted, _: &[u8]) {}

    fn local(&self) -> String {
        "script".to_owned()
    }
}

const EMFILE: i32 = 24;
const EBADF: i32 = 9;

#[tokio::test(start_paused = true)]
async fn a_shortage_is_waited_out_and_a_broken_listener_ends_the_server() {
    let (mut client, io) = tokio::io::duplex(4096);
    let script = [
        Err(io::Error::from_raw_os_error(EMFILE)),
        Ok(io),
        Err(io::Error::from_raw_os_error(EBADF)),
    ];
    client.write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let capture = Capture::new();
    let log = Logger::with_sink("", Level::Warn, capture.clone());
    let router = Router::new().get("/ping", async |_| Response::text("OK"));
    let error = serve(Scripted(script.into()), router, log, CancellationToken::new()).await;
    assert_eq!(error.unwrap_err().raw_os_error(), Some(EBADF));
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    assert!(text.ends_with("\r\n\r\nOK"), "{text}");
    let warning = "WARNING: temporary Accept() failure - ";
    let texts = capture.texts();
    assert!(texts.len() == 1 && texts[0].starts_with(warning), "{texts:?}");
}

#[tokio::test]
async fn a_large_answer_arrives_whole() {
    let body: String = ('a'..='z').cycle().take(1_000_000).collect();
    let answer = body.clone();
    let router = Router::new().get("/stats", move |_| {
        let answer = answer.clone();
        async move { Response::json(answer) }
    });
    let server = Server::new(router, Logger::discard());
    let (mut client, io) = tokio::io::duplex(10_000);
    client.write_all(b"GET /stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    let shutdown = CancellationToken::new();
    let served = server.serve_connection(io, "@", &shutdown);
    let ((), read) = tokio::join!(served, client.read_to_string(&mut text));
    read.unwrap();
    assert_eq!(text.split_once("\r\n\r\n").unwrap().1, body);
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_can_send_to_its_end_before_it_listens() {
    for head in
        ["POST /pub HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", "GARBAGE\r\n\r\n"]
    {
        let router = Router::new().post("/pub", async |_| Response::text("OK"));
        let server = Server::new(router, Logger::discard());
        let (mut client, io) = tokio::io::duplex(4096);
        let shutdown = CancellationToken::new();
        let exchange = async move {
            client.write_all(head.as_bytes()).await.unwrap();
            client.write_all(&[b'x'; 50_000]).await.unwrap();
            let mut text = String::new();
            client.read_to_string(&mut text).await.unwrap();
            text
        };
        let ((), text) = tokio::join!(server.serve_connection(io, "@", &shutdown), exchange);
        assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
    }
}
