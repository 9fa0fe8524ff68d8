//! The session of one nsqd: commands in, responses out, and the time that a client may take.

use std::{io, sync::atomic::Ordering::Relaxed, time::Duration};

use nsq_daemon::net::{Remote, Socket};
use nsq_options::duration;
use nsq_protocol::{
    ClientError, Code, MAGIC_V1, Missing,
    v1::{self, Decoded, Phase},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{client::Client, directory::Directory, limit::Limit};

/// Buffer space reserved for a read. A larger buffer is kept only while the body of an IDENTIFY arrives.
const READ_BYTES: usize = 4 << 10;
/// The longest that a client may take to send its magic, and to complete a command it has begun. Between commands an
/// nsqd may be silent for any time.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(30);
/// The longest that a client may take to accept a response.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// How long input is drained after a refusal. Closing a socket with unread input resets the connection, and the
/// client could lose the response.
const LINGER: Duration = Duration::from_millis(500);

/// Serves a connection until the client disconnects, a command is refused or `shutdown` is cancelled. Its
/// registrations are removed then.
pub(crate) async fn serve(
    directory: &Directory,
    mut stream: Socket,
    remote: Remote,
    shutdown: &CancellationToken,
) {
    let _open = directory.metrics.connection();
    let mut client = Client::new(directory, remote);
    tokio::select! {
        () = converse(&mut stream, &mut client) => {}
        () = shutdown.cancelled() => {}
    }
}

async fn converse(stream: &mut Socket, client: &mut Client<'_>) {
    let (log, remote) = (&client.directory.clients_log, client.remote);
    let mut deadlines = Deadlines::start(client);
    let mut buf = Vec::new();
    if let Err(error) = within(COMMAND_TIME_MAX, read_magic(stream, &mut buf)).await {
        let line = format_args!("failed to read protocol version - {error}");
        return log.error("failed connections", line);
    }
    let magic: Vec<u8> = buf.drain(..MAGIC_V1.len()).collect();
    let shown = magic.escape_ascii();
    log.info("magics", format_args!("CLIENT({remote}): desired protocol magic '{shown}'"));
    let end = if magic == MAGIC_V1 {
        let end = serve_commands(stream, client, buf, &mut deadlines).await;
        log.info("closed connections", format_args!("PROTOCOL(V1): [{remote}] exiting ioloop"));
        client.leave().await;
        end
    } else {
        let code = Code::BadProtocol.as_str();
        log.error(code, format_args!("client({remote}) bad protocol magic '{shown}'"));
        refuse(stream, &ClientError::new(Code::BadProtocol, ""), Vec::new()).await
    };
    match end {
        End::Eof => log.info("ends of stream", format_args!("client({remote}) - EOF")),
        End::Overdue(Limit::IdentifyTimeout) => {
            let time = duration::format(client.directory.options.identify_timeout);
            let line = format_args!("client({remote}) - no IDENTIFY within {time}");
            log.error("failed connections", line);
        }
        End::Overdue(_) => {
            log.error("failed connections", format_args!("client({remote}) - timed out"));
        }
        End::Failed(error) => {
            log.error("failed connections", format_args!("client({remote}) - {error}"));
        }
        End::Refused => {
            client.directory.metrics.refusals.fetch_add(1, Relaxed);
            linger(stream).await;
        }
    }
}

/// How a session ended.
enum End {
    /// The client has closed its side.
    Eof,
    /// The connection failed.
    Failed(io::Error),
    /// The client was sent an error.
    Refused,
    /// The client took longer than it may.
    Overdue(Limit),
}

/// The times by which a client has to go on.
struct Deadlines {
    identify: Option<Instant>,
    /// Set while there is a part of a command.
    command: Option<Instant>,
}

impl Deadlines {
    fn start(client: &Client<'_>) -> Self {
        let time = client.directory.options.identify_timeout;
        let identify = (!time.is_zero()).then(|| Instant::now().checked_add(time)).flatten();
        Self { identify, command: None }
    }

    /// Takes note of a turn that has executed `executed_bytes` of commands and left `left_bytes`.
    fn turn(&mut self, phase: Phase, executed_bytes: usize, left_bytes: usize) {
        if phase == Phase::Identified {
            self.identify = None;
        }
        if left_bytes == 0 {
            self.command = None;
        } else if executed_bytes > 0 || self.command.is_none() {
            self.command = Some(Instant::now() + COMMAND_TIME_MAX);
        }
    }

    /// Reads until the first of them.
    async fn read(&self, stream: &mut Socket, buf: &mut Vec<u8>) -> Result<usize, End> {
        let identify = self.identify.map(|at| (at, Limit::IdentifyTimeout));
        let command = self.command.map(|at| (at, Limit::CommandTimeout));
        let first = [identify, command].into_iter().flatten().min_by_key(|(at, _)| *at);
        let outcome = match first {
            None => read(stream, buf).await,
            Some((at, limit)) => {
                timeout_at(at, read(stream, buf)).await.map_err(|_| End::Overdue(limit))?
            }
        };
        outcome.map_err(End::Failed)
    }
}

/// Reads until `buf` holds at least the magic.
async fn read_magic(stream: &mut Socket, buf: &mut Vec<u8>) -> io::Result<()> {
    while buf.len() < MAGIC_V1.len() {
        if read(stream, buf).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "EOF"));
        }
    }
    Ok(())
}

