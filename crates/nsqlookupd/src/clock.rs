//! The one place that reads the clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nsq_broker::Time;

/// Wall-clock time that never steps: the wall clock is read once, at start, and moved on by the monotonic clock.
///
/// `/debug` shows wall-clock times, yet a clock that is set back must neither hide a producer nor keep a tombstone.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Clock {
    wall_at_start: Duration,
    started: Instant,
}

impl Clock {
    /// A clock that starts at the system's wall-clock time.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the driver that reads the clock for everyone"
    )]
    pub(crate) fn start() -> Self {
        let wall_at_start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall_at_start, started: Instant::now() }
    }

    /// The time now.
    pub(crate) fn now(&self) -> Time {
        Time::default() + (self.wall_at_start + self.started.elapsed())
    }
}
