//! What can go wrong, one enum per operation.

use std::{io, sync::Arc, time::Duration};

use nsq_protocol::{Code, FrameError, InvalidName};

use crate::config::ConfigError;

/// An error frame: what nsqd answered instead of doing what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ServerError {
    code: Option<Code>,
    text: String,
}

impl ServerError {
    /// Reads the data of an error frame.
    pub(crate) fn parse(data: &[u8]) -> Self {
        let token = data.split(|&b| b == b' ').next().unwrap_or_default();
        Self { code: Code::from_token(token), text: String::from_utf8_lossy(data).into_owned() }
    }

    /// What kind of error it is; `None` for a code that this crate does not know.
    pub fn code(&self) -> Option<Code> {
        self.code
    }

    /// The whole text, the code in front.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether nsqd closes the connection after this error: all but a refused FIN, REQ or TOUCH.
    pub fn is_fatal(&self) -> bool {
        !matches!(self.code, Some(Code::FinFailed | Code::ReqFailed | Code::TouchFailed))
    }
}

/// Why an established connection ended.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// nsqd closed the connection.
    #[error("the connection was closed by nsqd")]
    ClosedByPeer,
    /// This side closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// Reading or writing failed.
    #[error("{0}")]
    Io(Arc<io::Error>),
    /// Not even a heartbeat came for the time given.
    #[error("nothing was received for {0:?}")]
    ReadTimeout(Duration),
    /// nsqd took no bytes for the time given.
    #[error("nothing could be written for {0:?}")]
    WriteTimeout(Duration),
    /// nsqd sent what is not a frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// nsqd sent a frame that does not belong here.
    #[error("unexpected {0}")]
    Unexpected(&'static str),
    /// nsqd reported an error after which it closes the connection.
    #[error("{0}")]
    Server(ServerError),
}

impl From<io::Error> for ConnectionError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::ClosedByPeer;
        }
        Self::Io(Arc::new(error))
    }
}

/// Why a connection to nsqd could not be made.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The consumer has been stopped, or was stopped meanwhile.
    #[error("the consumer is stopped")]
    Stopped,
    /// The consumer has no handler, so that messages could go nowhere.
    #[error("no handlers")]
    NoHandlers,
    /// The consumer is connected to this address, or is about to be.
    #[error("already connected to {0}")]
    AlreadyConnected(String),
    /// The address could not be resolved, or nothing listens there.
    #[error("connect to {address}: {source}")]
    Dial {
        /// The address as it was given.
        address: String,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// Dialing took longer than `dial_timeout`.
    #[error("connect to {address}: no answer within {timeout:?}")]
    DialTimeout {
        /// The address as it was given.
        address: String,
        /// `dial_timeout`.
        timeout: Duration,
    },
    /// IDENTIFY and SUB were not answered within `handshake_timeout`.
    #[error("handshake with {address}: no answer within {timeout:?}")]
    HandshakeTimeout {
        /// The address as it was given.
        address: String,
        /// `handshake_timeout`.
        timeout: Duration,
    },
    /// The connection ended during the handshake.
    #[error("handshake with {address}: {source}")]
    Handshake {
        /// The address as it was given.
        address: String,
        /// How it ended.
        source: ConnectionError,
    },
    /// nsqd refused IDENTIFY.
    #[error("failed to IDENTIFY - {0}")]
    Identify(ServerError),
    /// The answer to IDENTIFY cannot be used.
    #[error("failed to IDENTIFY - unusable answer: {0}")]
    IdentifyAnswer(String),
    /// TLS is required, and nsqd does not offer it. Nothing but IDENTIFY was sent.
    #[error("{address} does not offer TLS, which is required")]
    TlsRefused {
        /// The address as it was given.
        address: String,
    },
    /// The TLS handshake failed, for instance because one side does not accept the other's certificate.
    #[error("TLS with {address}: {source}")]
    Tls {
        /// The address as it was given.
        address: String,
        /// What went wrong.
        source: Arc<io::Error>,
    },
    /// nsqd wants authorization, and there is no `auth_secret`. Nothing was sent.
    #[error("{address} requires authorization, and auth_secret is not set")]
    AuthRequired {
        /// The address as it was given.
        address: String,
    },
    /// nsqd wants authorization and refused the TLS it was asked for: the secret is not sent in the clear.
    #[error("{address} requires authorization without offering TLS: auth_secret was not sent")]
    AuthInClear {
        /// The address as it was given.
        address: String,
    },
    /// nsqd refused AUTH.
    #[error("failed to AUTH - {0}")]
    Auth(ServerError),
    /// The answer to AUTH cannot be used.
    #[error("failed to AUTH - unusable answer: {0}")]
    AuthAnswer(String),
    /// nsqd refused SUB.
    #[error("failed to SUB - {0}")]
    Subscribe(ServerError),
    /// The configuration cannot be used; nothing was dialed.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl ConnectError {
    /// Whether trying again later may work without anything being changed here.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Dial { .. }
            | Self::DialTimeout { .. }
            | Self::HandshakeTimeout { .. }
            | Self::Handshake { .. }
            | Self::Subscribe(_) => true,
            // One side does not accept the other: it will not the next time either.
            Self::Tls { source, .. } => source.kind() != io::ErrorKind::InvalidData,
            // The authorization server may have been out of reach.
            Self::Auth(error) => error.code() == Some(Code::AuthFailed),
            _ => false,
        }
    }
}

