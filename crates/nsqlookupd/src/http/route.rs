//! Helpers of the HTTP handlers.

use std::{future::Future, sync::Arc};

use nsq_daemon::http::{Error, IntoResponse, Method, Query, Request, Route};

use crate::directory::Directory;

/// Creates a route whose handler gets the directory and whose requests are counted.
pub(super) fn route<F, Fut>(
    directory: &Arc<Directory>,
    method: Method,
    path: &'static str,
    handler: F,
) -> Route
where
    F: Fn(Arc<Directory>, Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: IntoResponse> + Send + 'static,
{
    let owned = Arc::clone(directory);
    let route = Route::new(method, path, move |request: Request| handler(owned.clone(), request));
    counted(directory, route)
}

/// Counts the requests of a route.
pub(super) fn counted(directory: &Directory, route: Route) -> Route {
    let count = directory.metrics.requests(route.path());
    route.counted(count)
}

/// Runs work that takes long with many registrations on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::internal())?
}

/// The topic parameter, not validated.
pub(super) fn topic_text(query: &Query) -> Result<&str, Error> {
    query.get("topic").ok_or_else(|| Error::bad_request("MISSING_ARG_TOPIC"))
}
