//! A request to an nsqlookupd.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::select;

use super::{Lookupd, answer};
use crate::{
    config::Config,
    connection::dial::{dial, within},
    error::ConnectError,
    lookup::Discovered,
};

/// The longest answer that is accepted.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// The length to which the body of an error is cut.
const REASON_BYTES_MAX: usize = 200;

/// Why a query to an nsqlookupd failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// The nsqlookupd cannot be reached.
    #[error(transparent)]
    Connect(Box<ConnectError>),
    /// The query took longer than `lookupd_poll_timeout`.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The HTTP exchange failed, or the answer is too long.
    #[error("{0}")]
    Exchange(String),
    /// The HTTP status is not 200.
    #[error("got response {status} {body:?}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// The beginning of the body.
        body: String,
    },
    /// The answer is not a list of nsqds.
    #[error("unusable answer: {0}")]
    Answer(String),
}

/// Asks `lookupd` which nsqds have the topic. An unknown topic has none.
pub(crate) async fn lookup(
    lookupd: &Lookupd,
    config: &Config,
) -> Result<Vec<Discovered>, LookupError> {
    let limit = config.lookupd_poll_timeout;
    let (status, body) = within(limit, exchange(lookupd, config))
        .await
        .unwrap_or(Err(LookupError::Timeout(limit)))?;
    if status == StatusCode::OK {
        return answer::parse(&body).map_err(LookupError::Answer);
    }
    let body = String::from_utf8_lossy(&body[..body.len().min(REASON_BYTES_MAX)]).into_owned();
    if status == StatusCode::NOT_FOUND && body.contains("TOPIC_NOT_FOUND") {
        return Ok(Vec::new());
    }
    Err(LookupError::Status { status: status.as_u16(), body })
}

async fn exchange(lookupd: &Lookupd, config: &Config) -> Result<(StatusCode, Bytes), LookupError> {
    let failed = |error: &dyn std::error::Error| LookupError::Exchange(error.to_string());
    let stream = dial(&lookupd.authority, config)
        .await
        .map_err(|error| LookupError::Connect(Box::new(error)))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let mut request = Request::get(&lookupd.target)
        .header(header::HOST, &lookupd.authority)
        .header(header::ACCEPT, "application/vnd.nsq; version=1.0")
        .header(header::CONNECTION, "close");
    if config.lookupd_authorization && !config.auth_secret.is_empty() {
        let secret = config.auth_secret.expose();
        request = request.header(header::AUTHORIZATION, format!("Bearer {secret}"));
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(&error))?;
    let mut answer = pin!(async {
        let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok((status, body.map_err(|error| failed(&*error))?.to_bytes()))
    });
    // The connection must be polled while its request is in progress.
    select! {
        biased;
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}
