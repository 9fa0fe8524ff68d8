//! Why a request has no answer.

use std::{io, time::Duration};

use hyper::StatusCode;

use super::url::InvalidUrl;

/// Why a request has no answer. URLs are told without their queries, which may hold secrets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The address cannot be used.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// It took too long.
    #[error("no answer from {address} within {limit:?}")]
    Timeout {
        /// The server.
        address: String,
        /// The time that was waited.
        limit: Duration,
    },
    /// The server cannot be reached.
    #[error("connect to {address}: {source}")]
    Connect {
        /// The server.
        address: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// The TLS handshake failed, or there are no certificate authorities to verify the server with.
    #[error("TLS with {address}: {source}")]
    Tls {
        /// The server.
        address: String,
        /// The reason.
        source: io::Error,
    },
    /// The exchange broke off, or the answer is too long.
    #[error("{url}: {reason}")]
    Exchange {
        /// The resource.
        url: String,
        /// The reason.
        reason: String,
    },
    /// The server answered with another status than 200.
    #[error("{url}: got response {status} {body:?}")]
    Status {
        /// The resource.
        url: String,
        /// The status.
        status: StatusCode,
        /// The beginning of the answer.
        body: String,
    },
    /// The servers keep sending the request elsewhere.
    #[error("{url}: too many redirects")]
    TooManyRedirects {
        /// The last resource.
        url: String,
    },
}
