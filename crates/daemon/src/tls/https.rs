//! The listener of HTTPS.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};

use super::ServerTls;
use crate::net::{Listener, Remote, is_gone, prepare};

/// The longest that a client may take for the TLS handshake.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// The answer to a client that speaks HTTP without TLS.
const IN_CLEAR: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// Accepts TLS connections for HTTP. Clones share the listener.
#[derive(Debug, Clone)]
pub struct HttpsListener {
    tcp: Arc<TcpListener>,
    tls: ServerTls,
}

impl HttpsListener {
    /// A listener whose connections are secured by `tls`.
    pub fn new(tcp: TcpListener, tls: ServerTls) -> Self {
        Self { tcp: Arc::new(tcp), tls }
    }
}

impl Listener for HttpsListener {
    type Accepted = (TcpStream, Arc<ServerConfig>);
    type Io = Box<TlsStream<TcpStream>>;
    type Remote = Remote;

    async fn accept(&mut self) -> io::Result<(Self::Accepted, Remote)> {
        let (stream, remote) = self.tcp.accept().await?;
        Ok(((stream, self.tls.https_config()), remote.into()))
    }

    async fn establish((stream, config): Self::Accepted) -> io::Result<Self::Io> {
        prepare(&stream)?;
        let handshake = tokio::time::timeout(HANDSHAKE_TIME_MAX, handshake(stream, config));
        handshake.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(Box::new)
    }

    fn is_gone((stream, _): &Self::Accepted) -> bool {
        is_gone(stream)
    }

    /// Closes the connection: an answer would need a handshake first.
    fn refuse(_: Self::Accepted, _: &[u8]) {}

    fn local(&self) -> String {
        self.tcp.local()
    }
}

async fn handshake(
    mut stream: TcpStream,
    config: Arc<ServerConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
        // The name of an HTTP method; no TLS begins like that.
        stream.write_all(IN_CLEAR).await?;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "client speaks HTTP without TLS"));
    }
    TlsAcceptor::from(config).accept(stream).await
}
