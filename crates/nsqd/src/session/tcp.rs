//! Accepting connections on the TCP port.

use std::{io, sync::Arc, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::{node::Node, session::workers::Workers, topic::client::Client};

/// How often the operating system asks a silent peer whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How long to wait when the process has run out of descriptors or memory.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until `shutdown`.
///
/// # Errors
/// When the listener itself is broken.
pub(crate) async fn accept(
    node: Arc<Node>,
    listener: TcpListener,
    workers: &Workers,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let logger = node.services.logger.clone();
    let address = listener.local_addr()?;
    logger.info(format_args!("TCP: listening on {address}"));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, remote)) => {
                logger.info(format_args!("TCP: new client({remote})"));
                let connected_at_s = node.services.clock.wall_seconds();
                let client = Arc::new(Client::new(node.next_client_id(), remote, connected_at_s));
                match prepare(&stream).and_then(|()| stream.into_std()) {
                    Ok(stream) => workers.assign(stream, client),
                    Err(error) => logger.warn(format_args!("client({remote}) - {error}")),
                }
            }
            Err(error) if is_temporary(&error) => {
                logger.warn(format_args!("temporary Accept() failure - {error}"));
                tokio::time::sleep(SHORTAGE_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
    logger.info(format_args!("TCP: closing {address}"));
    Ok(())
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Whether another connection may well be accepted later: this one was lost before it was accepted, or something
/// has run short.
fn is_temporary(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let lost =
        matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset);
    let errno = Errno::from_io_error(error);
    lost || matches!(
        errno,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::INTR)
    )
}
