//! The transport of a connection: TCP, TLS over it, compression over either.
//!
//! It is an enum rather than a trait object so that plain TCP, the usual case, costs one branch.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

#[cfg(feature = "compression")]
use nsq_compression::Compressed;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

#[cfg(feature = "tls")]
use crate::tls::TlsStream;

/// A connection's stream.
pub(crate) enum Transport {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream>),
    #[cfg(feature = "compression")]
    Compressed(Box<Compressed<Transport>>),
}

/// Calls a method of the underlying stream.
macro_rules! delegate {
    ($transport:expr, $stream:ident => $call:expr) => {
        match $transport.get_mut() {
            Self::Plain($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            #[cfg(feature = "tls")]
            Self::Tls($stream) => {
                let $stream = Pin::new(&mut **$stream);
                $call
            }
            #[cfg(feature = "compression")]
            Self::Compressed($stream) => {
                let $stream = Pin::new(&mut **$stream);
                $call
            }
        }
    };
}

impl AsyncRead for Transport {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Transport {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, stream => stream.poll_write(cx, bytes))
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_shutdown(cx))
    }
}
