//! The handshake that precedes the first command of a consumer or producer: IDENTIFY, upgrades, AUTH, SUB.

use std::io;
#[cfg(feature = "tls")]
use std::sync::Arc;

use bytes::BytesMut;
#[cfg(feature = "compression")]
use nsq_compression::{Codec, Compressed};
use nsq_protocol::{Command, Frame, HEARTBEAT, MAGIC_V2, OK, decode_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    dial::{dial, within},
    transport::Transport,
};
use crate::{
    config::Config,
    error::{ConnectError, ConnectionError, ServerError},
    identify::{AuthResponse, IdentifyResponse, Wanted, identify_body},
    tls::TlsMode,
};

/// The largest frame accepted by default. Buffers grow as data arrives, so that this much memory is used only for a
/// frame of that size.
const FRAME_BYTES_MAX_DEFAULT: u32 = 16 << 20;

/// A connection that is ready for its driver.
pub(crate) struct Established {
    pub(crate) stream: Transport,
    /// Data read beyond the last answer of the handshake.
    pub(crate) unread: BytesMut,
    pub(crate) response: IdentifyResponse,
}

/// The channel to subscribe to; a producer has none.
pub(crate) struct Subscription<'a> {
    pub(crate) topic: &'a str,
    pub(crate) channel: &'a str,
}

/// Connects to `address`, identifies the client and subscribes it.
pub(crate) async fn establish(
    address: &str,
    config: &Config,
    subscription: Option<Subscription<'_>>,
) -> Result<Established, ConnectError> {
    let stream = Transport::Plain(dial(address, config).await?);
    let handshake = Handshake { stream, unread: BytesMut::new(), address, config };
    // Boxed, because every publish may have to connect, and its future should not include a TLS handshake.
    let introduction = Box::pin(handshake.introduce(subscription));
    let introduced = within(config.handshake_timeout, introduction);
    introduced.await.unwrap_or_else(|| {
        let timeout = config.handshake_timeout;
        Err(ConnectError::HandshakeTimeout { address: address.to_owned(), timeout })
    })
}

/// Connects to the nsqd at `address` as a consumer or producer with this configuration would, returns nsqd's answer to
/// IDENTIFY, and closes the connection.
///
/// ```no_run
/// # async fn example() -> Result<(), nsq_client::ConnectError> {
/// let config = nsq_client::Config::default();
/// let nsqd = nsq_client::identify("127.0.0.1:4150", &config).await?;
/// println!("nsqd {} sends up to {} messages ahead", nsqd.version, nsqd.max_rdy_count);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Returns [`ConnectError`] for whatever would keep a consumer or producer from connecting, and
/// [`ConnectError::Config`] if [`Config::validate`] fails.
pub async fn identify(address: &str, config: &Config) -> Result<IdentifyResponse, ConnectError> {
    config.validate()?;
    let Established { mut stream, response, .. } = establish(address, config, None).await?;
    // How the connection ends does not matter.
    let _ = within(config.write_timeout, stream.shutdown()).await;
    Ok(response)
}

/// Returns the largest frame that `config` accepts.
pub(crate) fn frame_bytes_max(config: &Config) -> u32 {
    if config.max_msg_size == 0 { FRAME_BYTES_MAX_DEFAULT } else { config.max_msg_size }
}

/// A connection on which one command at a time waits for its answer.
struct Handshake<'a> {
    stream: Transport,
    unread: BytesMut,
    address: &'a str,
    config: &'a Config,
}

/// nsqd's answer to a command.
enum Answer {
    Response(Vec<u8>),
    Error(ServerError),
}

