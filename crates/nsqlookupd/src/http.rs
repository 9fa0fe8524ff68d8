//! The HTTP API: discovery for consumers, administration for operators.

mod admin;
mod answer;
mod route;

use std::sync::Arc;

use nsq_broker::registry::Registry;
use nsq_daemon::{
    http::{Error, Method, Request, Response, Router},
    metrics::Page,
    pprof,
    tasks::Tasks,
};

use self::route::{blocking, counted, route, topic_text};
use crate::{VERSION, directory::Directory};

/// Stands for all topics in read-only requests.
const ALL_TOPICS: &str = "*";

/// The routes of nsqlookupd.
pub(crate) fn router(directory: &Arc<Directory>, tasks: &Tasks) -> Router {
    let mut router = Router::new()
        .route(route(directory, Method::GET, "/ping", ping).unmarked())
        .route(route(directory, Method::GET, "/info", info))
        .route(route(directory, Method::GET, "/topics", topics))
        .route(route(directory, Method::GET, "/channels", channels))
        .route(route(directory, Method::GET, "/lookup", lookup))
        .route(route(directory, Method::GET, "/nodes", nodes))
        .route(route(directory, Method::GET, "/debug", debug))
        .route(route(directory, Method::GET, "/metrics", metrics).unmarked().quiet());
    for route in admin::routes(directory) {
        router = router.route(route);
    }
    for route in pprof::routes("/debug/pprof", tasks) {
        router = router.route(counted(directory, route));
    }
    router
}

async fn ping(_: Arc<Directory>, _: Request) -> Response {
    Response::text("OK")
}

async fn info(_: Arc<Directory>, _: Request) -> Result<Response, Error> {
    answer::info(VERSION)
}

async fn topics(directory: Arc<Directory>, _: Request) -> Result<Response, Error> {
    blocking(move || {
        let topics: Vec<_> = directory.with(|registry, _| registry.topics().cloned().collect());
        answer::topics(&topics)
    })
    .await
}

async fn channels(directory: Arc<Directory>, request: Request) -> Result<Response, Error> {
    let query = request.query()?;
    let topic = topic_text(&query)?;
    let channels: Vec<_> = directory.with(|registry, _| match topic {
        ALL_TOPICS => registry.all_channels().into_iter().collect(),
        topic => registry.channels(topic).cloned().collect(),
    });
    answer::channels(&channels)
}

async fn lookup(directory: Arc<Directory>, request: Request) -> Result<Response, Error> {
    let query = request.query()?;
    let topic = topic_text(&query)?;
    let found = directory.with(|registry, now| match topic {
        ALL_TOPICS => registry.lookup_all(now),
        topic => registry.lookup(topic, now),
    });
    answer::lookup(&found.ok_or_else(|| Error::not_found("TOPIC_NOT_FOUND"))?)
}

async fn nodes(directory: Arc<Directory>, _: Request) -> Result<Response, Error> {
    blocking(move || answer::nodes(&directory.with(|registry, now| registry.nodes(now)))).await
}

async fn debug(directory: Arc<Directory>, _: Request) -> Result<Response, Error> {
    let registrations = |registry: &mut Registry, _| registry.registrations();
    blocking(move || answer::debug(&directory.with(registrations))).await
}

async fn metrics(directory: Arc<Directory>, _: Request) -> Result<Page, Error> {
    blocking(move || {
        let counts = directory.with(|registry, now| registry.counts(now));
        Ok(directory.metrics.page(&counts, &directory.logger))
    })
    .await
}
