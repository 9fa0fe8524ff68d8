//! The loop that accepts connections, from any listener.

use std::{fmt::Display, io, time::Duration};

use rustix::io::Errno;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use super::{
    admission::{Admission, Permit},
    socket::{is_gone, prepare, refuse},
};
use crate::log::{Limited, Logger};

/// The pause after a failed accept, at first and at most; it doubles in between.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A source of connections.
pub trait Listener: Send + 'static {
    /// A connection as it is accepted.
    type Accepted: Send + 'static;
    /// A connection that is ready to be read and written.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The address of a client.
    type Remote: Display + Send;

    /// Accepts the next connection.
    fn accept(&mut self)
    -> impl Future<Output = io::Result<(Self::Accepted, Self::Remote)>> + Send;

    /// Makes a connection ready, in its own task: the place for a handshake.
    fn establish(
        accepted: Self::Accepted,
    ) -> impl Future<Output = io::Result<Self::Io>> + Send + 'static;

    /// Sends an answer to a client that is not served, if that takes no waiting, and closes the connection.
    fn refuse(accepted: Self::Accepted, answer: &[u8]);

    /// Returns whether the client is gone already, with nothing said.
    fn is_gone(accepted: &Self::Accepted) -> bool;

    /// The address that clients connect to, for the log.
    fn local(&self) -> String;
}

impl Listener for TcpListener {
    type Accepted = TcpStream;
    type Io = TcpStream;
    type Remote = std::net::SocketAddr;

    async fn accept(&mut self) -> io::Result<(TcpStream, Self::Remote)> {
        Self::accept(self).await
    }

    async fn establish(stream: TcpStream) -> io::Result<TcpStream> {
        prepare(&stream)?;
        Ok(stream)
    }

    fn is_gone(stream: &TcpStream) -> bool {
        is_gone(stream)
    }

    fn refuse(stream: TcpStream, answer: &[u8]) {
        refuse(&stream, answer);
    }

    fn local(&self) -> String {
        self.local_addr().map_or_else(|error| error.to_string(), |address| address.to_string())
    }
}

/// A listener's admission of new connections.
#[derive(Debug)]
pub struct Gate<'a> {
    /// The listener's name in the log.
    pub protocol: &'a str,
    /// Decides which connections are served.
    pub admission: &'a Admission,
    /// The answer to those that are not.
    pub refusal: &'a [u8],
}

/// Accepts connections until `shutdown` is cancelled, and gives each to `handle` with a permit, to be kept as long as the
/// connection. One that is not admitted gets its answer and is closed at once, so that it holds no descriptor.
///
/// As many connections are accepted in a row as tokio lets a task do, which is over a hundred; then others have their turn.
///
/// # Errors
/// When the listener fails for good; a shortage of descriptors or memory is waited out.
pub async fn accept<L: Listener>(
    gate: Gate<'_>,
    mut listener: L,
    logger: &Logger,
    shutdown: &CancellationToken,
    mut handle: impl FnMut(L::Accepted, L::Remote, Permit),
) -> io::Result<()> {
    let (protocol, local) = (gate.protocol, listener.local());
    logger.info(format_args!("{protocol}: listening on {local}"));
    let mut pause = PAUSE_MIN;
    let refusals = Limited::to_all(logger, protocol);
    let outcome = loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((connection, remote)) => {
                pause = PAUSE_MIN;
                if L::is_gone(&connection) {
                    // To serve it would hold up those behind it in the queue, for nothing.
                    continue;
                }
                match gate.admission.admit() {
                    Ok(permit) => handle(connection, remote, permit),
                    Err(full) => {
                        L::refuse(connection, gate.refusal);
                        let line = format_args!("{protocol}: client({remote}) refused - {full}");
                        refusals.warn("refused clients", line);
                    }
                }
            }
            Err(error) if is_temporary(&error) => {
                logger.warn(format_args!("temporary Accept() failure - {error}"));
                tokio::select! {
                    () = shutdown.cancelled() => break Ok(()),
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(PAUSE_MAX);
            }
            Err(error) => break Err(error),
        }
    };
    drop(listener);
    logger.info(format_args!("{protocol}: closing {local}"));
    outcome
}

/// Returns whether accepting may work again by itself: the connection was gone, or the machine is short of something.
fn is_temporary(error: &io::Error) -> bool {
    !matches!(
        Errno::from_io_error(error),
        None | Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP | Errno::FAULT)
    )
}
