//! The server: connections in, answers out.

use std::{
    convert::Infallible,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, StatusCode, Version,
    body::{Body as _, Incoming},
    header::{EXPECT, HOST},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use nsq_options::duration;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    body::{Leftover, Rest, discard},
    budget::Budget,
    intake::{BodyLengths, Intake},
    outlet::Outlet,
    path::{BadEscape, unescape},
    refusal::WithRefusalText,
    request::{Request, path_and_query},
    requests::BodyLength,
    response::{Error, IntoResponse, Response},
    router::{Found, Route, Router},
};
use crate::{
    log::{Level, Limited, Logger},
    net::{Admission, Gate, Listener, Permit, accept},
    panics::CatchPanic,
    text::Shortened,
};

/// The largest request head, its request line included; a larger one is refused with 431.
pub const HEAD_BYTES_MAX: usize = 64 << 10;

/// The most headers that a request may have; more are refused with 431.
pub const HEADERS_MAX: usize = 128;

/// The most bytes of a URI that the access log shows. The rest of its line follows in any case.
const URI_SHOWN_MAX: usize = 768;

/// How much of a body that no handler wanted is read, so that the connection can be used again.
const DISCARD_BYTES_MAX: u64 = 256 << 10;

/// How long a connection is read from after the last answer was sent on it. To close it with input unread would
/// make the operating system discard the part of the answer that the client has not taken yet.
const LINGER: Duration = Duration::from_millis(500);

/// The answer to a client that is not admitted, whatever it has sent.
const TOO_MANY_CONNECTIONS: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    Content-Type: application/json; charset=utf-8\r\n\
    X-Nsq-Content-Type: nsq; version=1.0\r\n\
    Connection: close\r\n\
    Content-Length: 34\r\n\r\n\
    {\"message\":\"TOO_MANY_CONNECTIONS\"}";

/// Serves HTTP until `shutdown` is cancelled and the requests that are then being served are answered.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: impl Listener,
    router: impl Into<Arc<Router>>,
    log: Logger,
    shutdown: CancellationToken,
) -> io::Result<()> {
    Server::new(router, log).serve(listener, shutdown).await
}

/// Routes and log of an HTTP server. Clones share both, so one can serve several listeners.
#[derive(Debug, Clone)]
pub struct Server {
    router: Arc<Router>,
    log: Logger,
    /// For lines about requests and connections.
    access: Limited,
    protocol: &'static str,
    bodies: Budget,
    admission: Admission,
}

impl Server {
    /// A server that calls itself `HTTP` in the log.
    pub fn new(router: impl Into<Arc<Router>>, log: Logger) -> Self {
        let access = Limited::to_all(&log, "HTTP");
        Self {
            router: router.into(),
            log,
            access,
            protocol: "HTTP",
            bodies: Budget::default(),
            admission: Admission::unlimited(),
        }
    }

    /// Changes how much memory the bodies of all requests may take together. One body may always be read, however
    /// large.
    #[must_use]
    pub fn with_bodies_bytes_max(mut self, bytes: usize) -> Self {
        self.bodies = Budget::new(bytes);
        self
    }

    /// Bounds the connections that are served at a time. One that is not admitted is answered 503; over TLS it is closed.
    #[must_use]
    pub fn with_admission(mut self, admission: Admission) -> Self {
        self.admission = admission;
        self
    }

    /// Changes the name of the server in the log.
    #[must_use]
    pub fn named(mut self, protocol: &'static str) -> Self {
        self.protocol = protocol;
        self.access = Limited::to_all(&self.log, protocol);
        self
    }

