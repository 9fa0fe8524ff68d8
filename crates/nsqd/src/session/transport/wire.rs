//! The socket below the layers of a connection.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use nsq_daemon::net::Socket;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A socket that counts what the client takes.
pub(in crate::session) struct Wire {
    socket: Socket,
    /// Data that was read before the layer above was there.
    early: BytesMut,
    sent: usize,
    /// The end of the time for a handshake.
    limit: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    pub(super) fn new(socket: Socket) -> Self {
        Self { socket, early: BytesMut::new(), sent: 0, limit: None }
    }

    /// A socket for a handshake that has to be over in `time`; after that, nothing can be read or written until
    /// [`Wire::unlimit`] is called. The data in `early` comes first.
    pub(in crate::session) fn limited(socket: Socket, early: BytesMut, time: Duration) -> Self {
        Self { early, limit: Some(Box::pin(sleep(time))), ..Self::new(socket) }
    }

    pub(in crate::session) fn unlimit(&mut self) {
        self.limit = None;
    }

    /// Waits for data and returns its first byte, which is still there to be read.
    ///
    /// # Errors
    /// When there is none in time.
    pub(in crate::session) async fn first_byte(&mut self) -> io::Result<u8> {
        let mut early = std::mem::take(&mut self.early);
        if early.is_empty() {
            self.read_buf(&mut early).await?;
        }
        self.early = early;
        self.early.first().copied().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    pub(in crate::session) fn into_socket(self) -> Socket {
        self.socket
    }

    /// How many bytes the client has taken.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_write_ready(cx)
    }

    /// Fails when the time is over, and wakes the task then.
    fn check_limit(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Some(limit) = &mut self.limit
            && limit.as_mut().poll(cx).is_ready()
        {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout"));
        }
        Ok(())
    }

    fn count(&mut self, written: io::Result<usize>) -> Poll<io::Result<usize>> {
        if let Ok(bytes) = written {
            self.sent += bytes;
        }
        Poll::Ready(written)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check_limit(cx)?;
        if this.early.is_empty() {
            return Pin::new(&mut this.socket).poll_read(cx, buffer);
        }
        let bytes = this.early.len().min(buffer.remaining());
        buffer.put_slice(&this.early[..bytes]);
        this.early.advance(bytes);
        if this.early.is_empty() {
            this.early = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check_limit(cx)?;
        let written = ready!(Pin::new(&mut this.socket).poll_write(cx, bytes));
        this.count(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check_limit(cx)?;
        let written = ready!(Pin::new(&mut this.socket).poll_write_vectored(cx, slices));
        this.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
