//! The session of one nsqd: commands in, registrations changed, one response each.

use std::{io, sync::atomic::Ordering::Relaxed, time::Duration};

use nsq_broker::registry::{ProducerId, Registration};
use nsq_daemon::net::{Remote, Socket};
use nsq_options::duration;
use nsq_protocol::{
    ClientError, Code, MAGIC_V1, Missing, OK,
    v1::{self, Command, Decoded, Phase},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{directory::Directory, identify};

/// Buffer space reserved for a read. A larger buffer is kept only while the body of an IDENTIFY arrives.
const READ_BYTES: usize = 4 << 10;
/// How long a client may take to send its magic, and to continue a command it has begun. Between commands it may be
/// silent for any time.
const READ_PATIENCE: Duration = Duration::from_secs(30);
/// How long a client may take to accept a response.
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
    let mut client = Client { directory, remote, producer: None };
    tokio::select! {
        () = converse(&mut stream, &mut client) => {}
        () = shutdown.cancelled() => {}
    }
}

async fn converse(stream: &mut Socket, client: &mut Client<'_>) {
    let (log, remote) = (&client.directory.clients_log, client.remote);
    let mut buf = Vec::new();
    if let Err(error) = within(READ_PATIENCE, read_magic(stream, &mut buf)).await {
        let line = format_args!("failed to read protocol version - {error}");
        return log.error("failed connections", line);
    }
    let magic: Vec<u8> = buf.drain(..MAGIC_V1.len()).collect();
    let shown = magic.escape_ascii();
    log.info("magics", format_args!("CLIENT({remote}): desired protocol magic '{shown}'"));
    let end = if magic == MAGIC_V1 {
        let end = serve_commands(stream, client, buf).await;
        log.info("closed connections", format_args!("PROTOCOL(V1): [{remote}] exiting ioloop"));
        client.leave();
        end
    } else {
        let code = Code::BadProtocol.as_str();
        log.error(code, format_args!("client({remote}) bad protocol magic '{shown}'"));
        refuse(stream, &ClientError::new(Code::BadProtocol, ""), Vec::new()).await
    };
    match end {
        End::Eof => log.info("ends of stream", format_args!("client({remote}) - EOF")),
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
async fn serve_commands(stream: &mut Socket, client: &mut Client<'_>, mut buf: Vec<u8>) -> End {
    let mut out = Vec::new();
    loop {
        let missing = match client.serve(&mut buf, &mut out) {
            Ok(missing) => missing,
            Err(error) => {
                client.log_refusal(&error);
                return refuse(stream, &error, out).await;
            }
        };
        if let Err(error) = respond(stream, &out).await {
            return End::Failed(error);
        }
        out.clear();
        let more = if buf.is_empty() {
            read(stream, &mut buf).await
        } else {
            within(READ_PATIENCE, read(stream, &mut buf)).await
        };
        match more {
            Ok(0) => {
                let Some(error) = missing.error() else { return End::Eof };
                client.log_refusal(&error);
                return refuse(stream, &error, out).await;
            }
            Ok(_) => {}
            Err(error) => return End::Failed(error),
        }
    }
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

/// A connected client and its registration as a producer, which is removed on drop.
struct Client<'a> {
    directory: &'a Directory,
    remote: Remote,
    producer: Option<ProducerId>,
}

impl Client<'_> {
    /// Executes the complete commands at the front of `buf`, removes them and appends the responses to `out`. Returns
    /// the missing part of the command that follows.
    fn serve(&mut self, buf: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<Missing, ClientError> {
        let mut at = 0;
        let outcome = loop {
            let phase = if self.producer.is_some() { Phase::Identified } else { Phase::Connected };
            match v1::decode_command(&buf[at..], phase) {
                Decoded::Command(command, used) => {
                    if let Err(error) = self.execute(command, out) {
                        break Err(error);
                    }
                    at += used;
                }
                Decoded::Incomplete { missing, .. } => break Ok(missing),
                Decoded::Rejected(error) => break Err(error),
            }
        };
        buf.drain(..at);
        if buf.len() < READ_BYTES {
            buf.shrink_to(2 * READ_BYTES);
        }
        outcome
    }

    fn execute(&mut self, command: Command<'_>, out: &mut Vec<u8>) -> Result<(), ClientError> {
        self.directory.metrics.command(command.name());
        match command {
            Command::Identify(body) => {
                self.identify(body)?;
                v1::encode_response(&identify::answer(self.directory), out);
                return Ok(());
            }
            Command::Register { topic, channel } => self.register(topic, channel),
            Command::Unregister { topic, channel } => self.unregister(topic, channel),
            Command::Ping => self.ping(),
        }
        v1::encode_response(OK, out);
        Ok(())
    }

    fn identify(&mut self, body: &[u8]) -> Result<(), ClientError> {
        let Self { directory, remote, .. } = *self;
        let peer = identify::read(body, remote)?;
        let line = format_args!(
            "CLIENT({remote}): IDENTIFY Address:{} TCP:{} HTTP:{} Version:{}",
            peer.broadcast_address, peer.tcp_port, peer.http_port, peer.version
        );
        directory.clients_log.info("IDENTIFY", line);
        let id = directory.next_producer_id();
        self.producer = Some(id);
        directory.with(|registry, now| registry.identify(id, peer, now));
        self.log_change("REGISTER", &Registration::Client);
        Ok(())
    }

    fn register(&self, topic: &str, channel: Option<&str>) {
        let Some(id) = self.producer else { return };
        let added = self.directory.with(|registry, _| registry.register(id, topic, channel));
        for registration in added {
            self.log_change("REGISTER", &registration);
        }
    }

    fn unregister(&self, topic: &str, channel: Option<&str>) {
        let Some(id) = self.producer else { return };
        let removed = self.directory.with(|registry, _| registry.unregister(id, topic, channel));
        for registration in removed {
            if channel.is_none() && matches!(registration, Registration::Channel(..)) {
                // nsqd unregisters the channels of a topic before the topic.
                let remote = self.remote;
                let line = format_args!("client({remote}) unexpected UNREGISTER {registration}");
                self.directory.clients_log.warn("UNREGISTER", line);
            } else {
                self.log_change("UNREGISTER", &registration);
            }
        }
    }

    fn ping(&self) {
        let Some(id) = self.producer else { return };
        if let Some(since) = self.directory.with(|registry, now| registry.ping(id, now)) {
            let since = duration::format(since);
            let remote = self.remote;
            let line = format_args!("CLIENT({remote}): pinged (last ping {since})");
            self.directory.clients_log.info("PING", line);
        }
    }

    fn leave(&mut self) {
        let Some(id) = self.producer.take() else { return };
        for registration in self.directory.with(|registry, _| registry.disconnect(id)) {
            self.log_change("UNREGISTER", &registration);
        }
    }

    fn log_change(&self, what: &'static str, registration: &Registration) {
        let remote = self.remote;
        let line = format_args!("DB: client({remote}) {what} {registration}");
        self.directory.clients_log.info(what, line);
    }

    fn log_refusal(&self, error: &ClientError) {
        let line = format_args!("[{}] - {error}", self.remote);
        self.directory.clients_log.error(error.code.as_str(), line);
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}
