//! A server on a free port, and a client that sends exactly the bytes it is given.

use std::{sync::Arc, time::Duration};

use nsq_daemon::{
    http::{Error, Method, Request, Response, Route, Router, StatusCode, serve},
    log::{Capture, Level, Logger},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// The longest that a test waits for an event.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The largest body that `/pub` takes.
pub(crate) const BODY_BYTES_MAX: usize = 1000;

pub(crate) struct TestServer {
    pub(crate) address: String,
    pub(crate) log: Capture,
    pub(crate) shutdown: CancellationToken,
    /// One permit for each request to `/gate` that was started.
    pub(crate) started: Arc<Semaphore>,
    /// One permit lets one request to `/gate` end.
    pub(crate) gate: Arc<Semaphore>,
    pub(crate) finished: Arc<Semaphore>,
    pub(crate) task: JoinHandle<std::io::Result<()>>,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        let (started, gate, finished) =
            (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let signals = (Arc::clone(&started), Arc::clone(&gate), Arc::clone(&finished));
        let log = Capture::new();
        let logger = Logger::with_sink("[test] ", Level::Info, log.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(listener, routes(signals), logger, shutdown.clone()));
        Self { address, log, shutdown, started, gate, finished, task }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(&self.address).await.unwrap(), read: Vec::new() }
    }

    /// The answer to one request, with the lines of its head sorted out.
    pub(crate) async fn ask(&self, request: &str) -> Answer {
        let mut client = self.connect().await;
        client.send(request).await;
        client.answer().await
    }

    /// The lines of the access log, without the client's port and the duration.
    pub(crate) fn access_log(&self) -> Vec<String> {
        let texts = self.log.texts().into_iter().filter(|text| text.contains(" (127.0.0.1:"));
        texts.map(|text| text.split(" (").next().unwrap().to_owned()).collect()
    }
}

fn routes(signals: (Arc<Semaphore>, Arc<Semaphore>, Arc<Semaphore>)) -> Router {
    Router::new()
        .route(Route::new(Method::GET, "/ping", async |_| Response::text("OK")).unmarked())
        .route(Route::new(Method::POST, "/pub", publish).quiet())
        .get("/info", async |_| Response::json("{}"))
        .post("/topic/create", create)
        .get("/config/:opt", config)
        .put("/config/:opt", config)
        .get("/panic", async |_| -> Response { panic!("on purpose") })
        .post("/gate", move |_| {
            let (started, gate, finished) = signals.clone();
            async move {
                started.add_permits(1);
                gate.acquire().await.unwrap().forget();
                finished.add_permits(1);
                Response::text("passed")
            }
        })
}

async fn publish(mut request: Request) -> Result<Response, Error> {
    use nsq_daemon::http::BodyError;
    let body = request.body_up_to(BODY_BYTES_MAX).await.map_err(|error| match error {
        BodyError::TooBig { .. } => Error::new(StatusCode::PAYLOAD_TOO_LARGE, "MSG_TOO_BIG"),
        _ => Error::internal(),
    })?;
    let query = request.query()?;
    let topic = query.get("topic").ok_or_else(|| Error::bad_request("MISSING_ARG_TOPIC"))?;
    Ok(Response::text(format!("{topic}:{}", String::from_utf8_lossy(&body))))
}

async fn create(request: Request) -> Result<Response, Error> {
    request.query()?;
    Ok(Response::empty())
}

async fn config(request: Request) -> Response {
    Response::text(request.param("opt").to_owned())
}

pub(crate) struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status_line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header whose name is spelled exactly so.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Client {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    pub(crate) async fn close_write(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// The next answer, interim ones (100) included.
    pub(crate) async fn answer(&mut self) -> Answer {
        let head_end = loop {
            if let Some(at) = find(&self.read, b"\r\n\r\n") {
                break at;
            }
            assert_ne!(self.fill().await, 0, "closed after {:?}", self.text());
        };
        let head = String::from_utf8(self.read.drain(..head_end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().unwrap().to_owned();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut answer = Answer { status_line, headers, body: String::new() };
        let length: usize = answer.header("Content-Length").map_or(0, |n| n.parse().unwrap());
        while self.read.len() < length {
            if self.fill().await == 0 {
                break;
            }
        }
        let length = length.min(self.read.len());
        answer.body = String::from_utf8(self.read.drain(..length).collect()).unwrap();
        answer
    }

    /// Everything until the server closes.
    pub(crate) async fn read_to_end(&mut self) -> String {
        while self.fill().await > 0 {}
        self.text()
    }

    async fn fill(&mut self) -> usize {
        let read = self.stream.read_buf(&mut self.read);
        tokio::time::timeout(PATIENCE, read).await.expect("an answer in time").unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.read).into_owned()
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
