//! The CPU time that server and load use during part of a run.

use std::time::{Duration, Instant};

use crate::{clock::now, failure::Failure, measure::own_cpu, target::Target};

/// Counts the CPU time of server and load from its start.
pub(crate) struct Meter<'a> {
    target: &'a Target,
    server: Option<Duration>,
    load: Duration,
    /// When the meter was started.
    pub(crate) started: Instant,
}

/// CPU and elapsed time since a meter was started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    /// The server's CPU time, if its process is known.
    pub(crate) server: Option<Duration>,
    /// This process's CPU time.
    pub(crate) load: Duration,
    /// Elapsed time.
    pub(crate) elapsed: Duration,
}

impl<'a> Meter<'a> {
    /// Starts a meter.
    ///
    /// # Errors
    /// Returns the system's error.
    pub(crate) fn start(target: &'a Target) -> Result<Self, Failure> {
        let server = target.cpu()?;
        Ok(Self { target, server, load: own_cpu()?, started: now() })
    }

    /// Returns the time used since the start.
    ///
    /// # Errors
    /// Returns the system's error.
    pub(crate) fn read(&self) -> Result<Spent, Failure> {
        let elapsed = now() - self.started;
        let server = self.target.cpu()?.zip(self.server).map(|(end, start)| end - start);
        Ok(Spent { server, load: own_cpu()? - self.load, elapsed })
    }
}
