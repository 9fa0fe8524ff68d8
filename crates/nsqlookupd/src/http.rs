//! The HTTP API: discovery for consumers, administration for operators.

mod admin;
mod answer;
mod discovery;
mod long;
mod route;

use std::sync::Arc;

use nsq_daemon::{
    http::{Error, Method, Request, Response, Router},
    metrics::Page,
    pprof,
    tasks::Tasks,
};

use self::route::{blocking, counted, route};
use crate::{VERSION, directory::Directory};

/// The routes of nsqlookupd.
pub(crate) fn router(directory: &Arc<Directory>, tasks: &Tasks) -> Router {
    let mut router = Router::new()
        .route(route(directory, Method::GET, "/ping", ping).unmarked())
        .route(route(directory, Method::GET, "/info", info))
        .route(route(directory, Method::GET, "/metrics", metrics).unmarked().quiet());
    for route in discovery::routes(directory).into_iter().chain(admin::routes(directory)) {
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
    answer::info(VERSION).map(Response::json)
}

async fn metrics(directory: Arc<Directory>, _: Request) -> Result<Page, Error> {
    blocking(move || {
        let counts = directory.with(|registry, now| registry.counts(now));
        Ok(directory.metrics.page(&counts, &directory.logger))
    })
    .await
}
