//! The paths of Go's profiler, with the figures that this process can give.
//!
//! A CPU profile tells the CPU time of each thread, by its name; the profiles of the heap, of tasks (Go's goroutines)
//! and of threads tell how many there are of what. No profile has stacks: to walk them in a signal handler would put a
//! running daemon at risk, and a profiler of the system does it from outside, for example `perf record -g -p PID`.

mod profile;
mod sources;

use std::time::Duration;

use self::profile::Profile;
use crate::{
    http::{
        Error, Handler, Method, Query, Request, Response, Route, StatusCode,
        header::{CONTENT_DISPOSITION, HeaderValue, X_CONTENT_TYPE_OPTIONS},
    },
    tasks::Tasks,
};

/// The length of a CPU profile that does not ask for one.
const SECONDS_DEFAULT: u64 = 30;
/// The longest CPU profile.
const SECONDS_MAX: u64 = 3600;

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");

const INDEX: &str = "\
<!DOCTYPE html>
<title>/debug/pprof</title>
<p>Profiles for <code>go tool pprof</code>, or as text with <code>?debug=1</code>. They have no stacks: take those from
outside, for example with <code>perf record -g -p PID</code>.
<ul>
<li><a href=\"/debug/pprof/profile?seconds=5\">profile</a>: CPU time of each thread
<li><a href=\"/debug/pprof/heap?debug=1\">heap</a>: memory by its kind
<li><a href=\"/debug/pprof/goroutine?debug=1\">goroutine</a>: tasks by name
<li><a href=\"/debug/pprof/threadcreate?debug=1\">threadcreate</a>: threads by name
<li><a href=\"/debug/pprof/block?debug=1\">block</a>: nothing, as waiting is not recorded
<li><a href=\"/debug/pprof/cmdline\">cmdline</a>
<li><a href=\"/debug/pprof/symbol\">symbol</a>
</ul>
";

/// The routes, with the index at `index`. Go's goroutines are `tasks` here.
pub fn routes(index: &'static str, tasks: &Tasks) -> Vec<Route> {
    let tasks = tasks.clone();
    vec![
        route(Method::GET, index, async |_| Response::typed(HTML, INDEX)),
        route(Method::GET, "/debug/pprof/cmdline", cmdline),
        route(Method::GET, "/debug/pprof/symbol", symbol),
        route(Method::POST, "/debug/pprof/symbol", symbol),
        route(Method::GET, "/debug/pprof/profile", cpu),
        snapshot("/debug/pprof/heap", sources::memory),
        snapshot("/debug/pprof/goroutine", move || sources::tasks(&tasks)),
        snapshot("/debug/pprof/threadcreate", sources::threads),
        snapshot("/debug/pprof/block", sources::waiting),
    ]
}

fn route(method: Method, path: &'static str, handler: impl Handler) -> Route {
    Route::new(method, path, handler).unmarked().quiet()
}

/// A route of a profile that is there at once.
fn snapshot(path: &'static str, take: impl Fn() -> Profile + Send + Sync + 'static) -> Route {
    route(Method::GET, path, move |request: Request| {
        let profile = take();
        async move {
            let query = request.query().unwrap_or_default();
            match query.get("debug").map(str::parse::<u64>) {
                Some(Ok(1..)) => plain(profile.text()),
                _ => download(&profile),
            }
        }
    })
}

/// The command line with a zero byte between its words, as profilers expect it.
async fn cmdline(_: Request) -> Response {
    let words: Vec<_> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    plain(words.join("\0"))
}

/// No symbol has to be looked up: profiles carry their names.
async fn symbol(_: Request) -> Response {
    plain("num_symbols: 0\n".to_owned())
}

async fn cpu(request: Request) -> Result<Response, Error> {
    let duration = cpu_duration(&request.query().unwrap_or_default())?;
    let before = sources::cpu_times();
    tokio::time::sleep(duration).await;
    Ok(download(&sources::cpu(&before, &sources::cpu_times(), duration)))
}

/// A length that is no positive number is the default, as in Go.
fn cpu_duration(query: &Query) -> Result<Duration, Error> {
    let seconds = query.get("seconds").and_then(|seconds| seconds.parse().ok());
    match seconds.unwrap_or(SECONDS_DEFAULT) {
        0 => Ok(Duration::from_secs(SECONDS_DEFAULT)),
        seconds if seconds > SECONDS_MAX => {
            Err(Error::new(StatusCode::BAD_REQUEST, "PROFILE_TOO_LONG"))
        }
        seconds => Ok(Duration::from_secs(seconds)),
    }
}

fn plain(text: String) -> Response {
    Response::text(text).with_header(X_CONTENT_TYPE_OPTIONS, NO_SNIFF)
}

fn download(profile: &Profile) -> Response {
    let disposition = format!("attachment; filename=\"{}\"", profile.name);
    let disposition = HeaderValue::from_str(&disposition).expect("names of profiles are words");
    Response::typed(BINARY, profile.encode())
        .with_header(CONTENT_DISPOSITION, disposition)
        .with_header(X_CONTENT_TYPE_OPTIONS, NO_SNIFF)
}
