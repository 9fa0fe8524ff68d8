//! Many HTTP requests on one connection.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::{failure::Failure, limit::Limit};

/// Requests that are sent before their answers are read.
const BATCH: usize = 50;
const TIMEOUT: Duration = Duration::from_secs(60);

/// Posts to each of `paths`, whose answers have no body.
///
/// # Errors
/// Returns [`Failure::Refused`] for a status other than 200, [`Failure::Late`], or the system's error.
pub(super) fn post(
    address: SocketAddr,
    paths: impl Iterator<Item = String>,
    limit: &Limit,
) -> Result<(), Failure> {
    let connect = || -> io::Result<_> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok((stream.try_clone()?, BufReader::new(stream)))
    };
    let (mut requests, mut answers) = connect().map_err(Failure::io("connect for HTTP"))?;
    let paths: Vec<_> = paths.collect();
    for batch in paths.chunks(BATCH) {
        limit.check("creating names")?;
        let text: String = batch
            .iter()
            .map(|path| format!("POST {path} HTTP/1.1\r\nHost: nsqd\r\nContent-Length: 0\r\n\r\n"))
            .collect();
        requests.write_all(text.as_bytes()).map_err(Failure::io("create names"))?;
        for path in batch {
            let status = skip_head(&mut answers).map_err(Failure::io("create names"))?;
            if !status.contains(" 200 ") {
                return Err(Failure::Refused(format!("{path}: {status}")));
            }
        }
    }
    Ok(())
}

/// Reads an answer without a body. Returns its first line.
fn skip_head(answers: &mut impl BufRead) -> io::Result<String> {
    let mut status = String::new();
    answers.read_line(&mut status)?;
    let mut line = String::new();
    while answers.read_line(&mut line)? > 2 {
        line.clear();
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_without_a_body_follow_each_other() {
        let mut answers =
            &b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 400 Bad\r\n\r\n"[..];
        assert_eq!(skip_head(&mut answers).unwrap(), "HTTP/1.1 200 OK\r\n");
        assert_eq!(skip_head(&mut answers).unwrap(), "HTTP/1.1 400 Bad\r\n");
    }
}
