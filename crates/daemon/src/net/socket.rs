//! A connection over TCP or a unix socket.

use std::{
    io::{self, IoSlice},
    net,
    os::{self, fd::AsFd},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BufMut;
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

/// The idle time after which the operating system asks a silent peer whether it is still there, and the time between
/// its questions.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// A connection over TCP or a unix socket.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
}

/// A connection that no runtime serves, on its way from one to another.
#[derive(Debug)]
pub enum StdSocket {
    /// Over TCP.
    Tcp(net::TcpStream),
    /// Over a unix socket.
    Unix(os::unix::net::UnixStream),
}

/// Calls a method that both kinds of sockets have.
macro_rules! either {
    ($socket:expr, $stream:ident => $call:expr) => {
        match $socket {
            Socket::Tcp($stream) => $call,
            Socket::Unix($stream) => $call,
        }
    };
}

impl Socket {
    /// Connects to a `host:port`, or to a unix socket when the address has a slash.
    ///
    /// # Errors
    /// When nothing listens there.
    pub async fn connect(address: &str) -> io::Result<Self> {
        if address.contains('/') {
            UnixStream::connect(address).await.map(Self::Unix)
        } else {
            TcpStream::connect(address).await.map(Self::Tcp)
        }
    }

    /// Makes the current runtime serve a connection.
    ///
    /// # Errors
    /// When the operating system refuses to watch it.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub fn from_std(socket: StdSocket) -> io::Result<Self> {
        Ok(match socket {
            StdSocket::Tcp(stream) => Self::Tcp(TcpStream::from_std(stream)?),
            StdSocket::Unix(stream) => Self::Unix(UnixStream::from_std(stream)?),
        })
    }

    /// Takes the connection from its runtime. It stays non-blocking.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn into_std(self) -> io::Result<StdSocket> {
        Ok(match self {
            Self::Tcp(stream) => StdSocket::Tcp(stream.into_std()?),
            Self::Unix(stream) => StdSocket::Unix(stream.into_std()?),
        })
    }

    /// Sets the options of a client's socket, which only TCP has: no delay, and keep-alive.
    ///
    /// # Errors
    /// When the operating system refuses, which it does for a connection that is gone.
    pub fn prepare(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => prepare(stream),
            Self::Unix(_) => Ok(()),
        }
    }

    /// Returns whether the client is gone already, with nothing said.
    pub(super) fn is_gone(&self) -> bool {
        either!(self, stream => is_gone(stream))
    }

    /// Sends an answer to a client that is not served, if that takes no waiting, and closes the connection.
    pub(super) fn refuse(self, answer: &[u8]) {
        either!(&self, stream => refuse(stream, answer));
    }

    /// Polls whether there may be room to write.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_write_ready(cx))
    }

    /// Reads what is there into the spare room of a buffer.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing, or what the operating system says.
    pub fn try_read_buf(&self, into: &mut impl BufMut) -> io::Result<usize> {
        either!(self, stream => stream.try_read_buf(into))
    }

    /// Writes as much as there is room for.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room, or what the operating system says.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        either!(self, stream => stream.try_write(bytes))
    }

    /// Writes as much of several slices as there is room for.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room, or what the operating system says.
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(self, stream => stream.try_write_vectored(slices))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, into))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// Sets the options of a client's socket: no delay, and keep-alive.
///
/// # Errors
/// When the operating system refuses, which it does for a connection that is gone.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE)?;
    Ok(())
}

/// Returns whether the peer of a new connection is gone already, with nothing said.
pub(crate) fn is_gone(socket: impl AsFd) -> bool {
    match recv(&socket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, received)) => received == 0,
        Err(error) => !matches!(error, Errno::AGAIN | Errno::INTR),
    }
}

/// Sends a last answer without waiting. The caller drops the socket then.
///
/// All of it is best effort: a client that is gone needs no answer.
pub(super) fn refuse(socket: impl AsFd, answer: &[u8]) {
    // To close a socket with unread input resets the connection, which can cost the client its answer.
    let mut unread = [0; 4096];
    let _ = recv(&socket, &mut unread, RecvFlags::DONTWAIT);
    let _ = send(&socket, answer, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    let _ = shutdown(&socket, Shutdown::Write);
}
