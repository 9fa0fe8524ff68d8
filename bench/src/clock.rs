//! The one place that reads the clock.

use std::time::Instant;

/// Returns the current time of the monotonic clock.
#[expect(clippy::disallowed_methods, reason = "a benchmark is a driver: it measures elapsed time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