/// The address is not one the consumer is or wants to be connected to; holds the address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not connected to {0}")]
pub struct NotConnected(pub String);

/// Why a consumer does not ask an nsqlookupd.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// The consumer has been stopped, or was stopped meanwhile.
    #[error("the consumer is stopped")]
    Stopped,
    /// The consumer has no handler, so that messages could go nowhere.
    #[error("no handlers")]
    NoHandlers,
    /// The address cannot be used.
    #[error("invalid nsqlookupd address {address:?}: {reason}")]
    Address {
        /// The address as it was given.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Why an nsqlookupd is still asked, or was not asked anyway.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DisconnectLookupdError {
    /// The consumer does not ask it; holds the address.
    #[error("not connected to nsqlookupd {0}")]
    NotConnected(String),
    /// There is no other one; holds the address.
    #[error("cannot disconnect from the only remaining nsqlookupd {0}")]
    OnlyOne(String),
}

/// Why a message was not published, or may not have been.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The topic's name breaks the rules; nothing was sent.
    #[error(transparent)]
    Topic(#[from] InvalidName),
    /// nsqd takes no empty messages; nothing was sent.
    #[error("empty message")]
    EmptyMessage,
    /// A multi-publish of no messages; nothing was sent.
    #[error("no messages to publish")]
    NoMessages,
    /// The messages are more than the protocol can carry in one command; nothing was sent.
    #[error("{0} bytes do not fit into one command")]
    TooBig(usize),
    /// The producer has been closed; nothing was sent.
    #[error("the producer is closed")]
    Closed,
    /// There is no connection; nothing was sent.
    #[error("not sent: {0}")]
    NotConnected(Arc<ConnectError>),
    /// The connection was lost before the command was written; nothing was sent.
    #[error("not sent: {0}")]
    NotSent(ConnectionError),
    /// The connection was lost before the answer came: nsqd may have the messages, or not.
    #[error("outcome unknown: {0}")]
    OutcomeUnknown(ConnectionError),
    /// nsqd refused the command.
    #[error("rejected: {0}")]
    Rejected(ServerError),
}

impl PublishError {
    /// Whether publishing again may work and cannot make a duplicate.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NotConnected(error) => error.is_retryable(),
            Self::NotSent(_) => true,
            _ => false,
        }
    }

    /// What nsqd refused the command with, if it did.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Rejected(error) => error.code(),
            _ => None,
        }
    }
}
