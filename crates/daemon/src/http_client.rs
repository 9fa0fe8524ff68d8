//! The HTTP requests that daemons make: one request a connection, bounded in time and size.

mod answer;
mod connect;
mod error;
mod exchange;
mod request;
mod trust;
mod url;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::Semaphore, time::timeout};

use self::{answer::Outcome, connect::LOOKUPS_MAX, exchange::exchange, request::Content};
pub use self::{
    error::RequestError,
    trust::Trust,
    url::{InvalidUrl, Url, append_form},
};
use crate::tls::MinVersion;

/// The longest answer that is read unless a client has its own limit.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The number of times that a server may send a request elsewhere.
const DETOURS_MAX: usize = 10;

/// The time limits of a request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For connecting.
    pub connect: Duration,
    /// For everything, redirects included.
    pub request: Duration,
}

/// A client of HTTP and HTTPS servers. It bounds the names that are looked up at a time, so a daemon makes one for each kind of
/// server and not for each request.
#[derive(Debug)]
pub struct Client {
    limits: Limits,
    answer_bytes_max: usize,
    trust: Trust,
    lookups: Arc<Semaphore>,
}

impl Client {
    /// A client that trusts the certificate authorities of the system.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            answer_bytes_max: ANSWER_BYTES_MAX,
            trust: Trust::system(MinVersion::Tls12),
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
        }
    }

    /// Refuses answers that are longer than this.
    pub fn answers_up_to(self, bytes: usize) -> Self {
        Self { answer_bytes_max: bytes, ..self }
    }

    /// Sets which HTTPS servers are trusted.
    pub fn trusting(self, trust: Trust) -> Self {
        Self { trust, ..self }
    }

    /// Returns the body of the answer to a GET.
    ///
    /// # Errors
    /// When there is no answer in time or its status is not 200.
    pub async fn get(&self, url: &Url) -> Result<Bytes, RequestError> {
        self.request(url, &Content::None).await
    }

    /// Returns the body of the answer to a POST of a JSON document.
    ///
    /// # Errors
    /// When there is no answer in time or its status is not 200.
    pub async fn post(&self, url: &Url, json: Bytes) -> Result<Bytes, RequestError> {
        self.request(url, &Content::Json(json)).await
    }

    async fn request(&self, url: &Url, content: &Content) -> Result<Bytes, RequestError> {
        let limit = self.limits.request;
        match timeout(limit, self.follow(url.clone(), content)).await {
            Ok(result) => result,
            Err(_) => Err(RequestError::Timeout { address: url.address().to_owned(), limit }),
        }
    }

    /// Sends the request where the servers say, until one gives an answer.
    async fn follow(&self, mut url: Url, content: &Content) -> Result<Bytes, RequestError> {
        for _ in 0..=DETOURS_MAX {
            let answer = exchange(self, &url, content).await?;
            match answer.outcome(&url, content) {
                Outcome::Done(body) => return Ok(body),
                Outcome::Elsewhere(next) => url = next,
                Outcome::Failed(error) => return Err(error),
            }
        }
        Err(RequestError::TooManyRedirects { url: url.to_string() })
    }
}
