//! Dialing: address resolution and TCP connect.

use std::{
    future::Future,
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    time::timeout,
};

use crate::{config::Config, error::ConnectError};

const KEEPALIVE: Duration = Duration::from_secs(15);

/// Connects to `address` from the configured local address, within `dial_timeout`.
pub(crate) async fn dial(address: &str, config: &Config) -> Result<TcpStream, ConnectError> {
    let failed = |source: io::Error| ConnectError::Dial {
        address: address.to_owned(),
        source: Arc::new(source),
    };
    let stream = within(config.dial_timeout, dial_any(address, config.local_addr))
        .await
        .ok_or_else(|| ConnectError::DialTimeout {
            address: address.to_owned(),
            timeout: config.dial_timeout,
        })?
        .map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    SockRef::from(&stream)
        .set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))
        .map_err(failed)?;
    Ok(stream)
}

/// Connects to the first of the resolved addresses that accepts.
async fn dial_any(address: &str, local: Option<SocketAddr>) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for remote in resolve(address).await? {
        match dial_one(remote, local).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Resolves `address`. Literal addresses do without the resolver's thread.
async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(literal) = address.parse::<SocketAddr>() {
        return Ok(literal.to_socket_addrs()?.collect());
    }
    Ok(lookup_host(address).await?.collect())
}

async fn dial_one(remote: SocketAddr, local: Option<SocketAddr>) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(local) = local {
        socket.bind(local)?;
    }
    socket.connect(remote).await
}

/// Returns the output of `future`, or `None` if it takes longer than `limit`. Zero is no limit.
pub(crate) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    if limit.is_zero() {
        return Some(future.await);
    }
    timeout(limit, future).await.ok()
}
