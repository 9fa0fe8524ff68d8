//! The one place that reads the clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nsq_broker::Time;
use nsq_log::Clocks;

/// How often the clocks are read to find out how they relate.
const READINGS: usize = 16;

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
        // The two clocks are read one after the other, and the process may be suspended in between. What it
        // misses then, every due time would be early or late after a restart; so the closest readings count.
        let read = || {
            let started = Instant::now();
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            (started.elapsed(), Self { wall_at_start: wall, started })
        };
        let (mut gap, mut clock) = read();
        for _ in 1..READINGS {
            let (next_gap, next) = read();
            if next_gap < gap {
                (gap, clock) = (next_gap, next);
            }
        }
        clock
    }

    /// The machine's clocks, for a store that is to be opened.
    pub(crate) fn readings(&self) -> Clocks {
        Clocks { wall_ns: self.now().0.cast_signed(), ..Clocks::default() }
    }

    /// A clock that shows `now_ns` when `readings` were taken.
    pub(crate) fn starting_at(self, readings: &Clocks, now_ns: u64) -> Self {
        let ahead = i128::from(now_ns) - i128::from(readings.wall_ns);
        let started_ns = i128::try_from(self.wall_at_start.as_nanos()).unwrap_or(i128::MAX);
        let started_ns = u64::try_from(started_ns.saturating_add(ahead)).unwrap_or(0);
        Self { wall_at_start: Duration::from_nanos(started_ns), ..self }
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
