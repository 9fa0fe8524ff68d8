//! The answers of handlers.

use std::borrow::Cow;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    StatusCode,
    ext::ReasonPhrase,
    header::{
        ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, TRANSFER_ENCODING,
    },
};

use super::{body::BodyError, query::InvalidQuery};
use crate::json;

/// An answer: status, headers and a body that is all there.
#[derive(Debug, Clone)]
pub struct Response {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const MARKER_NAME: HeaderName = HeaderName::from_static("x-nsq-content-type");
const MARKER: HeaderValue = HeaderValue::from_static("nsq; version=1.0");

impl Response {
    /// 200 without a body.
    pub fn empty() -> Self {
        Self { status: StatusCode::OK, headers: Vec::new(), body: Bytes::new() }
    }

    /// 200 with plain text. Without a text there is no content type either.
    pub fn text(body: impl Into<Bytes>) -> Self {
        Self::typed(TEXT, body)
    }

    /// 200 with serialized JSON.
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self::typed(JSON, body)
    }

    /// 200 with a body of any type.
    pub fn typed(content_type: HeaderValue, body: impl Into<Bytes>) -> Self {
        let response = Self { body: body.into(), ..Self::empty() };
        if response.body.is_empty() {
            response
        } else {
            response.with_header(CONTENT_TYPE, content_type)
        }
    }

    /// An error, with the body `{"message":"<message>"}`.
    pub fn error(status: StatusCode, message: &str) -> Self {
        Self::json(format!("{{\"message\":{}}}", json::string(message))).with_status(status)
    }

    /// Changes the status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Adds a header. `Content-Length` and `Transfer-Encoding` are the server's business.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        debug_assert!(name != TRANSFER_ENCODING, "the body's framing is the server's business");
        self.headers.push((name, value));
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The first value of a header.
    pub fn header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// A request that never comes to a route, such as one without a host.
    pub(super) fn malformed(text: &'static str) -> Self {
        Self::text(text).with_status(StatusCode::BAD_REQUEST).closing()
    }

    /// Sends the client to another path: with a small page where it will be shown, so for GET.
    pub(super) fn redirect(location: &str, page: bool) -> Self {
        let Ok(value) = HeaderValue::from_str(location) else {
            return Self::malformed("400 Bad Request");
        };
        let response = if page {
            let href = html_escape(location);
            Self::typed(HTML, format!("<a href=\"{href}\">Moved Permanently</a>.\n\n"))
                .with_status(StatusCode::MOVED_PERMANENTLY)
        } else {
            Self::empty().with_status(StatusCode::TEMPORARY_REDIRECT)
        };
        response.with_header(LOCATION, value)
    }

    pub(super) fn allowing(self, methods: &str) -> Self {
        let value = HeaderValue::from_str(methods).expect("methods are tokens");
        self.with_header(ALLOW, value)
    }

    /// Marked as an answer in the format of NSQ 1.0.
    pub(super) fn marked(self) -> Self {
        self.with_header(MARKER_NAME, MARKER)
    }

    /// The last answer on its connection.
    pub(super) fn closing(self) -> Self {
        self.with_header(CONNECTION, HeaderValue::from_static("close"))
    }

    pub(super) fn into_hyper(self) -> hyper::Response<Full<Bytes>> {
        let mut response = hyper::Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        if self.status == StatusCode::PAYLOAD_TOO_LARGE {
            // NSQ uses the words of the older standard, and tools show them.
            let reason = ReasonPhrase::from_static(b"Request Entity Too Large");
            response.extensions_mut().insert(reason);
        }
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}

fn html_escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
}

/// An error as a handler reports it with `?`: a status and the message of its JSON body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {message}")]
pub struct Error {
    /// The status of the answer.
    pub status: StatusCode,
    /// The message of the answer, such as `TOPIC_NOT_FOUND`.
    pub message: Cow<'static, str>,
}

impl Error {
    /// Any status and message.
    pub fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into() }
    }

    /// 400 with a message.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404 with a message.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 500 `INTERNAL_ERROR`.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR")
    }
}

impl From<InvalidQuery> for Error {
    fn from(_: InvalidQuery) -> Self {
        Self::bad_request("INVALID_REQUEST")
    }
}

/// The answers for a body that was not read, in NSQ's words where it has some.
impl From<BodyError> for Error {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooBig { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_BIG"),
            BodyError::TooSlow => Self::new(StatusCode::REQUEST_TIMEOUT, "BODY_TOO_SLOW"),
            BodyError::NoRoom => Self::new(StatusCode::SERVICE_UNAVAILABLE, "TOO_MANY_BODIES"),
            BodyError::Read(_) => Self::internal(),
        }
    }
}

/// A type that a handler may return.
pub trait IntoResponse {
    /// The answer.
    fn into_response(self) -> Response;
}

impl IntoResponse for Response {
    fn into_response(self) -> Response {
        self
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        Response::error(self.status, &self.message)
    }
}

impl<T: IntoResponse, E: IntoResponse> IntoResponse for Result<T, E> {
    fn into_response(self) -> Response {
        match self {
            Ok(value) => value.into_response(),
            Err(error) => error.into_response(),
        }
    }
}
