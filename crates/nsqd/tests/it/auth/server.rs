//! An auth server that answers as it is told and records what it is asked.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
};

use nsq_daemon::{
    http::{Error, Method, Request, Response, Route, Router, Server, StatusCode},
    log::Logger,
    tls::{HttpsListener, ServerTls},
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use crate::support::PATIENCE;

/// Everything is allowed, for an hour.
pub(super) const ANYTHING: &str = r#"{"ttl":3600,"identity":"me","identity_url":"http://me","authorizations":[{"topic":".*","channels":[".*"],"permissions":["subscribe","publish"]}]}"#;

/// An answer that allows this, for an hour.
pub(super) fn allowing(topic: &str, channels: &str, permissions: &str) -> String {
    allowing_for(3600, topic, channels, permissions)
}

pub(super) fn allowing_for(ttl: i64, topic: &str, channels: &str, permissions: &str) -> String {
    format!(
        r#"{{"ttl":{ttl},"authorizations":[{{"topic":"{topic}","channels":{channels},"permissions":{permissions}}}]}}"#
    )
}

/// The reaction of an auth server to a request.
#[derive(Clone)]
pub(super) enum Reaction {
    Answer(String),
    Fail(StatusCode, String),
    /// It allows anything, after [`AuthServer::release`].
    Hang,
}

/// A request that an auth server got.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    /// The path and query.
    pub(super) target: String,
    pub(super) accept: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) body: String,
}

pub(super) struct AuthServer {
    address: SocketAddr,
    reaction: Arc<Mutex<Reaction>>,
    /// One permit lets go one request that hangs.
    gate: Arc<Semaphore>,
    asked: Receiver<Asked>,
    stop: CancellationToken,
}

impl AuthServer {
    /// Starts a server that answers every request in the same way, on `/auth` and `/other`.
    pub(super) fn start(reaction: Reaction) -> Self {
        Self::start_with(reaction, None)
    }

    /// Starts a server that allows anything, over HTTPS.
    pub(super) fn over(tls: ServerTls) -> Self {
        Self::start_with(Reaction::Answer(ANYTHING.to_owned()), Some(tls))
    }

    fn start_with(reaction: Reaction, tls: Option<ServerTls>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let reaction = Arc::new(Mutex::new(reaction));
        let (asks, asked) = channel();
        let gate = Arc::new(Semaphore::new(0));
        let router = router(&reaction, &gate, &asks);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        std::thread::spawn(move || run(listener, tls, router, &stopped));
        Self { address, reaction, gate, asked, stop }
    }

    pub(super) fn answering(answer: impl Into<String>) -> Self {
        Self::start(Reaction::Answer(answer.into()))
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The address, as an option of nsqd.
    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(super) fn will(&self, reaction: Reaction) {
        *self.reaction.lock().unwrap() = reaction;
    }

    /// Lets one request that hangs have its answer.
    pub(super) fn release(&self) {
        self.gate.add_permits(1);
    }

    /// The next request.
    pub(super) fn asked(&self) -> Asked {
        self.asked.recv_timeout(PATIENCE).unwrap()
    }

    /// The number of requests that were not looked at.
    pub(super) fn others(&self) -> usize {
        self.asked.try_iter().count()
    }
}

impl Drop for AuthServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn run(
    listener: std::net::TcpListener,
    tls: Option<ServerTls>,
    router: Router,
    stop: &CancellationToken,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let (server, never) = (Server::new(router, Logger::discard()), CancellationToken::new());
        let serving = async {
            match tls {
                None => server.serve(listener, never).await,
                Some(tls) => server.serve(HttpsListener::new(listener, tls), never).await,
            }
        };
        // Requests that are never answered end with the runtime.
        tokio::select! {
            served = serving => served.unwrap(),
            () = stop.cancelled() => {}
        }
    });
}

fn router(reaction: &Arc<Mutex<Reaction>>, gate: &Arc<Semaphore>, asks: &Sender<Asked>) -> Router {
    let mut router = Router::new();
    for method in [Method::GET, Method::POST] {
        for path in ["/auth", "/other"] {
            let (reaction, gate, asks) = (reaction.clone(), gate.clone(), asks.clone());
            let handler =
                move |request| react(request, reaction.clone(), gate.clone(), asks.clone());
            router = router.route(Route::new(method.clone(), path, handler));
        }
    }
    router
}

async fn react(
    mut request: Request,
    reaction: Arc<Mutex<Reaction>>,
    gate: Arc<Semaphore>,
    asks: Sender<Asked>,
) -> Result<Response, Error> {
    let body = request.body_up_to(1 << 20).await.map_err(|_| Error::bad_request("BODY"))?;
    let header = |name| request.header(name).map(str::to_owned);
    // The test may be over.
    let _ = asks.send(Asked {
        method: request.method().clone(),
        target: request.uri().to_owned(),
        accept: header("accept"),
        content_type: header("content-type"),
        body: String::from_utf8(body.to_vec()).unwrap(),
    });
    let reaction = reaction.lock().unwrap().clone();
    match reaction {
        Reaction::Answer(answer) => Ok(Response::json(answer)),
        Reaction::Fail(status, body) => Ok(Response::text(body).with_status(status)),
        Reaction::Hang => {
            gate.acquire().await.unwrap().forget();
            Ok(Response::json(ANYTHING))
        }
    }
}
