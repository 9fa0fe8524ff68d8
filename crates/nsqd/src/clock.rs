//! The one place that reads clocks.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nsq_broker::Time;
use rustix::time::{ClockId, clock_gettime};

/// Where the operating system tells which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The clocks of a machine.
pub trait Clocks: Send + Sync {
    /// A number that changes with every boot of the machine; zeros if it is not known.
    fn boot_id(&self) -> [u8; 16];

    /// Time since the boot, suspended or not. It never steps.
    fn since_boot(&self) -> Duration;

    /// Wall-clock time since 1970. It may step forward and back.
    fn wall(&self) -> Duration;
}

/// The clocks of this machine.
#[derive(Copy, Clone, Debug, Default)]
pub struct SystemClocks;

impl Clocks for SystemClocks {
    fn boot_id(&self) -> [u8; 16] {
        // A file that cannot be read is as good as a new boot: then the wall clock has to do.
        fs::read_to_string(BOOT_ID).ok().and_then(|text| parse_uuid(&text)).unwrap_or_default()
    }

    fn since_boot(&self) -> Duration {
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
    }

    #[expect(clippy::disallowed_methods, reason = "reads the clock for everyone")]
    fn wall(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32).map(u128::to_be_bytes)
}

/// Node time and wall-clock time.
///
/// Delays, timeouts and due times are in *node time*: nanoseconds since 1970 on an axis that never steps and goes
/// on across restarts. Timestamps of messages, and whatever people see, follow the wall clock.
#[derive(Clone)]
pub(crate) struct Clock {
    clocks: Arc<dyn Clocks>,
    node_at_start: Time,
    wall_at_start: Duration,
    started: Instant,
}

impl Clock {
    /// A clock that goes on from `now`.
    #[expect(clippy::disallowed_methods, reason = "reads the clock for everyone")]
    pub(crate) fn from_node_time(clocks: Arc<dyn Clocks>, now: Time) -> Self {
        let wall_at_start = clocks.wall();
        Self { clocks, node_at_start: now, wall_at_start, started: Instant::now() }
    }

    /// Node time.
    pub(crate) fn now(&self) -> Time {
        self.node_at_start + self.started.elapsed()
    }

    /// Wall-clock time, ns since 1970.
    pub(crate) fn wall_ns(&self) -> i64 {
        nanos(self.clocks.wall()).cast_signed()
    }

    /// Wall-clock time in whole seconds since 1970.
    pub(crate) fn wall_seconds(&self) -> u64 {
        self.clocks.wall().as_secs()
    }

    /// How far the wall clock is ahead of node time, ns.
    pub(crate) fn wall_minus_node_ns(&self) -> i64 {
        self.wall_ns().saturating_sub_unsigned(self.now().0)
    }

    /// The wall-clock time at which the clock was made, in seconds since 1970.
    pub(crate) fn start_seconds(&self) -> u64 {
        self.wall_at_start.as_secs()
    }

    /// The time since the clock was made.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The instant on tokio's clock at which node time reaches `time`.
    pub(crate) fn instant(&self, time: Time) -> tokio::time::Instant {
        tokio::time::Instant::now() + time.since(self.now())
    }
}

/// Nanoseconds, saturating.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_id_is_read_as_the_kernel_writes_it() {
        let id = parse_uuid("5f0c3c1e-8a53-4e0c-9b0e-0123456789ab\n").unwrap();
        assert_eq!(id[..4], [0x5f, 0x0c, 0x3c, 0x1e]);
        assert_eq!(id[15], 0xab);
        assert_eq!(parse_uuid("none"), None);
        assert_eq!(parse_uuid("5f0c"), None);
    }
}
