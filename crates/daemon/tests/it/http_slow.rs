//! Clients that send slowly, or more together than fits.

use std::{sync::Arc, time::Duration};

use nsq_daemon::{
    http::{
        ANSWER_STALL_TIME_MAX, BODY_PROGRESS_BYTES, BODY_PROGRESS_TIME, Error, HEAD_TIME_MAX,
        ROOM_TIME_MAX, Request, Response, Router, Server,
    },
    log::Logger,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::Semaphore,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// Less than the shortest limit.
const MOMENT: Duration = Duration::from_millis(1);
const LIMIT_BYTES: usize = 1 << 20;

/// A connection to `server`, over a pipe that takes whatever is sent.
fn connect(server: &Server) -> (DuplexStream, JoinHandle<()>) {
    let (client, io) = duplex(16 << 20);
    let server = server.clone();
    let task = tokio::spawn(async move {
        server.serve_connection(io, "@", &CancellationToken::new()).await;
    });
    (client, task)
}

async fn size(mut request: Request) -> Result<Response, Error> {
    let body = request.body_up_to(LIMIT_BYTES).await?;
    Ok(Response::text(body.len().to_string()))
}

fn server() -> Server {
    let router = Router::new().post("/size", size).get("/ping", async |_| Response::text("OK"));
    Server::new(router, Logger::discard())
}

fn head(bytes: usize) -> String {
    format!("POST /size HTTP/1.1\r\nHost: x\r\nContent-Length: {bytes}\r\n\r\n")
}

/// Returns everything that the server sends until it closes the connection.
async fn read_all(client: &mut DuplexStream) -> String {
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    text
}

/// Returns what the server sends next.
async fn read_some(client: &mut DuplexStream) -> String {
    let mut bytes = vec![0; 4096];
    let read = client.read(&mut bytes).await.unwrap();
    String::from_utf8(bytes[..read].to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_arrive_in_time_ends_its_connection() {
    for part in ["", "G", "GET /ping HTTP/1.1\r\nHost: x\r\n"] {
        let (mut client, task) = connect(&server());
        let started = Instant::now();
        client.write_all(part.as_bytes()).await.unwrap();
        task.await.unwrap();
        assert_eq!(started.elapsed(), HEAD_TIME_MAX, "{part:?}");
        assert_eq!(read_all(&mut client).await, "");
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_drip_do_not_prolong_the_time_for_a_head() {
    let (mut client, task) = connect(&server());
    let started = Instant::now();
    for byte in b"GET /ping HTTP/1.1\r\nHost: x\r\nLong: " {
        client.write_all(&[*byte]).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        if task.is_finished() {
            break;
        }
    }
    task.await.unwrap();
    assert!(started.elapsed() <= HEAD_TIME_MAX + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_stays_open_and_its_next_head_has_its_own_time() {
    let (mut client, task) = connect(&server());
    let started = Instant::now();
    client.write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert!(read_some(&mut client).await.ends_with("\r\n\r\nOK"));
    sleep(10 * HEAD_TIME_MAX).await;
    client.write_all(b"GET /ping HTTP/1.1\r\n").await.unwrap();
    sleep(HEAD_TIME_MAX - MOMENT).await;
    client.write_all(b"Host: x\r\n\r\n").await.unwrap();
    assert!(read_some(&mut client).await.ends_with("\r\n\r\nOK"));
    client.write_all(b"GET").await.unwrap();
    task.await.unwrap();
    assert!(started.elapsed() >= 12 * HEAD_TIME_MAX - 2 * MOMENT);
}

#[tokio::test(start_paused = true)]
async fn a_body_without_progress_is_answered_408_and_its_connection_closed() {
    for sent in [0, BODY_PROGRESS_BYTES - 1] {
        let (mut client, task) = connect(&server());
        let started = Instant::now();
        client.write_all(head(LIMIT_BYTES).as_bytes()).await.unwrap();
        client.write_all(&vec![b'x'; sent]).await.unwrap();
        let text = read_some(&mut client).await;
        assert_eq!(started.elapsed(), BODY_PROGRESS_TIME);
        assert!(text.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{text}");
        assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
        assert!(text.ends_with(r#"{"message":"BODY_TOO_SLOW"}"#), "{text}");
        task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_makes_progress_may_take_its_time() {
    let (mut client, _task) = connect(&server());
    let pieces = 20;
    client.write_all(head(pieces * BODY_PROGRESS_BYTES).as_bytes()).await.unwrap();
    for _ in 0..pieces {
        sleep(BODY_PROGRESS_TIME - MOMENT).await;
        client.write_all(&vec![b'x'; BODY_PROGRESS_BYTES]).await.unwrap();
    }
    let text = read_some(&mut client).await;
    assert!(text.ends_with(&format!("\r\n\r\n{}", pieces * BODY_PROGRESS_BYTES)), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_no_handler_reads_is_held_to_the_same_pace() {
    let router = Router::new().post("/ignore", async |_| Response::text("OK"));
    let (mut client, task) = connect(&Server::new(router, Logger::discard()));
    let started = Instant::now();
    let request = "POST /ignore HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let text = read_some(&mut client).await;
    assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
    assert_eq!(started.elapsed(), BODY_PROGRESS_TIME);
    task.await.unwrap();
}

/// A server with room for one large body, whose handler keeps the body until `gate` has a permit.
fn small_server(gate: &Arc<Semaphore>) -> Server {
    let gate = Arc::clone(gate);
    let router = Router::new().post("/size", move |mut request: Request| {
        let gate = Arc::clone(&gate);
        async move {
            let body = request.body_up_to(LIMIT_BYTES).await?;
            gate.acquire().await.unwrap().forget();
            Ok::<_, Error>(Response::text(body.len().to_string()))
        }
    });
    Server::new(router, Logger::discard()).with_bodies_bytes_max(LIMIT_BYTES / 2)
}

#[tokio::test(start_paused = true)]
async fn a_body_waits_until_there_is_memory_for_it() {
    let gate = Arc::new(Semaphore::new(0));
    let server = small_server(&gate);
    let body = vec![b'x'; LIMIT_BYTES];
    let (mut first, _task) = connect(&server);
    first.write_all(head(body.len()).as_bytes()).await.unwrap();
    first.write_all(&body).await.unwrap();
    let (mut second, _task) = connect(&server);
    second.write_all(head(body.len()).as_bytes()).await.unwrap();
    second.write_all(&body).await.unwrap();
    sleep(ROOM_TIME_MAX - MOMENT).await;
    gate.add_permits(2);
    for client in [&mut first, &mut second] {
        let text = read_some(client).await;
        assert!(text.ends_with(&format!("\r\n\r\n{LIMIT_BYTES}")), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_for_which_there_is_no_memory_in_time_is_answered_503() {
    let gate = Arc::new(Semaphore::new(0));
    let server = small_server(&gate);
    let body = vec![b'x'; LIMIT_BYTES / 2];
    let (mut first, _task) = connect(&server);
    first.write_all(head(body.len()).as_bytes()).await.unwrap();
    first.write_all(&body).await.unwrap();
    sleep(MOMENT).await;
    let started = Instant::now();
    let (mut second, _task) = connect(&server);
    second.write_all(head(body.len()).as_bytes()).await.unwrap();
    second.write_all(&body).await.unwrap();
    let text = read_some(&mut second).await;
    assert_eq!(started.elapsed(), ROOM_TIME_MAX);
    assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{text}");
    assert!(text.ends_with(r#"{"message":"TOO_MANY_BODIES"}"#), "{text}");
}

#[tokio::test(start_paused = true)]
async fn small_bodies_never_wait_for_large_ones() {
    let gate = Arc::new(Semaphore::new(0));
    let server = small_server(&gate);
    let (mut large, _task) = connect(&server);
    large.write_all(head(LIMIT_BYTES).as_bytes()).await.unwrap();
    large.write_all(&vec![b'x'; LIMIT_BYTES]).await.unwrap();
    sleep(MOMENT).await;
    let started = Instant::now();
    let (mut small, _task) = connect(&server);
    small.write_all((head(5) + "hello").as_bytes()).await.unwrap();
    gate.add_permits(2);
    assert!(read_some(&mut small).await.ends_with("\r\n\r\n5"));
    assert_eq!(started.elapsed(), Duration::ZERO);
}

/// A connection to `server`, over a pipe that holds a few bytes.
fn connect_narrowly(server: &Server) -> (DuplexStream, JoinHandle<()>) {
    let (client, io) = duplex(16);
    let server = server.clone();
    let task = tokio::spawn(async move {
        server.serve_connection(io, "@", &CancellationToken::new()).await;
    });
    (client, task)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_answer_is_given_up() {
    let (mut client, task) = connect_narrowly(&server());
    client.write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let started = Instant::now();
    task.await.unwrap();
    assert_eq!(started.elapsed(), ANSWER_STALL_TIME_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_client_may_read_its_answer_as_slowly_as_it_likes() {
    let (mut client, _task) = connect_narrowly(&server());
    client.write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nOK") {
        sleep(ANSWER_STALL_TIME_MAX - MOMENT).await;
        answer.push(client.read_u8().await.unwrap());
    }
}
