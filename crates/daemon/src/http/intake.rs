//! The reading half of a connection, between the socket and hyper.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::requests::{BodyLength, Requests};

/// The longest that a client may take for the head of a request, counted from its first byte; for the first request
/// of a connection, from when the connection was accepted.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// How much is read at once where a head may be. Only this much is ever copied; bodies are not.
const HEAD_READ_BYTES: usize = 8 << 10;

/// A connection whose requests are given to hyper with escaped targets, and whose heads have to arrive in time.
pub(super) struct Intake<T> {
    io: T,
    requests: Requests,
    lengths: BodyLengths,
    /// Bytes from the socket that have not been looked at.
    raw: Vec<u8>,
    /// Bytes for hyper.
    ready: Vec<u8>,
    /// No request has begun on this connection.
    is_fresh: bool,
    head_time: Option<Pin<Box<Sleep>>>,
}

/// The length of the body that follows the head which hyper has read last. Set by the service, read by the
/// [`Intake`].
#[derive(Clone, Default)]
pub(super) struct BodyLengths(Arc<Mutex<Option<BodyLength>>>);

impl BodyLengths {
    pub(super) fn tell(&self, length: BodyLength) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(length);
    }

    fn take(&self) -> Option<BodyLength> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T: AsyncRead + Unpin> Intake<T> {
    pub(super) fn new(io: T, lengths: BodyLengths) -> Self {
        Self {
            io,
            requests: Requests::default(),
            lengths,
            raw: Vec::new(),
            ready: Vec::new(),
            is_fresh: true,
            head_time: None,
        }
    }

    /// Moves the bytes that can be passed on from `raw` to `ready`.
    fn pass(&mut self) {
        if self.requests.needs_body_length() {
            // hyper reads on only after it has handed the head to the service, or has refused it.
            self.requests.body_follows(self.lengths.take());
        }
        self.ready.reserve(self.raw.len());
        let passed = self.requests.pass(&self.raw, &mut self.ready);
        self.raw.drain(..passed);
        self.is_fresh &= self.requests.is_between();
        if !self.awaits_head() {
            self.head_time = None;
        }
    }

    /// Returns whether the client has to send a head now.
    fn awaits_head(&self) -> bool {
        self.is_fresh || self.requests.is_within_head()
    }

    /// Fills `buf` from `ready`, and returns whether there was anything.
    fn hand_out(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let bytes = self.ready.len().min(buf.remaining());
        buf.put_slice(&self.ready[..bytes]);
        self.ready.drain(..bytes);
        bytes > 0
    }

    /// Reads bytes that need no look into `buf`.
    fn poll_opaque(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        bytes: u64,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match usize::try_from(bytes) {
            Ok(bytes) if bytes < buf.remaining() => {
                let mut part = ReadBuf::new(buf.initialize_unfilled_to(bytes));
                ready!(Pin::new(&mut self.io).poll_read(cx, &mut part))?;
                let read = part.filled().len();
                buf.advance(read);
            }
            _ => ready!(Pin::new(&mut self.io).poll_read(cx, buf))?,
        }
        self.requests.skip((buf.filled().len() - before) as u64);
        Poll::Ready(Ok(()))
    }

    /// Reads bytes that need a look into `raw`; ready with `false` at the end of the stream.
    fn poll_raw(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        // The space that hyper reads into serves as scratch, so that an idle connection needs none of ours.
        let bytes = buf.remaining().min(HEAD_READ_BYTES);
        let mut scratch = ReadBuf::new(buf.initialize_unfilled_to(bytes));
        match Pin::new(&mut self.io).poll_read(cx, &mut scratch) {
            Poll::Ready(read) => {
                read?;
                self.raw.extend_from_slice(scratch.filled());
                Poll::Ready(Ok(!scratch.filled().is_empty()))
            }
            Poll::Pending => {
                (self.raw, self.ready) = (Vec::new(), Vec::new());
                self.poll_head_time(cx).map(Err)
            }
        }
    }

    /// Ready with an error when the head takes too long.
    fn poll_head_time(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if !self.awaits_head() {
            return Poll::Pending;
        }
        let timer = self.head_time.get_or_insert_with(|| Box::pin(sleep(HEAD_TIME_MAX)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(io::Error::new(
            io::ErrorKind::TimedOut,
            "the head of a request did not arrive in time",
        ))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Intake<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.hand_out(buf) || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            this.pass();
            if this.hand_out(buf) {
                return Poll::Ready(Ok(()));
            }
            match this.requests.opaque_bytes() {
                0 => {
                    if !ready!(this.poll_raw(cx, buf))? {
                        return Poll::Ready(Ok(()));
                    }
                }
                bytes => return this.poll_opaque(cx, buf, bytes),
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Intake<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
