//! `/ping`, `/live` and `/ready`: the questions of probes.
//!
//! A node is live as long as it answers. It is ready when clients should be sent to it: not while it starts or stops, and
//! not while its disk is full or fails, which no restart would mend. `/ping` is NSQ's and fails with the disk; a probe
//! that restarts nodes should ask `/live`.

use std::sync::Arc;

use nsq_daemon::http::{Method, Request, Response, Route, StatusCode};

use super::on;
use crate::node::Node;

pub(super) const LIVE: &str = "/live";
pub(super) const READY: &str = "/ready";
/// The answer of a node without trouble.
const HEALTHY: &str = "OK";

/// The probe that NSQ has too.
pub(super) fn ping_route(node: &Arc<Node>) -> Route {
    Route::new(Method::GET, "/ping", on(node, ping)).unmarked()
}

/// The probes that are answered in the clear even if TLS is required: those who ask have no client certificate.
pub(super) fn probe_routes(node: &Arc<Node>) -> [Route; 2] {
    let live = Route::new(Method::GET, LIVE, async |_| live());
    let ready = Route::new(Method::GET, READY, on(node, ready));
    [live.unmarked().quiet(), ready.unmarked().quiet()]
}

/// Returns whether a request is for one of [`probe_routes`].
pub(super) fn is_probe(request: &Request) -> bool {
    request.method() == Method::GET && [LIVE, READY].contains(&request.path())
}

async fn ping(node: Arc<Node>, _: Request) -> Response {
    let health = node.services.health.status();
    let status = if health == HEALTHY { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    Response::text(health).with_status(status)
}

async fn ready(node: Arc<Node>, _: Request) -> Response {
    if node.is_stopping() {
        return unready("stopping");
    }
    let health = node.services.health.status();
    let status = if health == HEALTHY { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Response::text(health).with_status(status)
}

/// The answer of a node that is `starting` or `stopping`.
pub(super) fn unready(state: &str) -> Response {
    Response::text(format!("NOK - {state}")).with_status(StatusCode::SERVICE_UNAVAILABLE)
}

/// The answer of every node.
pub(super) fn live() -> Response {
    Response::text(HEALTHY)
}
