//! The first bytes of a connection, which name its protocol.

use std::{io, time::Duration};

use nsq_daemon::net::Socket;
use nsq_protocol::{Code, FrameType, MAGIC_V2};
use tokio::{io::AsyncReadExt, time::timeout};

use super::{FAREWELL, output::Output, transport::Transport};
use crate::{node::Node, topic::client::Client};

/// How long a client may take to say which protocol it speaks. NSQ waits for ever, and with it its shutdown.
const MAGIC_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits for the magic; gives back the socket if it is the one of V2.
pub(super) async fn greet(node: &Node, mut socket: Socket, client: &Client) -> Option<Socket> {
    let log = &node.services.clients_log;
    match read_magic(&mut socket, client).await {
        Ok(magic) if magic == MAGIC_V2 => Some(socket),
        Ok(magic) => {
            log.error(
                Code::BadProtocol.as_str(),
                format_args!(
                    "client({}) bad protocol magic '{}'",
                    client.remote,
                    magic.escape_ascii()
                ),
            );
            node.services.meters.refused(Code::BadProtocol);
            let mut output = Output::default();
            output.frame(FrameType::Error, Code::BadProtocol.as_str().as_bytes());
            Transport::Plain(socket).finish(&mut output, FAREWELL).await;
            None
        }
        Err(error) => {
            let line = format_args!("failed to read protocol version - {error}");
            log.error("failed connections", line);
            None
        }
    }
}

async fn read_magic(socket: &mut Socket, client: &Client) -> io::Result<[u8; 4]> {
    let mut magic = [0; 4];
    tokio::select! {
        read = timeout(MAGIC_TIMEOUT, socket.read_exact(&mut magic)) => {
            read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            Ok(magic)
        }
        () = client.woken() => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}
