//! Time as a value: it is an argument, the broker never reads a clock.

use std::{ops::Add, time::Duration};

/// A point in time: nanoseconds since the Unix epoch.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug, Hash, Default)]
pub struct Time(pub u64);

impl Time {
    /// The time from `earlier` to `self`, zero when `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    /// The time `delay` later; the end of time when it does not fit.
    fn add(self, delay: Duration) -> Time {
        let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        Time(self.0.saturating_add(nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_beyond_the_end_of_time_saturates() {
        assert_eq!(Time(5) + Duration::from_nanos(7), Time(12));
        assert_eq!(Time(u64::MAX - 1) + Duration::from_secs(1), Time(u64::MAX));
        assert_eq!(Time(1) + Duration::MAX, Time(u64::MAX));
        assert_eq!(Time(3).since(Time(9)), Duration::ZERO);
    }
}
