//! `/debug`: profiles, and the two switches of the Go runtime.

use nsq_daemon::{
    http::{Method, Request, Response, Route, StatusCode},
    pprof,
    tasks::Tasks,
};
use nsq_protocol::quote;

pub(super) fn routes(tasks: &Tasks) -> Vec<Route> {
    let mut routes = pprof::routes("/debug/pprof/", tasks);
    routes.push(Route::new(Method::PUT, "/debug/setblockrate", set_block_rate).unmarked());
    // There is no garbage collector to run.
    let free_memory = async |_| Response::empty();
    routes.push(Route::new(Method::POST, "/debug/freememory", free_memory).unmarked());
    routes
}

/// Accepts any rate, as nothing is recorded at any.
async fn set_block_rate(request: Request) -> Response {
    let query = request.query().unwrap_or_default();
    let rate = query.get("rate").unwrap_or_default();
    match rate.parse::<i64>() {
        Ok(_) => Response::empty(),
        Err(error) => {
            let text = format!("invalid block rate : parsing {}: {error}", quote(rate.as_bytes()));
            Response::text(text).with_status(StatusCode::BAD_REQUEST)
        }
    }
}