impl Handshake<'_> {
    async fn introduce(
        mut self,
        subscription: Option<Subscription<'_>>,
    ) -> Result<Established, ConnectError> {
        let mut response = self.identify().await?;
        let mut upgraded = self.upgrade(&response).await?;
        if response.auth_required {
            response.auth = Some(upgraded.authenticate(response.tls_v1).await?);
        }
        if let Some(subscription) = subscription {
            upgraded.subscribe(&subscription).await?;
        }
        let Handshake { stream, unread, .. } = upgraded;
        Ok(Established { stream, unread, response })
    }

    async fn identify(&mut self) -> Result<IdentifyResponse, ConnectError> {
        let wanted = Wanted::from_config(self.config);
        let mut bytes = MAGIC_V2.to_vec();
        Command::Identify(&identify_body(self.config, wanted)).encode(&mut bytes);
        let response = match self.ask(&bytes).await? {
            Answer::Error(error) => return Err(ConnectError::Identify(error)),
            Answer::Response(data) => {
                IdentifyResponse::parse(&data).map_err(ConnectError::IdentifyAnswer)?
            }
        };
        tracing::debug!(nsqd = self.address, ?response, "identified");
        if let Some(feature) = response.unrequested_feature(wanted) {
            let problem = format!("{feature} is enabled without having been requested");
            return Err(ConnectError::IdentifyAnswer(problem));
        }
        if !response.tls_v1 && self.config.tls_mode() == TlsMode::Required {
            return Err(ConnectError::TlsRefused { address: self.address.to_owned() });
        }
        for feature in response.refused_features(wanted) {
            tracing::warn!(
                nsqd = self.address,
                feature,
                "nsqd does not support the feature, continuing without it"
            );
        }
        Ok(response)
    }

    /// Upgrades to TLS and compression, as far as `response` says so.
    async fn upgrade(self, response: &IdentifyResponse) -> Result<Self, ConnectError> {
        let handshake = self;
        #[cfg(feature = "tls")]
        let handshake = if response.tls_v1 { handshake.start_tls().await? } else { handshake };
        #[cfg(feature = "compression")]
        let handshake = if response.snappy {
            handshake.start_compression(Codec::snappy()).await?
        } else if response.deflate {
            let codec = Codec::deflate(handshake.config.deflate_level);
            handshake.start_compression(codec).await?
        } else {
            handshake
        };
        // Without these cargo features no upgrade was requested.
        #[cfg(not(any(feature = "compression", feature = "tls")))]
        let _ = response;
        Ok(handshake)
    }

    #[cfg(feature = "tls")]
    async fn start_tls(self) -> Result<Self, ConnectError> {
        // Data that arrives before the TLS handshake is not authenticated and must not be taken for nsqd's.
        let Handshake { stream: Transport::Plain(stream), unread, address, config } = self else {
            return Err(self.lost(ConnectionError::Unexpected("second start of TLS")));
        };
        let failed = |source: io::Error| ConnectError::Tls {
            address: address.to_owned(),
            source: Arc::new(source),
        };
        if !unread.is_empty() {
            return Err(failed(io::Error::other("data received before the TLS handshake")));
        }
        let tls = config.tls_config.connect(address, stream).await.map_err(failed)?;
        let mut upgraded = Self { stream: Transport::Tls(Box::new(tls)), unread, address, config };
        match upgraded.confirm("answer to the start of TLS").await {
            // A server that does not accept the client's certificate reports it only now.
            Err(ConnectError::Handshake { source: ConnectionError::Io(source), .. }) => {
                Err(ConnectError::Tls { address: address.to_owned(), source })
            }
            result => result.map(|()| upgraded),
        }
    }

    #[cfg(feature = "compression")]
    async fn start_compression(self, codec: Codec) -> Result<Self, ConnectError> {
        let Handshake { stream, unread, .. } = self;
        let stream = Transport::Compressed(Box::new(Compressed::new(stream, codec, unread)));
        let mut upgraded = Self { stream, unread: BytesMut::new(), ..self };
        upgraded.confirm("answer to the start of compression").await?;
        Ok(upgraded)
    }

    /// Waits for the `OK` that ends an upgrade.
    #[cfg(any(feature = "compression", feature = "tls"))]
    async fn confirm(&mut self, answer: &'static str) -> Result<(), ConnectError> {
        match self.ask(&[]).await? {
            Answer::Response(data) if data == OK => Ok(()),
            Answer::Response(_) => Err(self.lost(ConnectionError::Unexpected(answer))),
            Answer::Error(error) => Err(ConnectError::Identify(error)),
        }
    }

    async fn authenticate(&mut self, is_encrypted: bool) -> Result<AuthResponse, ConnectError> {
        let secret = &self.config.auth_secret;
        if secret.is_empty() {
            return Err(ConnectError::AuthRequired { address: self.address.to_owned() });
        }
        if !is_encrypted && self.config.tls_mode() != TlsMode::Off {
            return Err(ConnectError::AuthInClear { address: self.address.to_owned() });
        }
        let mut bytes = Vec::new();
        Command::Auth(secret.expose().as_bytes()).encode(&mut bytes);
        let data = match self.ask(&bytes).await? {
            Answer::Error(error) => return Err(ConnectError::Auth(error)),
            Answer::Response(data) => data,
        };
        let auth: AuthResponse = serde_json::from_slice(&data)
            .map_err(|error| ConnectError::AuthAnswer(error.to_string()))?;
        let AuthResponse { identity, identity_url, permission_count } = &auth;
        tracing::info!(nsqd = self.address, identity, identity_url, permission_count, "authorized");
        Ok(auth)
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
        if !command.is_empty() {
            self.say(command).await?;
        }
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
                    None => self.say(b"NOP\n").await?,
                }
            } else if self.stream.read_buf(&mut self.unread).await? == 0 {
                return Err(ConnectionError::ClosedByPeer);
            }
        }
    }

    async fn say(&mut self, command: &[u8]) -> io::Result<()> {
        self.stream.write_all(command).await?;
        self.stream.flush().await
    }

    fn lost(&self, source: ConnectionError) -> ConnectError {
        ConnectError::Handshake { address: self.address.to_owned(), source }
    }
}
