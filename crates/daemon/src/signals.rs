//! The signals that ask a daemon to stop.

use std::{future::Future, io};

use tokio::signal::unix::{SignalKind, signal};

/// A request to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// SIGINT, as from Ctrl-C.
    Interrupt,
    /// SIGTERM, as from a service manager.
    Terminate,
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

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

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
}
