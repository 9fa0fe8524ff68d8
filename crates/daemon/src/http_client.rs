//! One HTTP request at a time, as daemons send them to each other: small, bounded in time and size.

use std::{io, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How long a request may take.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For connecting.
    pub connect: Duration,
    /// For everything.
    pub request: Duration,
}

/// The reason why a request has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// It took too long.
    #[error("GET http://{address}{path}: no answer within {limit:?}")]
    Timeout {
        /// The server.
        address: String,
        /// The path that was asked for.
        path: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The server cannot be reached.
    #[error("connect to {address}: {source}")]
    Connect {
        /// The server.
        address: String,
        /// The reason that the operating system gives.
        source: io::Error,
    },
    /// The exchange broke off, or the answer is too long.
    #[error("GET http://{address}{path}: {reason}")]
    Exchange {
        /// The server.
        address: String,
        /// The path that was asked for.
        path: String,
        /// The reason.
        reason: String,
    },
    /// The server answered with another status than 200.
    #[error("GET http://{address}{path}: got response {status} {body:?}")]
    Status {
        /// The server.
        address: String,
        /// The path that was asked for.
        path: String,
        /// Its status.
        status: StatusCode,
        /// The beginning of its answer.
        body: String,
    },
}

/// The body of the answer to `GET path` from the server at `address`, a `host:port`; `path` includes the query.
///
/// # Errors
/// When there is no answer in time or its status is not 200.
pub async fn get(address: &str, path: &str, limits: Limits) -> Result<Bytes, GetError> {
    let (address, path) = (address.to_owned(), path.to_owned());
    match timeout(limits.request, exchange(&address, &path, limits.connect)).await {
        Ok(result) => result,
        Err(_) => Err(GetError::Timeout { address, path, limit: limits.request }),
    }
}

async fn exchange(address: &str, path: &str, connect: Duration) -> Result<Bytes, GetError> {
    let failed = |reason: String| GetError::Exchange {
        address: address.to_owned(),
        path: path.to_owned(),
        reason,
    };
    let stream = match timeout(connect, TcpStream::connect(address)).await {
        Ok(connected) => {
            connected.map_err(|source| GetError::Connect { address: address.to_owned(), source })?
        }
        Err(_) => {
            let (address, path) = (address.to_owned(), path.to_owned());
            return Err(GetError::Timeout { address, path, limit: connect });
        }
    };
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(error.to_string()))?;
    let request = Request::get(path)
        .header(header::HOST, address)
        .header(header::ACCEPT, "application/vnd.nsq; version=1.0")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(error.to_string()))?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok::<_, String>((status, body.map_err(|error| error.to_string())?.to_bytes()))
    };
    // The connection only moves while it is polled beside its request.
    let (_, answer) = tokio::join!(connection, answer);
    let (status, body) = answer.map_err(failed)?;
    if status == StatusCode::OK {
        return Ok(body);
    }
    let body = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
    Err(GetError::Status { address: address.to_owned(), path: path.to_owned(), status, body })
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        http::{Error, Request, Response, Router, serve},
        log::Logger,
    };

    const PATIENT: Limits =
        Limits { connect: Duration::from_secs(10), request: Duration::from_secs(10) };

    async fn echo(request: Request) -> Result<Response, Error> {
        match request.query()?.get("say") {
            Some(word) => Ok(Response::text(word.to_owned())),
            None => Err(Error::not_found("NOTHING_SAID")),
        }
    }

    #[tokio::test]
    async fn an_answer_of_200_is_its_body_and_any_other_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let router = Router::new().get("/echo", echo);
        let server = tokio::spawn(serve(listener, router, Logger::discard(), stop.clone()));
        let body = get(&address, "/echo?say=hello", PATIENT).await.unwrap();
        assert_eq!(&body[..], b"hello");
        let error = get(&address, "/echo", PATIENT).await.unwrap_err();
        assert!(matches!(error, GetError::Status { status: StatusCode::NOT_FOUND, .. }), "{error}");
        stop.cancel();
        server.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let limits =
            Limits { connect: Duration::from_secs(10), request: Duration::from_millis(20) };
        let error = get(&address, "/", limits).await.unwrap_err();
        assert!(matches!(error, GetError::Timeout { .. }), "{error}");
    }
}
