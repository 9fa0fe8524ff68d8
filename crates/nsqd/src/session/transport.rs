//! The transport of a connection: a socket, with TLS over it, compression over either.
//!
//! A plain socket, the usual case, is written to without a detour: whole runs of the log in one call. The layers keep
//! buffers of their own. Everything that a turn sends goes into them first and is flushed once, so that it becomes few
//! records and blocks, and what they have not passed on counts as output that the client has not taken. It is bounded:
//! 64 KiB in TLS, two blocks in compression.

mod wire;

use std::{
    future::{Future, poll_fn},
    io::{self, ErrorKind},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use nsq_compression::{Codec, Compressed};
use nsq_daemon::net::Socket;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::timeout,
};
use tokio_rustls::server::TlsStream;

pub(super) use self::wire::Wire;
use super::output::Output;

/// The most output that layers hold back.
const LAYERS_BYTES_MAX: usize = 128 << 10;

/// A connection's way to its client.
pub(super) enum Transport {
    Plain(Socket),
    Layered(Box<Layered>),
}

/// A connection with TLS, compression or both.
pub(super) struct Layered {
    layers: Layers,
    /// The layers hold nothing back.
    is_flushed: bool,
    /// An error that came right behind data.
    read_error: Option<io::Error>,
}

/// The layers, the outer one first.
#[expect(clippy::large_enum_variant, reason = "there is one per connection, in a box")]
enum Layers {
    Tls(TlsStream<Wire>),
    Compressed(Compressed<Wire>),
    CompressedTls(Compressed<TlsStream<Wire>>),
}

/// Calls a function with the outermost stream.
macro_rules! outermost {
    ($layers:expr, $stream:ident => $call:expr) => {
        match $layers {
            Layers::Tls($stream) => $call,
            Layers::Compressed($stream) => $call,
            Layers::CompressedTls($stream) => $call,
        }
    };
}

impl Transport {
    /// A connection that goes on within TLS.
    pub(super) fn encrypted(stream: TlsStream<Wire>) -> Self {
        Self::layered(Layers::Tls(stream))
    }

    /// Compresses from now on, within TLS if there is TLS. `early` has been read already. A connection that is
    /// compressed stays as it is.
    pub(super) fn compressed(self, codec: Codec, early: BytesMut) -> Self {
        let layers = match self {
            Self::Plain(socket) => {
                Layers::Compressed(Compressed::new(Wire::new(socket), codec, early))
            }
            Self::Layered(layered) => match layered.layers {
                Layers::Tls(stream) => Layers::CompressedTls(Compressed::new(stream, codec, early)),
                layers => layers,
            },
        };
        Self::layered(layers)
    }

    fn layered(layers: Layers) -> Self {
        Self::Layered(Box::new(Layered { layers, is_flushed: true, read_error: None }))
    }

