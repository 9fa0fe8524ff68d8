//! The HTTP ports while the data folder is being opened.

use std::{pin::pin, time::Duration};

use nsq_daemon::{
    http::{Request, Response, Router, Server, StatusCode},
    log::Logger,
    net::{Admission, AnyListener, Listener},
    tls::HttpsListener,
};
use tokio_util::sync::CancellationToken;

use super::health::{LIVE, READY, live, unready};

/// The time that requests wait for a start before they are refused, so that a short one goes unnoticed.
const UNNOTICED: Duration = Duration::from_secs(1);

/// Refuses requests on the listeners, because nsqd is starting, until `opening` is done. If that is soon, they wait.
pub(crate) async fn serve_while<T>(
    http: Option<&AnyListener>,
    https: Option<&HttpsListener>,
    admission: &Admission,
    logger: &Logger,
    opening: impl Future<Output = T>,
) -> T {
    let mut opening = pin!(opening);
    if let Ok(opened) = tokio::time::timeout(UNNOTICED, &mut opening).await {
        return opened;
    }
    let done = CancellationToken::new();
    let router = Router::new().gate(|request| Some(starting(request)));
    let server = Server::new(router, logger.clone()).with_admission(admission.clone());
    let in_clear = serve("HTTP", server.clone(), http, logger, &done);
    let over_tls = serve("HTTPS", server, https, logger, &done);
    let opening = async {
        let opened = opening.await;
        done.cancel();
        opened
    };
    tokio::join!(opening, in_clear, over_tls).0
}

async fn serve(
    protocol: &'static str,
    server: Server,
    listener: Option<&(impl Listener + Clone)>,
    logger: &Logger,
    done: &CancellationToken,
) {
    let Some(listener) = listener.cloned() else { return };
    if let Err(error) = server.named(protocol).serve(listener, done.clone()).await {
        logger.warn(format_args!("{protocol}: not served while starting - {error}"));
    }
}

fn starting(request: &Request) -> Response {
    match request.path() {
        LIVE => live(),
        READY | "/ping" => unready("starting"),
        _ => Response::error(StatusCode::SERVICE_UNAVAILABLE, "STARTING"),
    }
}
