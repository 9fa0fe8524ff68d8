//! `/debug`: profiles, and the two switches of the Go runtime.

use std::num::IntErrorKind;

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
            Response::text(invalid_rate(rate, error.kind())).with_status(StatusCode::BAD_REQUEST)
        }
    }
}

/// The text of NSQ, which is the one of Go's number parser.
fn invalid_rate(rate: &str, kind: &IntErrorKind) -> String {
    let reason = match kind {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    let rate = quote(rate.as_bytes());
    format!("invalid block rate : strconv.Atoi: parsing {rate}: {reason}")
}
