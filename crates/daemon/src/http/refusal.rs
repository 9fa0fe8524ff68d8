//! The answer to input that is not HTTP.
//!
//! Such input never becomes a request: hyper answers it by itself, without a body. NSQ's answer to it is a line of
//! plain text, so the bare answer is completed on its way out.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The continuation of hyper's own refusals after their status line. Answers of routes never do: an empty one carries no
/// refusal, and a refusal is never empty.
const BARE: &[u8] = b"\r\nConnection: close\r\nContent-Length: 0\r\n";

const STATUS_LINES: [&str; 3] = [
    "HTTP/1.1 400 Bad Request",
    "HTTP/1.1 414 URI Too Long",
    "HTTP/1.1 431 Request Header Fields Too Large",
];

/// A connection on which bare refusals get a text.
pub(super) struct WithRefusalText<T> {
    io: T,
    /// The page that is being written instead of a bare refusal.
    page: Option<Page>,
}

struct Page {
    text: Vec<u8>,
    written: usize,
}

impl<T> WithRefusalText<T> {
    pub(super) fn new(io: T) -> Self {
        Self { io, page: None }
    }
}

/// The page to write instead of `answer`, if that is a bare refusal.
fn page_for(answer: &[u8]) -> Option<Page> {
    let is_bare = |line: &&&str| {
        answer.strip_prefix(line.as_bytes()).is_some_and(|rest| rest.starts_with(BARE))
    };
    let status_line = STATUS_LINES.iter().find(is_bare)?;
    let message = status_line.strip_prefix("HTTP/1.1 ")?;
    let length = message.len();
    let text = format!(
        "{status_line}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{message}"
    );
    Some(Page { text: text.into_bytes(), written: 0 })
}

impl<T: AsyncWrite + Unpin> AsyncWrite for WithRefusalText<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        answer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.page.is_none() {
            this.page = page_for(answer);
        }
        let Some(page) = &mut this.page else {
            return Pin::new(&mut this.io).poll_write(cx, answer);
        };
        while page.written < page.text.len() {
            let rest = &page.text[page.written..];
            match ready!(Pin::new(&mut this.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Ok(0)),
                written => page.written += written,
            }
        }
        this.page = None;
        Poll::Ready(Ok(answer.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for WithRefusalText<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// Returns what arrives when `answer` is written through a pipe that holds three bytes.
    async fn arrives(answer: &str) -> String {
        let (near, mut far) = duplex(3);
        let mut near = WithRefusalText::new(near);
        let write = async move { near.write_all(answer.as_bytes()).await };
        let mut text = String::new();
        let (written, read) = tokio::join!(write, far.read_to_string(&mut text));
        written.unwrap();
        read.unwrap();
        text
    }

    #[tokio::test]
    async fn a_bare_refusal_gets_its_text() {
        let bare =
            "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\nDate: x\r\n\r\n";
        let page = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
                    Connection: close\r\nContent-Length: 15\r\n\r\n400 Bad Request";
        assert_eq!(arrives(bare).await, page);
    }

    #[tokio::test]
    async fn every_other_answer_passes_unchanged() {
        for answer in [
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno",
            "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno",
        ] {
            assert_eq!(arrives(answer).await, answer);
        }
    }
}
