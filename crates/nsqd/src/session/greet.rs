//! The first bytes of a connection, which name its protocol.

use std::{future::Future, io, time::Duration};

use nsq_daemon::net::Socket;
use nsq_protocol::{Code, FrameType, MAGIC_V2};
use tokio::{io::AsyncReadExt, time::timeout};

use super::{FAREWELL, output::Output, transport::Transport};
use crate::{meters::Limit, node::Node, topic::client::Client};

/// Waits for the magic; gives back the socket if it is the one of V2.
pub(super) async fn greet(node: &Node, mut socket: Socket, client: &Client) -> Option<Socket> {
    let log = &node.services.clients_log;
    let limit = node.services.options.shares.stall_limit();
    match read_magic(&mut socket, client, limit).await {
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
            if error.kind() == io::ErrorKind::TimedOut {
                node.services.meters.reached(Limit::StallTimeout);
            }
            let line = format_args!("failed to read protocol version - {error}");
            log.error("failed connections", line);
            None
        }
    }
}

async fn read_magic(
    socket: &mut Socket,
    client: &Client,
    limit: Option<Duration>,
) -> io::Result<[u8; 4]> {
    let mut magic = [0; 4];
    tokio::select! {
        read = within(limit, socket.read_exact(&mut magic)) => {
            read?;
            Ok(magic)
        }
        () = client.woken() => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

/// Awaits `read`, which fails after `limit` if there is one.
async fn within<T>(
    limit: Option<Duration>,
    read: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match limit {
        Some(limit) => {
            timeout(limit, read).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        }
        None => read.await,
    }
}