    /// Polls for data, which is appended to `buffer`; the result is its length, 0 at the end of the stream.
    pub(super) fn poll_read(
        &mut self,
        buffer: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => poll_read_buf(socket, buffer, cx),
            Self::Layered(layered) => layered.poll_read(buffer, cx),
        }
    }

    /// Appends the data that is there to `buffer`, without waiting.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) async fn read_now(&mut self, buffer: &mut BytesMut) -> io::Result<()> {
        let read = match self {
            Self::Plain(socket) => socket.try_read_buf(buffer),
            Self::Layered(layered) => {
                poll_fn(|cx| match layered.poll_read(buffer, cx) {
                    Poll::Ready(read) => Poll::Ready(read),
                    Poll::Pending => Poll::Ready(Ok(0)),
                })
                .await
            }
        };
        match read {
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                Ok(())
            }
            read => read.map(drop),
        }
    }

    /// Writes as much of `output` as the client takes without waiting. Returns how many bytes it took; those of layers
    /// may have been passed to them earlier.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) async fn write(&mut self, output: &mut Output) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => output.write_to(socket),
            Self::Layered(layered) if output.is_empty() && layered.is_flushed => Ok(0),
            Self::Layered(layered) => poll_fn(|cx| Poll::Ready(layered.send(output, cx))).await,
        }
    }

    /// Writes all of `output`.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) async fn write_all(&mut self, output: &mut Output) -> io::Result<()> {
        loop {
            self.write(output).await?;
            if output.is_empty() && !self.has_unsent() {
                return Ok(());
            }
            poll_fn(|cx| self.poll_writable(cx)).await?;
        }
    }

    /// Writes all of `output` and tells the client that nothing follows. One that does not take it within `limit` goes
    /// without.
    pub(super) async fn finish(&mut self, output: &mut Output, limit: Duration) {
        let finish = async {
            self.write_all(output).await?;
            self.shut_down().await
        };
        // The connection is over in any case.
        let _: Result<io::Result<()>, _> = timeout(limit, finish).await;
    }

    /// Returns whether the layers hold something back that the client has not taken.
    pub(super) fn has_unsent(&self) -> bool {
        matches!(self, Self::Layered(layered) if !layered.is_flushed)
    }

    /// Polls whether the client may take more.
    pub(super) fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => socket.poll_write_ready(cx),
            Self::Layered(layered) => layered.layers.wire().poll_writable(cx),
        }
    }

    /// Tells the client that nothing follows, if there are layers to tell it.
    async fn shut_down(&mut self) -> io::Result<()> {
        let Self::Layered(layered) = self else { return Ok(()) };
        let shut_down = |cx: &mut Context<'_>| outermost!(&mut layered.layers, stream => Pin::new(stream).poll_shutdown(cx));
        poll_fn(shut_down).await
    }

    /// The most that the layers hold, as long as the client does not take it.
    pub(super) fn held_bytes(&self) -> usize {
        if self.has_unsent() { LAYERS_BYTES_MAX } else { 0 }
    }

    /// Gives back the memory of a burst that is over.
    pub(super) fn shrink(&mut self) {
        if let Self::Layered(layered) = self {
            match &mut layered.layers {
                Layers::Tls(_) => {}
                Layers::Compressed(stream) => stream.shrink(),
                Layers::CompressedTls(stream) => stream.shrink(),
            }
        }
    }
}

impl Layered {
    /// Reads until nothing more is there or `buffer` is full: layers return their data in small portions.
    fn poll_read(
        &mut self,
        buffer: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = self.read_error.take() {
            return Poll::Ready(Err(error));
        }
        let (mut total, room) = (0, buffer.capacity() - buffer.len());
        while total < room {
            match outermost!(&mut self.layers, stream => poll_read_buf(stream, buffer, cx)) {
                Poll::Ready(Ok(bytes)) if bytes > 0 => total += bytes,
                // Many clients end TLS by closing the socket. Commands cannot be cut short that way.
                Poll::Ready(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => break,
                Poll::Ready(Err(error)) if total > 0 => {
                    self.read_error = Some(error);
                    break;
                }
                Poll::Pending if total == 0 => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(_)) | Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(total))
    }

    /// Sends as much as the client takes; returns how many bytes that was. Wakes the task when it takes more.
    fn send(&mut self, output: &mut Output, cx: &mut Context<'_>) -> io::Result<usize> {
        let before = self.layers.wire().sent();
        match self.poll_send(output, cx) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(self.layers.wire().sent() - before),
        }
    }

    fn poll_send(&mut self, output: &mut Output, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_flushed = false;
        outermost!(&mut self.layers, stream => {
            ready!(output.poll_move_to(stream, cx))?;
            ready!(Pin::new(stream).poll_flush(cx))?;
        });
        self.is_flushed = true;
        Poll::Ready(Ok(()))
    }
}

impl Layers {
    fn wire(&self) -> &Wire {
        match self {
            Self::Tls(stream) => stream.get_ref().0,
            Self::Compressed(stream) => stream.get_ref(),
            Self::CompressedTls(stream) => stream.get_ref().get_ref().0,
        }
    }
}

fn poll_read_buf<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    pin!(stream.read_buf(buffer)).poll(cx)
}
