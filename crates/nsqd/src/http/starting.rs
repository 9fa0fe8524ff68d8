//! The HTTP port while the data folder is being opened.

use std::{io, os::fd::AsFd, pin::pin, time::Duration};

use nsq_daemon::{
    http::{self, Request, Response, Router, StatusCode},
    log::Logger,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::health::{LIVE, READY, live, unready};

/// The time that requests wait for a start before they are refused, so that a short one goes unnoticed.
const UNNOTICED: Duration = Duration::from_secs(1);

/// Refuses requests on `listener`, because nsqd is starting, until `opening` is done. If that is soon, they wait.
pub(crate) async fn serve_while<T>(
    listener: &TcpListener,
    logger: &Logger,
    opening: impl Future<Output = T>,
) -> T {
    let mut opening = pin!(opening);
    if let Ok(opened) = tokio::time::timeout(UNNOTICED, &mut opening).await {
        return opened;
    }
    let done = CancellationToken::new();
    let serving = async {
        let served = match duplicate(listener) {
            Ok(listener) => {
                let router = Router::new().gate(|request| Some(starting(request)));
                http::serve(listener, router, logger.clone(), done.clone()).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = served {
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

/// A second handle of a listening socket.
fn duplicate(listener: &TcpListener) -> io::Result<TcpListener> {
    TcpListener::from_std(listener.as_fd().try_clone_to_owned()?.into())
}

fn starting(request: &Request) -> Response {
    match request.path() {
        LIVE => live(),
        READY | "/ping" => unready("starting"),
        _ => Response::error(StatusCode::SERVICE_UNAVAILABLE, "STARTING"),
    }
}