    /// Serves HTTP until `shutdown` is cancelled and the requests that are then being served are answered.
    /// Connections that wait for a request are closed. Dropping the future ends all connections at once.
    ///
    /// # Errors
    /// When the listener fails for good; a shortage of descriptors or memory is waited out.
    pub async fn serve<L: Listener>(
        self,
        listener: L,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let mut connections = JoinSet::new();
        let gate = Gate {
            protocol: self.protocol,
            admission: &self.admission,
            refusal: TOO_MANY_CONNECTIONS,
        };
        let outcome = accept(gate, listener, &self.log, &shutdown, |accepted, remote, permit| {
            // Connections that have ended are dropped when another one comes.
            while connections.try_join_next().is_some() {}
            let (server, remote) = (self.clone(), remote.to_string());
            connections.spawn(server.connection::<L>(accepted, remote, permit, shutdown.clone()));
        });
        let outcome = outcome.await;
        while connections.join_next().await.is_some() {}
        outcome
    }

    async fn connection<L: Listener>(
        self,
        accepted: L::Accepted,
        remote: String,
        _permit: Permit,
        shutdown: CancellationToken,
    ) {
        let established = tokio::select! {
            () = shutdown.cancelled() => return,
            established = L::establish(accepted) => established,
        };
        match established {
            Ok(io) => self.serve_connection(io, &remote, &shutdown).await,
            Err(error) => {
                // A client that no handshake is possible with is a matter for an operator; one that is gone is not.
                let is_refused = error.kind() == io::ErrorKind::InvalidData;
                let level = if is_refused { Level::Warn } else { Level::Debug };
                let line = format_args!("{}: [{remote}] {error}", self.protocol);
                self.access.log(level, "failed connections", line);
            }
        }
    }

    /// Serves one connection until the client closes it, or until `shutdown` is cancelled and the request that is
    /// then being served is answered.
    pub async fn serve_connection<T>(&self, mut io: T, remote: &str, shutdown: &CancellationToken)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let remote: Arc<str> = remote.into();
        let unread = AtomicBool::new(false);
        let lengths = BodyLengths::default();
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let length = request.body().size_hint().exact();
            lengths.tell(length.map_or(BodyLength::Chunked, BodyLength::Bytes));
            let answering = self.answer(request, Arc::clone(&remote), &unread);
            async move { Ok::<_, Infallible>(answering.await) }
        });
        let intake = Intake::new(WithRefusalText::new(Outlet::new(&mut io)), lengths.clone());
        // Half-closed connections are served: a client may send its request, close its half and wait. It also
        // keeps handlers from being dropped when the client goes away.
        let connection = http1::Builder::new()
            .half_close(true)
            .title_case_headers(true)
            .max_headers(HEADERS_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(intake), service);
        let mut connection = pin!(connection);
        let outcome = tokio::select! {
            biased;
            outcome = connection.as_mut() => outcome,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        let refused = match &outcome {
            Ok(()) => false,
            Err(error) => {
                let line = format_args!("{}: [{remote}] {error}", self.protocol);
                self.access.log(Level::Debug, "failed connections", line);
                error.is_parse()
            }
        };
        if refused || unread.load(Ordering::Relaxed) {
            linger(io).await;
        }
    }

    async fn answer(
        &self,
        request: hyper::Request<Incoming>,
        remote: Arc<str>,
        unread: &AtomicBool,
    ) -> hyper::Response<Full<Bytes>> {
        let expects_continue = request.headers().contains_key(EXPECT);
        let leftover = Leftover::default();
        let mut response = self.dispatch(request, remote, &leftover).await;
        let is_read = match leftover.take() {
            None => true,
            // A client that waits for a go-ahead it will not get sends nothing that could be read.
            Some(Rest::Coming(rest)) => !expects_continue && discard(rest, DISCARD_BYTES_MAX).await,
            Some(Rest::Overdue) => false,
        };
        if !is_read {
            unread.store(true, Ordering::Relaxed);
            response = response.closing();
        }
        response.into_hyper()
    }

    async fn dispatch(
        &self,
        request: hyper::Request<Incoming>,
        remote: Arc<str>,
        leftover: &Leftover,
    ) -> Response {
        if let Some(refusal) = refuse_head(&request) {
            return refusal;
        }
        let Ok(path) = unescape(request.uri().path(), false).map_err(|BadEscape| ()) else {
            return Response::malformed("400 Bad Request");
        };
        let body = (leftover.clone(), self.bodies.clone());
        let request = Request::new(request, path, remote, body);
        if let Some(refusal) = self.router.refuse(&request) {
            return refusal.marked();
        }
        match self.router.find(request.method(), request.path()) {
            Found::Route(route, params) => self.run(route, params, request).await,
            Found::Elsewhere(path) if request.method() != Method::CONNECT => {
                let query = request.uri().find('?').map_or("", |at| &request.uri()[at..]);
                Response::redirect(&format!("{path}{query}"), request.method() == Method::GET)
            }
            Found::OtherMethods(methods) if request.method() == Method::OPTIONS => {
                Response::empty().allowing(&methods)
            }
            Found::OtherMethods(methods) => {
                let error = Error::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED");
                self.refuse(&request, error).allowing(&methods)
            }
            Found::Elsewhere(_) | Found::Nothing => {
                self.refuse(&request, Error::not_found("NOT_FOUND"))
            }
        }
    }

    async fn run(
        &self,
        route: &Route,
        params: Vec<(&'static str, String)>,
        mut request: Request,
    ) -> Response {
        request.set_params(params);
        let started = now();
        let access =
            (!route.is_quiet() && self.log.is_enabled(Level::Info)).then(|| Access::of(&request));
        let response = match CatchPanic::new(route.call(request)).await {
            Ok(response) => response,
            Err(text) => {
                self.access.error("panics", format_args!("panic in HTTP handler - {text}"));
                Error::internal().into_response()
            }
        };
        if let Some(access) = access {
            access.write(&self.access, response.status(), started);
        }
        if route.is_marked() { response.marked() } else { response }
    }

    fn refuse(&self, request: &Request, error: Error) -> Response {
        Access::of(request).write(&self.access, error.status, now());
        error.into_response().marked()
    }
}

