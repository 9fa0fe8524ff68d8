//! How the server ends, and what it does not end.

use nsq_daemon::http::{Response, Router, Server, StatusCode};
use nsq_daemon::log::Logger;
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
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let capture = nsq_daemon::log::Capture::new();
    let log = Logger::with_sink("", nsq_daemon::log::Level::Info, capture.clone());
    let router = Router::new().get("/ping", async |_| Response::text("OK"));
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(nsq_daemon::http::serve(listener, router, log, shutdown.clone()));

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
