//! Delays between retries.

use std::time::Duration;

use crate::random::random_part;

/// The delay before the first retry of a connection or query.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// Returns `base` doubled `times` times, without overflow.
pub(crate) fn doubled(base: Duration, times: u32) -> Duration {
    base.saturating_mul(2_u32.checked_pow(times).unwrap_or(u32::MAX))
}

/// How delays grow: each is twice the one before, up to a maximum.
#[derive(Copy, Clone, Debug)]
pub(crate) struct RetryDelays {
    pub(crate) first: Duration,
    pub(crate) max: Duration,
}

impl RetryDelays {
    /// Returns the delay after so many failures in a row.
    pub(crate) fn after(self, failures: u32) -> Duration {
        doubled(self.first, failures.saturating_sub(1)).min(self.max)
    }
}

/// The retries of one task. Delays are shortened by up to a quarter at random, so that many clients do not come back
/// together.
pub(crate) struct Retries {
    delays: RetryDelays,
    failures: u32,
}

impl Retries {
    /// Retries from 100 ms on, up to `max`.
    pub(crate) fn up_to(max: Duration) -> Self {
        Self { delays: RetryDelays { first: FIRST_DELAY, max }, failures: 0 }
    }

    /// Starts again with the shortest delay.
    pub(crate) fn restart(&mut self) {
        self.failures = 0;
    }

    /// Continues with the longest delay.
    pub(crate) fn skip_to_longest(&mut self) {
        self.failures = u32::MAX;
    }

    /// Returns the delay before the next retry.
    pub(crate) fn next_delay(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let delay = self.delays.after(self.failures);
        delay - random_part(delay / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_their_maximum_and_vary_by_a_quarter() {
        let mut retries = Retries::up_to(Duration::from_millis(300));
        for expected_ms in [100, 200, 300, 300] {
            let delay = retries.next_delay();
            let expected = Duration::from_millis(expected_ms);
            assert!(delay <= expected && delay >= expected * 3 / 4, "{delay:?}");
        }
        retries.restart();
        assert!(retries.next_delay() <= Duration::from_millis(100));
        retries.skip_to_longest();
        assert!(retries.next_delay() >= Duration::from_millis(225));
    }

    #[test]
    fn a_maximum_below_the_first_delay_holds_from_the_start() {
        let mut retries = Retries::up_to(Duration::from_millis(10));
        assert!(retries.next_delay() <= Duration::from_millis(10));
    }

    #[test]
    fn no_number_of_failures_overflows() {
        let delays = RetryDelays { first: Duration::MAX, max: Duration::MAX };
        assert_eq!(delays.after(u32::MAX), Duration::MAX);
        assert_eq!(doubled(Duration::ZERO, u32::MAX), Duration::ZERO);
    }
}