/// The parts of a request that the access log needs after a handler has consumed it.
struct Access {
    method: Method,
    uri: String,
    remote: String,
}

impl Access {
    fn of(request: &Request) -> Self {
        Self {
            method: request.method().clone(),
            uri: Shortened(request.uri(), URI_SHOWN_MAX).to_string(),
            remote: request.remote().to_owned(),
        }
    }

    fn write(&self, log: &Limited, status: StatusCode, started: Instant) {
        let Self { method, uri, remote } = self;
        let elapsed = duration::format(now() - started);
        // By answer, so that a flood of requests that fail does not hide those that do not.
        let kind = status.canonical_reason().unwrap_or("other requests");
        log.info(kind, format_args!("{} {method} {uri} ({remote}) {elapsed}", status.as_u16()));
    }
}

/// Refuses requests that no route should see.
fn refuse_head(request: &hyper::Request<Incoming>) -> Option<Response> {
    let hosts = request.headers().get_all(HOST).iter().count();
    if request.version() == Version::HTTP_11 && hosts == 0 {
        return Some(Response::malformed("400 Bad Request: missing required Host header"));
    }
    if hosts > 1 {
        return Some(Response::malformed("400 Bad Request: too many Host headers"));
    }
    if let Some(expectation) = request.headers().get(EXPECT)
        && !expectation.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return Some(Response::empty().with_status(StatusCode::EXPECTATION_FAILED).closing());
    }
    // The server as a whole, not a path.
    (request.method() == Method::OPTIONS && path_and_query(request.uri()) == "*")
        .then(Response::empty)
}

/// Ends a connection on which the client is still sending, so that it can take the last answer.
async fn linger(mut io: impl AsyncRead + AsyncWrite + Unpin) {
    let drained = async {
        // Over TLS, this takes a client that reads.
        let _ = io.shutdown().await;
        let mut scratch = vec![0; 16 << 10];
        while matches!(io.read(&mut scratch).await, Ok(1..)) {}
    };
    // A client that still sends after that time loses its answer.
    let _ = tokio::time::timeout(LINGER, drained).await;
}

#[expect(clippy::disallowed_methods, reason = "the access log tells how long an answer took")]
fn now() -> Instant {
    Instant::now()
}
