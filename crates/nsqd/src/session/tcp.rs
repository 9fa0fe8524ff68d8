//! Accepting connections on the TCP port or its unix socket.

use std::{io, sync::Arc};

use nsq_daemon::net::{self, Admission, AnyListener, Gate};
use nsq_protocol::{ClientError, Code, FrameType, encode_frame};
use tokio_util::sync::CancellationToken;

use crate::{node::Node, session::workers::Workers, topic::client::Client};

/// The text of the error that a client gets when it is not admitted.
const TOO_MANY: &str = "too many connections";

/// Accepts until `shutdown`.
///
/// # Errors
/// When the listener itself is broken.
pub(crate) async fn accept(
    node: Arc<Node>,
    listener: AnyListener,
    admission: &Admission,
    workers: &Workers,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let (logger, clients_log) = (&node.services.logger, &node.services.clients_log);
    let refusal = refusal();
    let gate = Gate { protocol: "TCP", admission, refusal: &refusal };
    net::accept(gate, listener, logger, &shutdown, |socket, remote, permit| {
        clients_log.info("new clients", format_args!("TCP: new client({remote})"));
        let connected_at_s = node.services.clock.wall_seconds();
        let client = Arc::new(Client::new(node.next_client_id(), remote, connected_at_s));
        match socket.prepare().and_then(|()| socket.into_std()) {
            Ok(socket) => workers.assign(socket, client, permit),
            Err(error) => {
                clients_log.warn("failed connections", format_args!("client({remote}) - {error}"));
            }
        }
    })
    .await
}

/// The frame for a client that is not admitted.
fn refusal() -> Vec<u8> {
    let (mut data, mut frame) = (Vec::new(), Vec::new());
    ClientError::new(Code::Invalid, TOO_MANY).encode(&mut data);
    encode_frame(FrameType::Error, &data, &mut frame);
    frame
}
