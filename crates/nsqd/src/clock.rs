//! The one place that reads clocks.

use std::{
    fs,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nsq_broker::Time;
use rustix::time::{ClockId, clock_gettime};

/// The file with the random id of the boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The clocks of a machine.
pub trait Clocks: Send + Sync {
    /// A number that changes with every boot of the machine; zeros if it is not known.
    fn boot_id(&self) -> [u8; 16];

    /// Time since the boot, suspended or not. It never steps.
    fn since_boot(&self) -> Duration;

    /// Wall-clock time since 1970. It may step forward and back.
    fn wall(&self) -> Duration;

    /// The clock that delays and timeouts are measured by while nsqd runs. It never steps.
    fn monotonic(&self) -> Instant;

    /// Waits until [`Clocks::monotonic`] shows `at`.
    fn reached(&self, at: Instant) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
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

    #[expect(clippy::disallowed_methods, reason = "reads the clock for everyone")]
    fn monotonic(&self) -> Instant {
        Instant::now()
    }

    fn reached(&self, at: Instant) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(tokio::time::sleep(at.saturating_duration_since(self.monotonic())))
    }
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32).map(u128::to_be_bytes)
}

/// The number of readings of the clocks, of which the closest counts.
const READINGS: usize = 16;

/// The clocks of a machine, read as if at the same moment.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) boot_id: [u8; 16],
    pub(crate) since_boot: Duration,
    pub(crate) wall: Duration,
    at: Instant,
}

impl Reading {
    /// Reads the clocks. The process may be suspended between one and the next, and what it misses then, every due
    /// time would be early or late after a restart; so the closest of several readings counts.
    pub(crate) fn take(clocks: &dyn Clocks) -> Self {
        let boot_id = clocks.boot_id();
        let read = || {
            let at = clocks.monotonic();
            let (since_boot, wall) = (clocks.since_boot(), clocks.wall());
            (clocks.monotonic() - at, Self { boot_id, since_boot, wall, at })
        };
        let (mut gap, mut closest) = read();
        for _ in 1..READINGS {
            let (next_gap, next) = read();
            if next_gap < gap {
                (gap, closest) = (next_gap, next);
            }
        }
        closest
    }

    /// The reading as the log takes it.
    pub(crate) fn for_log(&self) -> nsq_log::Clocks {
        nsq_log::Clocks {
            boot_id: self.boot_id,
            since_boot_ns: nanos(self.since_boot),
            wall_ns: nanos(self.wall).cast_signed(),
        }
    }
}

/// Node time and wall-clock time.
///
/// Delays, timeouts and due times are in *node time*: nanoseconds since 1970 on an axis that never steps and goes
/// on across restarts. Timestamps of messages, and whatever people see, follow the wall clock.
#[derive(Clone)]
pub(crate) struct Clock {
    clocks: Arc<dyn Clocks>,
    node_at_start: Time,
    start: Reading,
}

impl Clock {
    /// A clock that showed `node_time` when `start` was taken.
    pub(crate) fn new(clocks: Arc<dyn Clocks>, start: Reading, node_time: Time) -> Self {
        Self { clocks, node_at_start: node_time, start }
    }

    /// Node time.
    pub(crate) fn now(&self) -> Time {
        self.node_at_start + self.uptime()
    }

    /// Wall-clock time, ns since 1970.
    pub(crate) fn wall_ns(&self) -> i64 {
        nanos(self.clocks.wall()).cast_signed()
    }

    /// The wall-clock time since `then`, in ns since 1970; zero if that is still to come.
    pub(crate) fn since_wall(&self, then_ns: i64) -> Duration {
        let passed = self.wall_ns().saturating_sub(then_ns);
        Duration::from_nanos(u64::try_from(passed).unwrap_or(0))
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
        self.start.wall.as_secs()
    }

    /// The time since the clock was made.
    pub(crate) fn uptime(&self) -> Duration {
        self.clocks.monotonic() - self.start.at
    }

    /// Waits until node time reaches `time`.
    pub(crate) async fn reached(&self, time: Time) {
        self.clocks.reached(self.start.at + time.since(self.node_at_start)).await;
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
