//! Why a run gave no numbers.

use std::io;

/// The reason a run is reported as failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line cannot be used as typed.
    #[error("{0}")]
    Usage(String),
    /// The operating system refused something.
    #[error("{action}: {source}")]
    Io {
        /// What was attempted.
        action: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The server sent an error frame, or a status other than 200.
    #[error("the server refused: {0}")]
    Refused(String),
    /// The server closed a connection that was in use.
    #[error("the server closed the connection")]
    Closed,
    /// The server sent bytes that are not the protocol, or not expected at this point.
    #[error("unexpected bytes from the server: {0}")]
    Unexpected(String),
    /// The run took longer than it may.
    #[error("not complete after {seconds} s while {action}")]
    Late {
        /// The limit that has passed.
        seconds: u64,
        /// What was still going on.
        action: &'static str,
    },
    /// Another thread of the same run failed first.
    #[error("given up because another connection failed")]
    Cancelled,
    /// What arrived is not what was published.
    #[error("wrong messages: {0}")]
    Wrong(String),
    /// The server process has ended.
    #[error("it ended with {0}")]
    Exited(std::process::ExitStatus),
    /// The server process is not what it should be.
    #[error("server process: {0}")]
    Server(String),
    /// The client under test does not do what it should.
    #[error("client process: {0}")]
    Client(String),
}

impl Failure {
    /// Makes a closure for `map_err` that says which action the error belongs to.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action: action.into(), source }
    }

    /// Makes a closure for `map_err` on calls that answer with an error number.
    pub(crate) fn os(action: impl Into<String>) -> impl FnOnce(nix::errno::Errno) -> Self {
        move |errno| Self::Io { action: action.into(), source: errno.into() }
    }
}
