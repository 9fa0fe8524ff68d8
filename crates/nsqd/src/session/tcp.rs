//! Accepting connections on the TCP port or its unix socket.

use std::{io, sync::Arc};

use nsq_daemon::net::{self, AnyListener};
use tokio_util::sync::CancellationToken;

use crate::{node::Node, session::workers::Workers, topic::client::Client};

/// Accepts until `shutdown`.
///
/// # Errors
/// When the listener itself is broken.
pub(crate) async fn accept(
    node: Arc<Node>,
    listener: AnyListener,
    workers: &Workers,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let (logger, clients_log) = (&node.services.logger, &node.services.clients_log);
    net::accept("TCP", listener, logger, &shutdown, |socket, remote| {
        clients_log.info("new clients", format_args!("TCP: new client({remote})"));
        let connected_at_s = node.services.clock.wall_seconds();
        let client = Arc::new(Client::new(node.next_client_id(), remote, connected_at_s));
        match socket.prepare().and_then(|()| socket.into_std()) {
            Ok(socket) => workers.assign(socket, client),
            Err(error) => {
                clients_log.warn("failed connections", format_args!("client({remote}) - {error}"));
            }
        }
    })
    .await
}
