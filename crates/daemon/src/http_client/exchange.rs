//! One request and its answer, on a connection of its own.

use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Client,
    answer::Answer,
    connect::connect,
    error::RequestError,
    request::{Content, request},
    url::Url,
};

/// Sends a request to the server that `url` names.
pub(super) async fn exchange(
    client: &Client,
    url: &Url,
    content: &Content,
) -> Result<Answer, RequestError> {
    let stream = connect(client, url).await?;
    let answered = if url.is_https() {
        let tls = client.trust.connect(url.host(), stream).await;
        let failed = |source| RequestError::Tls { address: url.address().to_owned(), source };
        send(tls.map_err(failed)?, client.answer_bytes_max, url, content).await
    } else {
        send(stream, client.answer_bytes_max, url, content).await
    };
    answered.map_err(|reason| RequestError::Exchange { url: url.to_string(), reason })
}

/// Sends a request over a connection.
///
/// # Errors
/// The reason, as a text for the log.
async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    answer_bytes_max: usize,
    url: &Url,
    content: &Content,
) -> Result<Answer, String> {
    let request = request(url, content).map_err(|error| error.to_string())?;
    // Servers made by hand may not know the names of headers in lower case.
    let handshake = http1::Builder::new().title_case_headers(true).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|error| error.to_string())?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, answer_bytes_max).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    };
    // The connection only moves while it is polled beside its request.
    let (_, answer) = tokio::join!(connection, answer);
    answer
}
