//! Where connections come from.

use std::future::Future;
use std::io;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// The idle time after which the operating system starts to ask whether a client is still there, and the time
/// between its questions.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// A source of connections.
pub trait Listener: Send + 'static {
    /// What is accepted.
    type Accepted: Send + 'static;
    /// What requests are read from and answers written to.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection, and the client's address.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Accepted, String)>> + Send;

    /// Makes the connection ready for HTTP, in the connection's own task: the place for a handshake.
    fn establish(
        accepted: Self::Accepted,
    ) -> impl Future<Output = io::Result<Self::Io>> + Send + 'static;

    /// The address that clients connect to, for the log.
    fn local(&self) -> String;
}

impl Listener for TcpListener {
    type Accepted = TcpStream;
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, String)> {
        let (stream, remote) = Self::accept(self).await?;
        Ok((stream, remote.to_string()))
    }

    async fn establish(stream: TcpStream) -> io::Result<TcpStream> {
        stream.set_nodelay(true)?;
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, KEEPALIVE)?;
        sockopt::set_tcp_keepintvl(&stream, KEEPALIVE)?;
        Ok(stream)
    }

    fn local(&self) -> String {
        self.local_addr().map_or_else(|error| error.to_string(), |address| address.to_string())
    }
}

impl Listener for UnixListener {
    type Accepted = UnixStream;
    type Io = UnixStream;

    async fn accept(&mut self) -> io::Result<(UnixStream, String)> {
        let (stream, _) = Self::accept(self).await?;
        Ok((stream, "@".to_owned()))
    }

    async fn establish(stream: UnixStream) -> io::Result<UnixStream> {
        Ok(stream)
    }

    fn local(&self) -> String {
        let address = self.local_addr().ok();
        let path = address.as_ref().and_then(|address| address.as_pathname());
        path.map_or_else(|| "@".to_owned(), |path| path.display().to_string())
    }
}
