//! Dialing, IDENTIFY and SUB.

use std::{
    future::Future,
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use nsq_protocol::{Command, Frame, HEARTBEAT, MAGIC_V2, OK, decode_frame};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream, lookup_host},
    time::timeout,
};

use crate::{
    config::Config,
    error::{ConnectError, ConnectionError, ServerError},
    identify::{IdentifyResponse, identify_body},
};

const KEEPALIVE: Duration = Duration::from_secs(15);
/// The largest frame accepted when the configuration does not say; buffers grow as data arrives, so that this much
/// is only held when it was really sent.
const FRAME_BYTES_MAX_DEFAULT: u32 = 256 << 20;

/// A connection that is ready for its driver.
pub(crate) struct Established {
    pub(crate) stream: TcpStream,
    /// What was read beyond the last answer of the handshake.
    pub(crate) unread: BytesMut,
    pub(crate) response: IdentifyResponse,
}

/// The channel to subscribe to; a producer has none.
pub(crate) struct Subscription<'a> {
    pub(crate) topic: &'a str,
    pub(crate) channel: &'a str,
}

/// Connects to `address`, introduces the client and subscribes it.
pub(crate) async fn establish(
    address: &str,
    config: &Config,
    subscription: Option<Subscription<'_>>,
) -> Result<Established, ConnectError> {
    let stream = dial(address, config).await?;
    let introduced = within(config.handshake_timeout, async {
        let mut handshake = Handshake { stream, unread: BytesMut::new(), address, config };
        let response = handshake.identify().await?;
        if let Some(subscription) = subscription {
            handshake.subscribe(&subscription).await?;
        }
        let Handshake { stream, unread, .. } = handshake;
        Ok(Established { stream, unread, response })
    });
    introduced.await.unwrap_or_else(|| {
        let timeout = config.handshake_timeout;
        Err(ConnectError::HandshakeTimeout { address: address.to_owned(), timeout })
    })
}

/// The largest frame that `config` accepts.
pub(crate) fn frame_bytes_max(config: &Config) -> u32 {
    if config.max_msg_size == 0 { FRAME_BYTES_MAX_DEFAULT } else { config.max_msg_size }
}

async fn dial(address: &str, config: &Config) -> Result<TcpStream, ConnectError> {
    let failed = |source: io::Error| ConnectError::Dial {
        address: address.to_owned(),
        source: Arc::new(source),
    };
    let stream = within(config.dial_timeout, dial_any(address, config.local_addr))
        .await
        .ok_or_else(|| ConnectError::DialTimeout {
            address: address.to_owned(),
            timeout: config.dial_timeout,
        })?
        .map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    SockRef::from(&stream)
        .set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))
        .map_err(failed)?;
    Ok(stream)
}

/// Connects to the first of the address's resolutions that answers.
async fn dial_any(address: &str, local: Option<SocketAddr>) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for remote in resolve(address).await? {
        match dial_one(remote, local).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The addresses of `address`; a literal one does not cost a trip to the resolver's thread.
async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(literal) = address.parse::<SocketAddr>() {
        return Ok(literal.to_socket_addrs()?.collect());
    }
    Ok(lookup_host(address).await?.collect())
}

async fn dial_one(remote: SocketAddr, local: Option<SocketAddr>) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(local) = local {
        socket.bind(local)?;
    }
    socket.connect(remote).await
}

/// The output of `future`, or `None` when it takes longer than `limit`; zero is no limit.
async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    if limit.is_zero() {
        return Some(future.await);
    }
    timeout(limit, future).await.ok()
}

/// A connection on which one command waits for one answer.
struct Handshake<'a> {
    stream: TcpStream,
    unread: BytesMut,
    address: &'a str,
    config: &'a Config,
}

/// What came back for a command.
enum Answer {
    Response(Vec<u8>),
    Error(ServerError),
}

impl Handshake<'_> {
    async fn identify(&mut self) -> Result<IdentifyResponse, ConnectError> {
        let mut bytes = MAGIC_V2.to_vec();
        Command::Identify(&identify_body(self.config)).encode(&mut bytes);
        let response = match self.ask(&bytes).await? {
            Answer::Error(error) => return Err(ConnectError::Identify(error)),
            Answer::Response(data) => {
                IdentifyResponse::parse(&data).map_err(ConnectError::IdentifyAnswer)?
            }
        };
        tracing::debug!(nsqd = self.address, ?response, "identified");
        if let Some(feature) = response.unrequested_feature() {
            let problem = format!("{feature} is switched on without having been asked for");
            return Err(ConnectError::IdentifyAnswer(problem));
        }
        if response.auth_required {
            return Err(ConnectError::AuthRequired { address: self.address.to_owned() });
        }
        Ok(response)
    }

    async fn subscribe(&mut self, subscription: &Subscription<'_>) -> Result<(), ConnectError> {
        let mut bytes = Vec::new();
        let Subscription { topic, channel } = *subscription;
        Command::Sub { topic, channel }.encode(&mut bytes);
        match self.ask(&bytes).await? {
            Answer::Response(data) if data == OK => Ok(()),
            Answer::Response(_) => Err(self.lost(ConnectionError::Unexpected("answer to SUB"))),
            Answer::Error(error) => Err(ConnectError::Subscribe(error)),
        }
    }

    async fn ask(&mut self, command: &[u8]) -> Result<Answer, ConnectError> {
        match self.exchange(command).await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.lost(error)),
        }
    }

    async fn exchange(&mut self, command: &[u8]) -> Result<Answer, ConnectionError> {
        self.stream.write_all(command).await?;
        let size_max = frame_bytes_max(self.config);
        loop {
            if let Some((frame, used)) = decode_frame(&self.unread, size_max)? {
                let answer = match frame {
                    Frame::Response(HEARTBEAT) => None,
                    Frame::Response(data) => Some(Answer::Response(data.to_vec())),
                    Frame::Error(data) => Some(Answer::Error(ServerError::parse(data))),
                    Frame::Message(_) => return Err(ConnectionError::Unexpected("message")),
                };
                let _ = self.unread.split_to(used);
                match answer {
                    Some(answer) => return Ok(answer),
                    None => self.stream.write_all(b"NOP\n").await?,
                }
            } else if self.stream.read_buf(&mut self.unread).await? == 0 {
                return Err(ConnectionError::ClosedByPeer);
            }
        }
    }

    fn lost(&self, source: ConnectionError) -> ConnectError {
        ConnectError::Handshake { address: self.address.to_owned(), source }
    }
}
