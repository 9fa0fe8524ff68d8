//! Errors, one enum per operation.

use std::{io, sync::Arc, time::Duration};

use nsq_protocol::{Code, FrameError, InvalidName};

use crate::config::ConfigError;

/// The most bytes of an error's text that are kept.
const TEXT_BYTES_MAX: usize = 1024;

/// An error that nsqd sent in answer to a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ServerError {
    code: Option<Code>,
    text: String,
}

impl ServerError {
    /// Parses the data of an error frame.
    pub(crate) fn parse(data: &[u8]) -> Self {
        let data = &data[..data.len().min(TEXT_BYTES_MAX)];
        let token = data.split(|&b| b == b' ').next().unwrap_or_default();
        Self { code: Code::from_token(token), text: String::from_utf8_lossy(data).into_owned() }
    }

    /// Returns the error's code; `None` if this crate does not know it.
    pub fn code(&self) -> Option<Code> {
        self.code
    }

    /// Returns the text, beginning with the code; at most 1 KiB of it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns whether nsqd closes the connection after this error, as it does except for a refused FIN, REQ or TOUCH.
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
    /// Nothing was received for the given time, not even a heartbeat.
    #[error("nothing was received for {0:?}")]
    ReadTimeout(Duration),
    /// Nothing could be written for the given time.
    #[error("nothing could be written for {0:?}")]
    WriteTimeout(Duration),
    /// nsqd sent far more messages than RDY allows, and they were not answered within `read_timeout`.
    #[error("nsqd sent far more messages than RDY allows")]
    Flooded,
    /// nsqd sent an invalid frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// nsqd sent a frame that was not expected.
    #[error("unexpected {0}")]
    Unexpected(&'static str),
    /// nsqd sent an error after which it closes the connection.
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
    /// The consumer has been stopped.
    #[error("the consumer is stopped")]
    Stopped,
    /// The consumer has no handlers, and its messages are not pulled either.
    #[error("no handlers")]
    NoHandlers,
    /// The consumer is already connected, or connecting, to this address.
    #[error("already connected to {0}")]
    AlreadyConnected(String),
    /// The address could not be resolved, or the connection was refused.
    #[error("connect to {address}: {source}")]
    Dial {
        /// The address as it was given.
        address: String,
        /// The system's error.
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
        /// Why it ended.
        source: ConnectionError,
    },
    /// nsqd refused IDENTIFY.
    #[error("failed to IDENTIFY - {0}")]
    Identify(ServerError),
    /// nsqd's answer to IDENTIFY cannot be used.
    #[error("failed to IDENTIFY - unusable answer: {0}")]
    IdentifyAnswer(String),
    /// TLS is required and nsqd does not offer it. Only IDENTIFY was sent.
    #[error("{address} does not offer TLS, which is required")]
    TlsRefused {
        /// The address as it was given.
        address: String,
    },
    /// The TLS handshake failed, for example because one side does not accept the other's certificate.
    #[error("TLS with {address}: {source}")]
    Tls {
        /// The address as it was given.
        address: String,
        /// The error.
        source: Arc<io::Error>,
    },
    /// nsqd requires authorization and `auth_secret` is not set.
    #[error("{address} requires authorization, and auth_secret is not set")]
    AuthRequired {
        /// The address as it was given.
        address: String,
    },
    /// nsqd requires authorization but does not offer the TLS that was requested; the secret was not sent in the clear.
    #[error("{address} requires authorization without offering TLS: auth_secret was not sent")]
    AuthInClear {
        /// The address as it was given.
        address: String,
    },
    /// nsqd refused AUTH.
    #[error("failed to AUTH - {0}")]
    Auth(ServerError),
    /// nsqd's answer to AUTH cannot be used.
    #[error("failed to AUTH - unusable answer: {0}")]
    AuthAnswer(String),
    /// nsqd refused SUB.
    #[error("failed to SUB - {0}")]
    Subscribe(ServerError),
    /// The configuration is invalid; nothing was dialed.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl ConnectError {
    /// Returns whether a later attempt may succeed without any change on the client's side.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Dial { .. }
            | Self::DialTimeout { .. }
            | Self::HandshakeTimeout { .. }
            | Self::Handshake { .. }
            | Self::Subscribe(_) => true,
            // A certificate that is not accepted will not be accepted the next time either.
            Self::Tls { source, .. } => source.kind() != io::ErrorKind::InvalidData,
            // The authorization server may have been unreachable.
            Self::Auth(error) => error.code() == Some(Code::AuthFailed),
            _ => false,
        }
    }
}

/// The consumer does not keep a connection to this address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not connected to {0}")]
pub struct NotConnected(pub String);

/// Why an nsqlookupd could not be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// The consumer has been stopped.
    #[error("the consumer is stopped")]
    Stopped,
    /// The consumer has no handlers, and its messages are not pulled either.
    #[error("no handlers")]
    NoHandlers,
    /// The address is invalid.
    #[error("invalid nsqlookupd address {address:?}: {reason}")]
    Address {
        /// The address as it was given.
        address: String,
        /// Why it is invalid.
        reason: &'static str,
    },
}

/// Why an nsqlookupd could not be removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DisconnectLookupdError {
    /// The consumer does not use the nsqlookupd at this address.
    #[error("not connected to nsqlookupd {0}")]
    NotConnected(String),
    /// The consumer uses no other nsqlookupd than the one at this address.
    #[error("cannot disconnect from the only remaining nsqlookupd {0}")]
    OnlyOne(String),
}

/// Why a publish failed, and whether nsqd may have the messages all the same.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The topic's name is invalid; nothing was sent.
    #[error(transparent)]
    Topic(#[from] InvalidName),
    /// The message is empty, which nsqd does not accept; nothing was sent.
    #[error("empty message")]
    EmptyMessage,
    /// There are no messages to publish; nothing was sent.
    #[error("no messages to publish")]
    NoMessages,
    /// The messages are larger than the protocol can carry in one command; nothing was sent. Holds their size in bytes.
    #[error("{0} bytes do not fit into one command")]
    TooBig(usize),
    /// The producer has been closed; nothing was sent.
    #[error("the producer is closed")]
    Closed,
    /// A connection could not be made; nothing was sent.
    #[error("not sent: {0}")]
    NotConnected(Arc<ConnectError>),
    /// The connection was lost before the command was sent.
    #[error("not sent: {0}")]
    NotSent(ConnectionError),
    /// The connection was lost before the answer arrived: nsqd may or may not have the messages.
    #[error("outcome unknown: {0}")]
    OutcomeUnknown(ConnectionError),
    /// nsqd refused the messages.
    #[error("rejected: {0}")]
    Rejected(ServerError),
}

impl PublishError {
    /// Returns whether publishing again may succeed and cannot cause duplicates.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NotConnected(error) => error.is_retryable(),
            Self::NotSent(_) => true,
            _ => false,
        }
    }

    /// Returns the code of nsqd's error, if nsqd refused the messages.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Rejected(error) => error.code(),
            _ => None,
        }
    }
}
