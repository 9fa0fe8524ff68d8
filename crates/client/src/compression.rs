//! A stream that is compressed in both directions.
//!
//! Written data is compressed into a buffer at once, and sent when the buffer is full or the stream is flushed. All
//! commands written between two flushes therefore share one compressed block.

mod codec;

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

pub(crate) use self::codec::Codec;

/// The size of a read of compressed data.
const READ_BYTES: usize = 16 * 1024;
/// The most bytes compressed in one write, and the most compressed bytes that may wait when a write begins.
const BLOCK_BYTES: usize = 64 * 1024;

/// Compresses data written to `inner` and decompresses data read from it.
pub(crate) struct Compressed<S> {
    inner: S,
    codec: Codec,
    /// Data that has been read and not decompressed yet.
    packed: BytesMut,
    outgoing: Outgoing,
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
    pub(crate) fn new(inner: S, codec: Codec, packed: BytesMut) -> Self {
        Self { inner, codec, packed, outgoing: Outgoing::default() }
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
}

impl<S: AsyncRead + Unpin> AsyncRead for Compressed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        plain: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { inner, codec, packed, .. } = self.get_mut();
        loop {
            let n = codec.decompress(packed, plain.initialize_unfilled())?;
            if n > 0 || plain.remaining() == 0 {
                plain.advance(n);
                return Poll::Ready(Ok(()));
            }
            if packed.capacity() - packed.len() < READ_BYTES / 4 {
                packed.reserve(READ_BYTES);
            }
            if ready!(pin!(inner.read_buf(packed)).poll(cx))? == 0 {
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
        let Self { inner, codec, outgoing, .. } = self.get_mut();
        if outgoing.bytes.len() >= BLOCK_BYTES {
            ready!(outgoing.poll_send(inner, cx))?;
        }
        let plain = &plain[..plain.len().min(BLOCK_BYTES)];
        codec.compress(plain, &mut outgoing.bytes)?;
        outgoing.is_open = true;
        Poll::Ready(Ok(plain.len()))
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    fn codecs() -> Vec<(Codec, Codec)> {
        let mut codecs: Vec<_> = (1..=9).map(|n| (Codec::deflate(n), Codec::deflate(n))).collect();
        codecs.push((Codec::snappy(), Codec::snappy()));
        codecs
    }

    /// Returns bytes that compress badly, with repetitions.
    fn sample(len: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        (0..len).map(|i| if i % 300 < 100 { b'x' } else { next() }).collect()
    }

    #[tokio::test]
    async fn what_is_written_and_flushed_is_read_whatever_its_size() {
        for (ours, theirs) in codecs() {
            // The pipe holds less than a block, so that both ends have to wait.
            let (near, far) = duplex(1000);
            let mut near = Compressed::new(near, ours, BytesMut::new());
            let mut far = Compressed::new(far, theirs, BytesMut::new());
            for len in [0, 1, 100, 65_535, 65_536, 65_537, 300_000] {
                let sent = sample(len);
                let write = async {
                    near.write_all(&sent).await.unwrap();
                    near.flush().await.unwrap();
                };
                let mut received = vec![0; len];
                let read = async { far.read_exact(&mut received).await.map(drop) };
                let ((), read) = tokio::join!(write, read);
                read.unwrap();
                assert!(received == sent, "{len}");
            }
        }
    }

    #[tokio::test]
    async fn several_writes_share_one_flush() {
        for (codec, _) in codecs() {
            let (near, mut far) = duplex(1 << 20);
            let mut near = Compressed::new(near, codec, BytesMut::new());
            for _ in 0..1000 {
                near.write_all(b"FIN 0123456789abcdef\n").await.unwrap();
            }
            near.flush().await.unwrap();
            near.flush().await.unwrap();
            drop(near);
            let mut sent = Vec::new();
            far.read_to_end(&mut sent).await.unwrap();
            assert!(sent.len() < 21_000 / 10, "{}", sent.len());
        }
    }

    #[tokio::test]
    async fn what_is_not_compressed_is_an_error() {
        for (codec, garbage) in [
            (Codec::deflate(6), &b"\xff\xff\xff\xff"[..]),
            (Codec::snappy(), b"\x00\x00\x00\x06\x00\x00\x00\x00OK"),
            (Codec::snappy(), b"\xff\xff\xff\xff"),
        ] {
            let (near, _far) = duplex(100);
            let mut near = Compressed::new(near, codec, garbage.into());
            assert!(near.read_u8().await.is_err(), "{garbage:?}");
        }
    }
}
