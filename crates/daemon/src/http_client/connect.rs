//! Connections to servers.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
};

use tokio::{net::TcpStream, task::spawn_blocking, time::timeout};

use super::{Client, error::RequestError, url::Url};

/// The most host names that a client looks up at once. A lookup keeps a thread for as long as name servers please, even
/// when nothing waits for it any more, and others need these threads too.
pub(super) const LOOKUPS_MAX: usize = 16;

/// Connects to the server that `url` names.
///
/// # Errors
/// When it cannot be reached in time.
pub(super) async fn connect(client: &Client, url: &Url) -> Result<TcpStream, RequestError> {
    let limit = client.limits.connect;
    let connecting = async {
        let addresses = look_up(client, url.endpoint()).await?;
        TcpStream::connect(&addresses[..]).await
    };
    let address = || url.address().to_owned();
    match timeout(limit, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(source)) => Err(RequestError::Connect { address: address(), source }),
        Err(_) => Err(RequestError::Timeout { address: address(), limit }),
    }
}

async fn look_up(client: &Client, endpoint: String) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = endpoint.parse() {
        return Ok(vec![address]);
    }
    let permit = client.lookups.clone().acquire_owned().await.map_err(io::Error::other)?;
    let lookup = spawn_blocking(move || {
        let _permit = permit;
        endpoint.to_socket_addrs().map(Iterator::collect)
    });
    lookup.await?
}
