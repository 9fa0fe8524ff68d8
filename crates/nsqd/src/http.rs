//! The HTTP API of NSQ: publishing, administration, statistics.

mod admin;
mod args;
mod config;
mod debug;
mod gate;
mod health;
mod metrics;
mod publish;
pub(crate) mod starting;
mod stats;

use std::{future::Future, sync::Arc};

use nsq_daemon::{
    http::{
        Error, Handler, IntoResponse, Method, Request, Response, Route, Router, Server, StatusCode,
    },
    json::escape_html,
    net::host_name,
    tasks::Tasks,
};
use serde::Serialize;
use tokio::task::JoinError;

use self::{
    config::Config,
    gate::{Gate, Slot},
    stats::{Filter, Stats},
};
use crate::{
    VERSION,
    lookup::Lookup,
    meters::Limit,
    node::{Node, network::bodies_bytes_max},
    options::TlsRequired,
};

/// The answers to `/stats` that are made at a time.
const STATS_AT_ONCE: usize = 2;

/// The routes of nsqd. `/info` shows the ports, which are the ones nsqd listens on: -1 for a unix socket, 0 for none.
pub(crate) fn router(
    node: Arc<Node>,
    lookup: Arc<Lookup>,
    tcp_port: i32,
    http_port: i32,
    tasks: &Tasks,
) -> Router {
    let config = Arc::new(Config { node: node.clone(), lookup });
    let statistics = Arc::new(Statistics { node: node.clone(), gate: Gate::new(STATS_AT_ONCE) });
    let info = move |node: Arc<Node>, _: Request| async move { info(&node, tcp_port, http_port) };
    let router = Router::new()
        .get("/info", on(&node, info))
        .get("/stats", on(&statistics, stats))
        .route(Route::new(Method::GET, "/metrics", on(&node, metrics::show)).unmarked().quiet())
        .route(Route::new(Method::POST, "/pub", on(&node, publish::one)).quiet())
        .route(Route::new(Method::POST, "/mpub", on(&node, publish::many)).quiet())
        .post("/topic/create", on(&node, admin::create_topic))
        .post("/topic/delete", on(&node, admin::delete_topic))
        .post("/topic/empty", on(&node, admin::empty_topic))
        .post("/topic/pause", on(&node, admin::pause_topic))
        .post("/topic/unpause", on(&node, admin::unpause_topic))
        .post("/channel/create", on(&node, admin::create_channel))
        .post("/channel/delete", on(&node, admin::delete_channel))
        .post("/channel/empty", on(&node, admin::empty_channel))
        .post("/channel/pause", on(&node, admin::pause_channel))
        .post("/channel/unpause", on(&node, admin::unpause_channel))
        .get("/config/:opt", on(&config, config::show))
        .put("/config/:opt", on(&config, config::change));
    let probes = [health::ping_route(&node)].into_iter().chain(health::probe_routes(&node));
    probes.chain(debug::routes(tasks)).fold(router, Router::route)
}

/// The servers of the API: the one in the clear and the one over TLS. If clients of HTTP must use TLS, the former answers
/// probes only, and tells others the port to use.
pub(crate) fn servers(node: &Arc<Node>, router: Router, https_port: u16) -> (Server, Server) {
    let logger = &node.services.logger;
    let bodies_bytes_max = bodies_bytes_max(&node.services.options.shares);
    let server = Server::new(router, logger.clone()).with_bodies_bytes_max(bodies_bytes_max);
    let in_clear = match node.services.options.tls.required {
        TlsRequired::No | TlsRequired::ExceptHttp => server.clone(),
        TlsRequired::Yes => {
            let probes = health::probe_routes(node).into_iter().fold(Router::new(), Router::route);
            let gate = move |request: &Request| {
                (!health::is_probe(request)).then(|| tls_required(https_port))
            };
            Server::new(probes.gate(gate), logger.clone())
        }
    };
    (in_clear, server.named("HTTPS"))
}

