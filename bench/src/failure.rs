//! Failures of a run.

use std::io;

/// The reason why a run failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line is invalid.
    #[error("{0}")]
    Usage(String),
    /// A system call failed.
    #[error("{action}: {source}")]
    Io {
        /// The action that failed.
        action: String,
        /// The system's error.
        source: io::Error,
    },
    /// The server sent an error frame, or a status other than 200.
    #[error("the server refused: {0}")]
    Refused(String),
    /// The server closed a connection that was in use.
    #[error("the server closed the connection")]
    Closed,
    /// The server sent invalid or unexpected data.
    #[error("unexpected bytes from the server: {0}")]
    Unexpected(String),
    /// The run exceeded its time limit.
    #[error("not complete after {seconds} s while {action}")]
    Late {
        /// The time limit.
        seconds: u64,
        /// The action that was in progress.
        action: &'static str,
    },
    /// Another thread of the same run failed first.
    #[error("given up because another connection failed")]
    Cancelled,
    /// The received messages are not those that were published.
    #[error("wrong messages: {0}")]
    Wrong(String),
    /// The server process has ended.
    #[error("it ended with {0}")]
    Exited(std::process::ExitStatus),
    /// The server process failed.
    #[error("server process: {0}")]
    Server(String),
    /// The client under test failed.
    #[error("client process: {0}")]
    Client(String),
}

impl Failure {
    /// Returns a closure for `map_err` that names the action that failed.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action: action.into(), source }
    }

    /// Returns a closure for `map_err` on calls that return an error number.
    pub(crate) fn os(action: impl Into<String>) -> impl FnOnce(nix::errno::Errno) -> Self {
        move |errno| Self::Io { action: action.into(), source: errno.into() }
    }
}
