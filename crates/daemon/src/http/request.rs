//! The request that a handler is given.

use std::sync::Arc;

use bytes::Bytes;
use hyper::{
    Method, Uri,
    body::{Body as _, Incoming},
    header::HeaderMap,
    http::request::Parts,
};

use super::{
    body::{Body, BodyError, Leftover},
    budget::Budget,
    query::{InvalidQuery, Query},
};

/// A request. Its body is still on the wire until a handler reads it.
pub struct Request {
    parts: Parts,
    path: String,
    params: Vec<(&'static str, String)>,
    remote: Arc<str>,
    content_length: Option<u64>,
    body: Body,
}

impl Request {
    pub(super) fn new(
        request: hyper::Request<Incoming>,
        path: String,
        remote: Arc<str>,
        (leftover, budget): (Leftover, Budget),
    ) -> Self {
        let (parts, incoming) = request.into_parts();
        let content_length = incoming.size_hint().exact();
        let body = Body::new(incoming, leftover, budget);
        Self { parts, path, params: Vec::new(), remote, content_length, body }
    }

    pub(super) fn set_params(&mut self, params: Vec<(&'static str, String)>) {
        self.params = params;
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.parts.method
    }

    /// The path, percent-escapes replaced.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Path and query as the client sent them.
    pub fn uri(&self) -> &str {
        path_and_query(&self.parts.uri)
    }

    /// The value of a `:name` in the route's path, percent-escapes replaced.
    ///
    /// # Panics
    /// When the route's path has no such parameter.
    pub fn param(&self, name: &str) -> &str {
        let param = self.params.iter().find(|(key, _)| *key == name);
        param.map_or_else(|| panic!("the route has no parameter {name}"), |(_, value)| value)
    }

    /// The parameters of the query string.
    ///
    /// # Errors
    /// When it is malformed. As an [`Error`](super::Error) that is 400 `INVALID_REQUEST`.
    pub fn query(&self) -> Result<Query, InvalidQuery> {
        self.parts.uri.query().map_or_else(|| Ok(Query::default()), Query::parse)
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// The first value of a header, if it is plain text. The name's case does not matter.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    /// The length of the body in bytes as announced; `None` when it comes in chunks.
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// The client's address, `@` on a unix socket.
    pub fn remote(&self) -> &str {
        &self.remote
    }

    /// Reads the body, of at most `limit` bytes. A second call returns the rest, usually nothing.
    ///
    /// # Errors
    /// [`BodyError::TooBig`] as soon as that is known, and then the rest stays unread;
    /// [`BodyError::TooSlow`] when the client does not send it in time;
    /// [`BodyError::NoRoom`] when other bodies take all the memory there is for bodies;
    /// [`BodyError::Read`] when the connection or the client's framing fails.
    pub async fn body_up_to(&mut self, limit: usize) -> Result<Bytes, BodyError> {
        self.body.up_to(limit).await
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("method", self.method())
            .field("uri", &self.uri())
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

pub(super) fn path_and_query(uri: &Uri) -> &str {
    uri.path_and_query().map_or("", |both| both.as_str())
}
