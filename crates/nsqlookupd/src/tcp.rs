//! Accepting connections of nsqd.

use std::{io, sync::Arc};

use nsq_daemon::{
    net::{self, Admission, AnyListener, Gate},
    tasks::Tasks,
};
use nsq_protocol::{ClientError, Code, v1};

use crate::{directory::Directory, protocol_v1};

/// The text of the error that a client gets when it is not admitted.
const TOO_MANY: &str = "too many connections";

/// Accepts until the tasks are asked to end.
///
/// # Errors
/// When the listener itself is broken.
pub(crate) async fn accept(
    directory: &Arc<Directory>,
    listener: AnyListener,
    admission: &Admission,
    tasks: &Tasks,
) -> io::Result<()> {
    let (logger, shutdown) = (&directory.logger, tasks.shutdown_token());
    let mut refusal = Vec::new();
    v1::encode_error(&ClientError::new(Code::Invalid, TOO_MANY), &mut refusal);
    let gate = Gate { protocol: "TCP", admission, refusal: &refusal };
    net::accept(gate, listener, logger, &shutdown, |socket, remote, permit| {
        let log = &directory.clients_log;
        log.info("new clients", format_args!("TCP: new client({remote})"));
        if let Err(error) = socket.prepare() {
            log.warn("failed connections", format_args!("client({remote}) - {error}"));
            return;
        }
        let (directory, shutdown) = (Arc::clone(directory), shutdown.clone());
        tasks.spawn("connection", async move {
            // Given back after the socket is closed.
            let _permit = permit;
            protocol_v1::serve(&directory, socket, remote, &shutdown).await;
        });
    })
    .await
}