/// Serves the commands in `buf` and all that follow.
async fn serve_commands(
    stream: &mut Socket,
    client: &mut Client<'_>,
    mut buf: Vec<u8>,
    deadlines: &mut Deadlines,
) -> End {
    let mut out = Vec::new();
    loop {
        let had_bytes = buf.len();
        let missing = match execute_all(client, &mut buf, &mut out).await {
            Ok(missing) => missing,
            Err(error) => {
                client.log_refusal(&error);
                return refuse(stream, &error, out).await;
            }
        };
        deadlines.turn(client.phase(), had_bytes - buf.len(), buf.len());
        if let Err(error) = respond(stream, &out).await {
            return End::Failed(error);
        }
        out.clear();
        match deadlines.read(stream, &mut buf).await {
            Ok(0) => {
                let Some(error) = missing.error() else { return End::Eof };
                client.log_refusal(&error);
                return refuse(stream, &error, out).await;
            }
            Ok(_) => {}
            Err(end) => {
                if let End::Overdue(limit) = end {
                    client.directory.metrics.reached.count(limit, 1);
                }
                return end;
            }
        }
    }
}

/// Executes the complete commands at the front of `buf`, removes them and appends the responses to `out`. Returns the
/// missing part of the command that follows.
async fn execute_all(
    client: &mut Client<'_>,
    buf: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<Missing, ClientError> {
    let mut at = 0;
    let outcome = loop {
        match v1::decode_command(&buf[at..], client.phase()) {
            Decoded::Command(command, used) => {
                if let Err(error) = client.execute(command, out).await {
                    break Err(error);
                }
                at += used;
            }
            Decoded::Incomplete { missing, .. } => break Ok(missing),
            Decoded::Rejected(error) => break Err(error),
            Decoded::TooLong(error) => {
                client.directory.metrics.reached.count(Limit::CommandSize, 1);
                break Err(error);
            }
        }
    };
    buf.drain(..at);
    if buf.len() < READ_BYTES {
        buf.shrink_to(2 * READ_BYTES);
    }
    outcome
}

/// Sends the pending responses, then `error`.
async fn refuse(stream: &mut Socket, error: &ClientError, mut out: Vec<u8>) -> End {
    v1::encode_error(error, &mut out);
    respond(stream, &out).await.map_or_else(End::Failed, |()| End::Refused)
}

async fn read(stream: &mut Socket, buf: &mut Vec<u8>) -> io::Result<usize> {
    buf.reserve(READ_BYTES);
    stream.read_buf(buf).await
}

async fn respond(stream: &mut Socket, out: &[u8]) -> io::Result<()> {
    within(WRITE_PATIENCE, stream.write_all(out)).await
}

/// Awaits `future` for at most `patience`.
async fn within<T>(
    patience: Duration,
    future: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(patience, future).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Closes a connection on which the client may still be sending, so that it can read the last response.
async fn linger(stream: &mut Socket) {
    let _ = stream.shutdown().await;
    let drained = async {
        let mut rest = [0; 1024];
        while matches!(stream.read(&mut rest).await, Ok(1..)) {}
    };
    // Input that still arrives after that time may cost the client the response.
    let _ = timeout(LINGER, drained).await;
}
