//! The one place that reads the clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nsq_broker::Time;

/// Wall-clock time that never steps: the wall clock is read once, at start, and moved on by the monotonic clock.
///
/// Deadlines and due times survive a restart as wall-clock times, yet a clock that is set back while nsqd runs
/// must neither delay nor hurry a message.
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
        let since_epoch = self.wall_at_start + self.started.elapsed();
        Time(u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX))
    }

    /// When the clock started, in seconds since the Unix epoch.
    pub(crate) fn start_seconds(&self) -> u64 {
        self.wall_at_start.as_secs()
    }

    /// How long the clock has run.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The instant on tokio's clock at which `time` comes.
    pub(crate) fn instant(&self, time: Time) -> tokio::time::Instant {
        let wait = Duration::from_nanos(time.0.saturating_sub(self.now().0));
        tokio::time::Instant::now() + wait
    }
}
