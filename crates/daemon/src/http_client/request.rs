//! The content and the headers of a request.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, header,
    header::HeaderValue,
    http::{self, request::Builder},
};

use super::url::Url;

/// The version of NSQ's interfaces that is asked for.
const ACCEPT: &str = "application/vnd.nsq; version=1.0";

/// The content of a request, which decides its method.
pub(super) enum Content {
    /// A GET.
    None,
    /// A POST of a JSON document.
    Json(Bytes),
}

/// Builds the request to `url`.
pub(super) fn request(url: &Url, content: &Content) -> Result<Request<Full<Bytes>>, http::Error> {
    let head = |request: Builder| {
        let request = request
            .header(header::HOST, url.address())
            .header(header::ACCEPT, HeaderValue::from_static(ACCEPT))
            .header(header::CONNECTION, HeaderValue::from_static("close"));
        match url.authorization() {
            Some(user) => request.header(header::AUTHORIZATION, user),
            None => request,
        }
    };
    match content {
        Content::None => head(Request::get(url.target())).body(Full::default()),
        Content::Json(json) => head(Request::post(url.target()))
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(Full::new(json.clone())),
    }
}
