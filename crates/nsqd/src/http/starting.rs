//! The HTTP port while the data folder is being opened.

use std::{pin::pin, time::Duration};

use nsq_daemon::{
    http::{self, Request, Response, Router, StatusCode},
    log::Logger,
    net::AnyListener,
};
use tokio_util::sync::CancellationToken;

use super::health::{LIVE, READY, live, unready};

/// The time that requests wait for a start before they are refused, so that a short one goes unnoticed.
const UNNOTICED: Duration = Duration::from_secs(1);

/// Refuses requests on `listener`, because nsqd is starting, until `opening` is done. If that is soon, they wait.
pub(crate) async fn serve_while<T>(
    listener: &AnyListener,
    logger: &Logger,
    opening: impl Future<Output = T>,
) -> T {
    let mut opening = pin!(opening);
    if let Ok(opened) = tokio::time::timeout(UNNOTICED, &mut opening).await {
        return opened;
    }
    let done = CancellationToken::new();
    let serving = async {
        let router = Router::new().gate(|request| Some(starting(request)));
        let served = http::serve(listener.clone(), router, logger.clone(), done.clone());
        if let Err(error) = served.await {
            logger.warn(format_args!("HTTP: not served while starting - {error}"));
        }
    };
    let opening = async {
        let opened = opening.await;
        done.cancel();
        opened
    };
    tokio::join!(opening, serving).0
}

fn starting(request: &Request) -> Response {
    match request.path() {
        LIVE => live(),
        READY | "/ping" => unready("starting"),
        _ => Response::error(StatusCode::SERVICE_UNAVAILABLE, "STARTING"),
    }
}
