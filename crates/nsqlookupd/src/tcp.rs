//! Accepting connections of nsqd.

use std::{io, sync::Arc, time::Duration};

use nsq_daemon::tasks::Tasks;
use rustix::io::Errno;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};

use crate::{directory::Directory, protocol_v1};

/// How often the operating system asks a silent peer whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How long to wait when the process has run out of descriptors or memory.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the tasks are asked to end.
///
/// # Errors
/// When the listener itself is broken.
pub(crate) async fn accept(
    directory: &Arc<Directory>,
    listener: TcpListener,
    tasks: &Tasks,
) -> io::Result<()> {
    let (logger, shutdown) = (&directory.logger, tasks.shutdown_token());
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
                if let Err(error) = prepare(&stream) {
                    logger.warn(format_args!("client({remote}) - {error}"));
                    continue;
                }
                let (directory, shutdown) = (Arc::clone(directory), shutdown.clone());
                tasks.spawn("connection", async move {
                    protocol_v1::serve(&directory, stream, remote, &shutdown).await;
                });
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
    !matches!(
        Errno::from_io_error(error),
        None | Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP | Errno::FAULT)
    )
}
