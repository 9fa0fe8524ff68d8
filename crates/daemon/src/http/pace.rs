//! The progress that a client has to make while it sends a body.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// The time in which a body has to bring [`BODY_PROGRESS_BYTES`] or end.
pub const BODY_PROGRESS_TIME: Duration = Duration::from_secs(10);

/// The bytes that a body has to bring in every [`BODY_PROGRESS_TIME`].
pub const BODY_PROGRESS_BYTES: usize = 10 << 10;

/// The client has sent too little for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooSlow;

/// A deadline that moves on with every [`BODY_PROGRESS_BYTES`].
pub(super) struct Pace {
    deadline: Instant,
    missing_bytes: usize,
}

impl Pace {
    pub(super) fn start() -> Self {
        Self { deadline: Instant::now() + BODY_PROGRESS_TIME, missing_bytes: BODY_PROGRESS_BYTES }
    }

    /// Waits for the next piece until the deadline.
    pub(super) async fn wait<T>(&self, piece: impl Future<Output = T>) -> Result<T, TooSlow> {
        timeout_at(self.deadline, piece).await.map_err(|_| TooSlow)
    }

    /// Counts the bytes that have arrived.
    pub(super) fn arrived(&mut self, bytes: usize) {
        self.missing_bytes = self.missing_bytes.saturating_sub(bytes);
        if self.missing_bytes == 0 {
            *self = Self::start();
        }
    }
}
