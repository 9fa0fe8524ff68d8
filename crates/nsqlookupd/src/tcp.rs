//! Accepting connections of nsqd.

use std::{io, sync::Arc};

use nsq_daemon::{
    net::{self, AnyListener},
    tasks::Tasks,
};

use crate::{directory::Directory, protocol_v1};

/// Accepts until the tasks are asked to end.
///
/// # Errors
/// When the listener itself is broken.
pub(crate) async fn accept(
    directory: &Arc<Directory>,
    listener: AnyListener,
    tasks: &Tasks,
) -> io::Result<()> {
    let (logger, shutdown) = (&directory.logger, tasks.shutdown_token());
    net::accept("TCP", listener, logger, &shutdown, |socket, remote| {
        let log = &directory.clients_log;
        log.info("new clients", format_args!("TCP: new client({remote})"));
        if let Err(error) = socket.prepare() {
            log.warn("failed connections", format_args!("client({remote}) - {error}"));
            return;
        }
        let (directory, shutdown) = (Arc::clone(directory), shutdown.clone());
        tasks.spawn("connection", async move {
            protocol_v1::serve(&directory, socket, remote, &shutdown).await;
        });
    })
    .await
}
