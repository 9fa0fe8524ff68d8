//! The paths of the Go runtime's profiler.
//!
//! There is no such runtime here: the command line and an empty symbol table are served, and a request for a profile is
//! answered with a hint to use an external profiler.

use std::sync::Arc;

use nsq_daemon::http::{Method, Request, Response, Route, StatusCode, header::HeaderValue};

use super::route::route;
use crate::directory::Directory;

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

const INDEX: &str = "\
<!DOCTYPE html>
<title>/debug/pprof</title>
<p>Profiles of a running nsqlookupd are taken from outside, for example with
<code>perf record -g -p PID</code>. Figures are at <a href=\"/metrics\">/metrics</a>, registrations at
<a href=\"/debug\">/debug</a>.
<ul>
<li><a href=\"/debug/pprof/cmdline\">cmdline</a>
<li><a href=\"/debug/pprof/symbol\">symbol</a>
</ul>
";

const NO_PROFILE: &str =
    "nsqlookupd does not profile itself; use a profiler of the system, such as perf\n";

pub(super) fn routes(directory: &Arc<Directory>) -> Vec<Route> {
    let mut routes = vec![
        route(directory, Method::GET, "/debug/pprof", index),
        route(directory, Method::GET, "/debug/pprof/cmdline", cmdline),
        route(directory, Method::GET, "/debug/pprof/symbol", symbol),
        route(directory, Method::POST, "/debug/pprof/symbol", symbol),
    ];
    for path in [
        "/debug/pprof/profile",
        "/debug/pprof/heap",
        "/debug/pprof/goroutine",
        "/debug/pprof/block",
        "/debug/pprof/threadcreate",
    ] {
        routes.push(route(directory, Method::GET, path, no_profile));
    }
    routes.into_iter().map(|route| route.unmarked().quiet()).collect()
}

async fn index(_: Arc<Directory>, _: Request) -> Response {
    Response::typed(HTML, INDEX)
}

/// The command line with a zero byte between its words, as profilers expect it.
async fn cmdline(_: Arc<Directory>, _: Request) -> Response {
    let words: Vec<_> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    Response::text(words.join("\0"))
}

async fn symbol(_: Arc<Directory>, _: Request) -> Response {
    Response::text("num_symbols: 0\n")
}

async fn no_profile(_: Arc<Directory>, _: Request) -> Response {
    Response::text(NO_PROFILE).with_status(StatusCode::NOT_IMPLEMENTED)
}
