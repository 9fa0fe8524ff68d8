//! A small HTTP/1.1 server with a route table and the conventions of NSQ's HTTP interfaces.
//!
//! The behaviour that clients see on all routes:
//!
//! - an unknown path is 404 `{"message":"NOT_FOUND"}`, a known path with another method is 405
//!   `{"message":"METHOD_NOT_ALLOWED"}` with `Allow`, and OPTIONS on a known path tells the methods;
//! - a path that differs from a route by a trailing slash, letter case or superfluous elements is redirected;
//! - answers carry the header `X-NSQ-Content-Type`, unless the route is [unmarked](Route::unmarked);
//! - a handler that panics is 500 `{"message":"INTERNAL_ERROR"}`;
//! - every answer is in the log, unless the route is [quiet](Route::quiet).
//!
//! A handler that was started runs to its end even when the client goes away, so that no change is left half
//! done.
//!
//! ```
//! use nsq_daemon::http::{Error, Request, Response, Route, Router, StatusCode, Method};
//!
//! async fn publish(mut request: Request) -> Result<Response, Error> {
//!     let too_big = Error::new(StatusCode::PAYLOAD_TOO_LARGE, "MSG_TOO_BIG");
//!     let body = request.body_up_to(1024).await.map_err(|_| too_big)?;
//!     let query = request.query()?;
//!     let topic = query.get("topic").ok_or_else(|| Error::bad_request("MISSING_ARG_TOPIC"))?;
//!     println!("{} bytes for {topic}", body.len());
//!     Ok(Response::text("OK"))
//! }
//!
//! let router = Router::new()
//!     .route(Route::new(Method::GET, "/ping", async |_| Response::text("OK")).unmarked())
//!     .route(Route::new(Method::POST, "/pub", publish).quiet());
//! ```

mod body;
mod budget;
mod intake;
mod outlet;
mod pace;
mod path;
mod query;
mod refusal;
mod request;
mod requests;
mod response;
mod router;
mod server;

pub(crate) use self::path::unescape;
pub use hyper::{HeaderMap, Method, StatusCode, header};

pub use self::{
    body::BodyError,
    budget::{BODIES_BYTES_MAX_DEFAULT, ROOM_TIME_MAX},
    intake::HEAD_TIME_MAX,
    outlet::ANSWER_STALL_TIME_MAX,
    pace::{BODY_PROGRESS_BYTES, BODY_PROGRESS_TIME},
    query::{InvalidQuery, Query},
    request::Request,
    response::{Error, IntoResponse, Response},
    router::{Handler, Route, Router},
    server::{HEAD_BYTES_MAX, HEADERS_MAX, Server, serve},
};
