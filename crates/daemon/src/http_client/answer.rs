//! The meaning of an answer: the body that was asked for, another place to ask, or a failure.

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode, header};
use serde_json::Value;

use super::{error::RequestError, request::Content, url::Url};

/// The most that an error shows of an answer.
const SHOWN_BYTES: usize = 200;

/// The answer of a server.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// How a request goes on after an answer.
pub(super) enum Outcome {
    /// It is over.
    Done(Bytes),
    /// It is sent to another URL.
    Elsewhere(Url),
    /// It has failed.
    Failed(RequestError),
}

impl Answer {
    /// The outcome of a request to `url` with this answer.
    pub(super) fn outcome(self, url: &Url, content: &Content) -> Outcome {
        if self.status == StatusCode::OK {
            return Outcome::Done(self.body);
        }
        let elsewhere = match self.status {
            StatusCode::FORBIDDEN => self.https_instead(url),
            _ => self.redirect(url, content),
        };
        // A request never falls back to clear text.
        if let Some(next) = elsewhere.filter(|next| next.is_https() || !url.is_https()) {
            return Outcome::Elsewhere(next);
        }
        let shown = &self.body[..self.body.len().min(SHOWN_BYTES)];
        let body = String::from_utf8_lossy(shown).into_owned();
        Outcome::Failed(RequestError::Status { url: url.to_string(), status: self.status, body })
    }

    /// The URL on the HTTPS port that NSQ's daemons tell when they require TLS.
    fn https_instead(&self, url: &Url) -> Option<Url> {
        if url.is_https() {
            return None;
        }
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        let port = body.get("https_port")?.as_u64()?;
        let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
        Some(url.on_https_port(port))
    }

    fn redirect(&self, url: &Url, content: &Content) -> Option<Url> {
        let follows = match self.status {
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
            // These turn a POST into a GET, which would lose what was sent.
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => {
                matches!(content, Content::None)
            }
            _ => false,
        };
        let location = self.headers.get(header::LOCATION).filter(|_| follows)?;
        url.redirected(location.to_str().ok()?)
    }
}