fn tls_required(https_port: u16) -> Response {
    let body = format!(r#"{{"message": "TLS_REQUIRED", "https_port": {https_port}}}"#);
    Response::json(body).with_status(StatusCode::FORBIDDEN)
}

/// Makes a handler out of a function that takes `state` and the request.
fn on<S, F, Fut>(state: &Arc<S>, handler: F) -> impl Handler + use<S, F, Fut>
where
    S: Send + Sync + 'static,
    F: Fn(Arc<S>, Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: IntoResponse> + Send + 'static,
{
    let state = Arc::clone(state);
    move |request| handler(Arc::clone(&state), request)
}

/// Runs work that may wait for the disk on a thread that may block.
async fn blocking<T: Send + 'static>(
    node: &Arc<Node>,
    work: impl FnOnce(&Arc<Node>) -> T + Send + 'static,
) -> Result<T, Error> {
    let worker = Arc::clone(node);
    let done = tokio::task::spawn_blocking(move || work(&worker)).await;
    done.map_err(|panic| panicked(node, &panic))
}

fn panicked(node: &Node, panic: &JoinError) -> Error {
    node.services.logger.error(format_args!("panic in HTTP handler - {panic}"));
    Error::internal()
}

fn json(value: &impl Serialize) -> Result<Response, Error> {
    let json = serde_json::to_vec(value).map_err(|_| Error::internal())?;
    Ok(Response::json(escape_html(json)))
}

#[derive(Serialize)]
struct Info<'a> {
    version: &'a str,
    broadcast_address: &'a str,
    hostname: String,
    http_port: i32,
    tcp_port: i32,
    start_time: u64,
    /// In nanoseconds, like all durations here.
    max_heartbeat_interval: u128,
    max_output_buffer_size: i64,
    max_output_buffer_timeout: u128,
    max_deflate_level: i64,
    topology_zone: &'a str,
    topology_region: &'a str,
    /// The random id of the data folder, in hex.
    data_id: String,
    /// Counts the starts on this folder that were the first or followed a crash.
    incarnation: u32,
}

fn info(node: &Node, tcp_port: i32, http_port: i32) -> Result<Response, Error> {
    let options = &node.services.options;
    json(&Info {
        version: VERSION,
        broadcast_address: &options.broadcast_address,
        hostname: host_name(),
        http_port,
        tcp_port,
        start_time: node.services.clock.start_seconds(),
        max_heartbeat_interval: options.max_heartbeat_interval.as_nanos(),
        max_output_buffer_size: options.max_output_buffer_size,
        max_output_buffer_timeout: options.max_output_buffer_timeout.as_nanos(),
        max_deflate_level: options.max_deflate_level,
        topology_zone: &options.topology_zone,
        topology_region: &options.topology_region,
        data_id: node.data_id(),
        incarnation: node.incarnation(),
    })
}

/// The figures of `/stats`, of which only so many are collected at a time: with many clients they take much memory.
struct Statistics {
    node: Arc<Node>,
    /// Keyed by the filter and by the format: true for JSON.
    gate: Gate<(Filter, bool), Response>,
}

async fn stats(statistics: Arc<Statistics>, request: Request) -> Result<Response, Error> {
    let query = request.query()?;
    let text = |key| query.get(key).filter(|value| !value.is_empty()).map(str::to_owned);
    let flag = |key| query.get(key).and_then(args::boolean).unwrap_or(true);
    let filter = Filter {
        topic: text("topic"),
        channel: text("channel"),
        clients: flag("include_clients"),
        memory: flag("include_mem"),
    };
    let as_json = query.get("format") == Some("json");
    let Statistics { node, gate } = &*statistics;
    if gate.is_full() {
        node.services.meters.reached(Limit::Stats);
        let line = format_args!("HTTP: /stats for {} waits for others", request.remote());
        node.services.clients_log.info("statistics that wait", line);
    }
    let asked = filter.clone();
    let collect = async move |slot| {
        let collect = move |node: &Arc<Node>| {
            let _slot: Slot = slot;
            let stats = Stats::collect(node, &asked);
            if as_json { json(&stats) } else { Ok(Response::text(stats.to_string())) }
        };
        blocking(node, collect).await?
    };
    gate.get((filter, as_json), collect).await
}

/// The answer when a limit keeps something from being created, which trying again does not change.
fn too_many(message: &'static str) -> Error {
    Error::new(StatusCode::INSUFFICIENT_STORAGE, message)
}
