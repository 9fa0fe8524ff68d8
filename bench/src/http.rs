//! A minimal HTTP client: one request for each connection, with the whole body of the answer.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::failure::Failure;

/// The time limit of a request. Deleting a topic on a slow disk takes many flushes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Sends a request without a body and returns the body of the answer.
///
/// # Errors
/// Returns [`Failure::Refused`] for a status other than 200, or the system's error.
pub(crate) fn request(address: SocketAddr, method: &str, path: &str) -> Result<Vec<u8>, Failure> {
    let answer =
        exchange(address, method, path).map_err(Failure::io(format!("{method} {path}")))?;
    let malformed = || Failure::Unexpected(format!("{method} {path}: not an HTTP answer"));
    let head_bytes =
        answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(malformed)?;
    let head = String::from_utf8_lossy(&answer[..head_bytes]);
    let status = head.split_whitespace().nth(1).ok_or_else(malformed)?;
    let body = answer[head_bytes + 4..].to_vec();
    if status == "200" {
        return Ok(body);
    }
    let text = String::from_utf8_lossy(&body);
    Err(Failure::Refused(format!("{method} {path}: {status} {text}")))
}

/// Uses HTTP/1.0, so that the answer ends with the connection and is never chunked.
fn exchange(address: SocketAddr, method: &str, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request =
        format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}
