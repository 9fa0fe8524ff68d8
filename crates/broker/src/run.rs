//! Consecutive messages with the same history.

use crate::{Outstanding, Time};

/// Consecutive messages that were delivered equally often.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Run {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// How often the messages have been delivered.
    pub(crate) attempts: u16,
    /// Set while the journal has not been told the current attempts or due time.
    pub(crate) changed: bool,
}

impl Run {
    pub(crate) fn len(&self) -> u64 {
        self.to - self.from
    }

    /// The run as the journal learns of it.
    pub(crate) fn report(&self, due: Option<Time>) -> Outstanding {
        Outstanding { range: self.from..self.to, attempts: self.attempts, due }
    }
}
