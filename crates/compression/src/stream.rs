//! The stream.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::{codec::Codec, unpacked::Unpacked};

/// The size of a read of compressed data: at first, and after reads that filled their room.
const READ_BYTES_MIN: usize = 2 * 1024;
const READ_BYTES_MAX: usize = 32 * 1024;
/// The most bytes compressed in one write, the most decompressed in one read, and the most compressed bytes that may
/// wait when a write begins.
const BLOCK_BYTES: usize = 64 * 1024;

/// A stream that compresses data written to `S` and decompresses data read from it.
pub struct Compressed<S> {
    inner: S,
    codec: Codec,
    incoming: Incoming,
    outgoing: Outgoing,
}

/// Data that has been read and not decompressed yet.
struct Incoming {
    packed: BytesMut,
    read_bytes: usize,
    /// The codec makes nothing of `packed` before there is more of it.
    is_starved: bool,
}

/// Data that has been compressed and not sent yet.
#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    /// Data was written since the last flush.
    is_open: bool,
}

impl<S> Compressed<S> {
    /// Wraps `inner`, from which `packed` has already been read.
    pub fn new(inner: S, codec: Codec, packed: BytesMut) -> Self {
        let incoming = Incoming { packed, read_bytes: READ_BYTES_MIN, is_starved: false };
        Self { inner, codec, incoming, outgoing: Outgoing::default() }
    }

    /// Returns the stream below.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Gives back the memory of a burst that is over. What follows compresses as if the stream began anew, so this is
    /// for now and then, not for every flush.
    pub fn shrink(&mut self) {
        if self.outgoing.bytes.is_empty() && !self.outgoing.is_open {
            self.outgoing.bytes = Vec::new();
            self.codec.shrink();
        }
        if self.incoming.packed.is_empty() {
            self.incoming.packed = BytesMut::new();
            self.incoming.read_bytes = READ_BYTES_MIN;
        }
    }

    /// Compresses the front of `buffers`, no more than a block; returns how much that was.
    fn pack<'a>(&mut self, buffers: impl IntoIterator<Item = &'a [u8]>) -> io::Result<usize> {
        let mut room = BLOCK_BYTES;
        for plain in buffers {
            let plain = &plain[..plain.len().min(room)];
            self.codec.pack(plain, &mut self.outgoing.bytes)?;
            room -= plain.len();
            if room == 0 {
                break;
            }
        }
        self.outgoing.is_open = true;
        Ok(BLOCK_BYTES - room)
    }
}

impl Incoming {
    /// Reads more; returns whether there was more.
    fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        inner: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        if self.packed.capacity() - self.packed.len() < self.read_bytes / 4 {
            self.packed.reserve(self.read_bytes);
        }
        let room = self.packed.capacity() - self.packed.len();
        let read = ready!(pin!(inner.read_buf(&mut self.packed)).poll(cx))?;
        if read == room {
            self.read_bytes = (self.read_bytes * 4).min(READ_BYTES_MAX);
        }
        self.is_starved = false;
        Poll::Ready(Ok(read > 0))
    }
}

impl Outgoing {
    fn poll_send<S: AsyncWrite + Unpin>(
        &mut self,
        inner: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.sent < self.bytes.len() {
            let n = ready!(Pin::new(&mut *inner).poll_write(cx, &self.bytes[self.sent..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += n;
        }
        self.sent = 0;
        self.bytes.clear();
        Poll::Ready(Ok(()))
    }

    /// Makes room for another block.
    fn poll_ready<S: AsyncWrite + Unpin>(
        &mut self,
        inner: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.bytes.len() < BLOCK_BYTES { Poll::Ready(Ok(())) } else { self.poll_send(inner, cx) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Compressed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        plain: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { inner, codec, incoming, .. } = self.get_mut();
        if plain.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if !incoming.is_starved {
                let room = plain.initialize_unfilled_to(plain.remaining().min(BLOCK_BYTES));
                match codec.unpack(&mut incoming.packed, room)? {
                    Unpacked::Bytes(bytes) => {
                        plain.advance(bytes);
                        return Poll::Ready(Ok(()));
                    }
                    Unpacked::Ended => return Poll::Ready(Ok(())),
                    Unpacked::Starved => incoming.is_starved = true,
                }
            }
            if !ready!(incoming.poll_fill(inner, cx))? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Compressed<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        plain: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.outgoing.poll_ready(&mut this.inner, cx))?;
        Poll::Ready(this.pack([plain]))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.outgoing.poll_ready(&mut this.inner, cx))?;
        Poll::Ready(this.pack(buffers.iter().map(|buffer| &**buffer)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { inner, codec, outgoing, .. } = self.get_mut();
        if outgoing.is_open {
            codec.flush(&mut outgoing.bytes)?;
            outgoing.is_open = false;
        }
        ready!(outgoing.poll_send(inner, cx))?;
        Pin::new(inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
