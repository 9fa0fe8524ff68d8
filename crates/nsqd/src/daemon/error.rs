//! The reasons why nsqd does not start, or ends other than by being asked to.

use std::{io, time::Duration};

use nsq_daemon::{net::ListenError, tls::TlsError};
use nsq_options::duration;

use crate::{node::OpenError, tls::TlsStartError};

/// Why nsqd did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data folder cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An address cannot be listened on.
    #[error("failed to instantiate nsqd - {0}")]
    Listen(#[from] ListenError),
    /// Opening the data folder panicked.
    #[error("failed to instantiate nsqd - {0}")]
    Panicked(#[source] tokio::task::JoinError),
    /// The TLS that was asked for is not possible.
    #[error("failed to instantiate nsqd - {0}")]
    Tls(#[from] TlsStartError),
    /// The certificate authorities of auth servers cannot be read.
    #[error("failed to instantiate nsqd - failed to build client TLS config - {0}")]
    ClientTls(#[from] TlsError),
    /// A thread cannot be started.
    #[error("failed to instantiate nsqd - start thread - {0}")]
    Thread(#[source] io::Error),
}

/// Why nsqd ended other than by being asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A listener broke.
    #[error("listener failed - {0}")]
    Listener(#[from] io::Error),
    /// The last writes to the data folder failed.
    #[error("failed to close - {0}")]
    Close(#[from] nsq_log::Error),
    /// Closing the data folder panicked.
    #[error("failed to close - {0}")]
    Panicked(#[source] tokio::task::JoinError),
    /// Not everything was flushed in time.
    #[error("failed to close within {} - the next start recovers", duration::format(*.0))]
    Overdue(Duration),
}
