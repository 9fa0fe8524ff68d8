//! The signals that a daemon acts on. All others keep the effect that the operating system gives them.

use std::{
    fmt,
    future::Future,
    io,
    task::{Context, Poll},
};

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

/// A request to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// SIGINT, as from Ctrl-C.
    Interrupt,
    /// SIGTERM, as from a service manager.
    Terminate,
}

/// As the operating system names the signal.
impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// A future that resolves on the first SIGINT or SIGTERM.
///
/// Both signals are caught from this call on, not from the first poll, and stay caught for the life of the
/// process: a second signal does not cut a graceful stop short.
///
/// # Errors
/// When the handlers cannot be installed.
///
/// # Panics
/// Outside a tokio runtime with I/O enabled.
pub fn stop_requested() -> io::Result<impl Future<Output = Stop> + Send + 'static> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => Stop::Interrupt,
            _ = terminate.recv() => Stop::Terminate,
        }
    })
}

/// SIGHUP, by which a daemon is asked to read its files again.
#[derive(Debug)]
pub(crate) struct Hangups(unix::Signal);

/// Catches SIGHUP from now on, for the life of the process: it does not end the process any more.
///
/// # Errors
/// When the handler cannot be installed.
///
/// # Panics
/// Outside a tokio runtime with I/O enabled.
pub(crate) fn hangups() -> io::Result<Hangups> {
    signal(SignalKind::hangup()).map(Hangups)
}

impl Hangups {
    /// Waits for the next one. Those that have come since the last time count as one.
    pub(crate) async fn next(&mut self) {
        std::future::poll_fn(|cx| self.poll_next(cx)).await;
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.0.poll_recv(cx) {
            Poll::Ready(Some(())) => Poll::Ready(()),
            // None is the end of the runtime: there will not be another.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// Signals that would end the process by default, and have no effect on NSQ.
const HARMLESS: [Signal; 6] = [
    // Scripts that rotate logs send these.
    Signal::USR1,
    Signal::USR2,
    // A limit on the size of files: the write that exceeds it fails, and that is enough.
    Signal::XFSZ,
    Signal::XCPU,
    Signal::ALARM,
    Signal::VTALARM,
];

/// Makes the signals that have no effect on NSQ have none here, for the life of the process.
///
/// # Errors
/// When the handler cannot be installed.
///
/// # Panics
/// Outside a tokio runtime with I/O enabled.
pub(crate) fn ignore_harmless() -> io::Result<()> {
    HARMLESS
        .into_iter()
        .try_for_each(|harmless| signal(SignalKind::from_raw(harmless.as_raw())).map(drop))
}

#[cfg(test)]
mod tests {
    use rustix::process::{getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn the_first_signal_is_reported_and_a_second_is_harmless() {
        let stop = stop_requested().unwrap();
        let mut seen = signal(SignalKind::terminate()).unwrap();
        kill_process(getpid(), Signal::TERM).unwrap();
        assert_eq!(stop.await, Stop::Terminate);
        seen.recv().await;
        kill_process(getpid(), Signal::TERM).unwrap();
        seen.recv().await;

        let stop = stop_requested().unwrap();
        kill_process(getpid(), Signal::INT).unwrap();
        assert_eq!(stop.await, Stop::Interrupt);
    }

    #[tokio::test]
    async fn every_hangup_is_reported_and_harmless() {
        let mut hangups = hangups().unwrap();
        for _ in 0..2 {
            kill_process(getpid(), Signal::HUP).unwrap();
            hangups.next().await;
        }
    }
}
