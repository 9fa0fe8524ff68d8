//! Durations in milliseconds, as on the wire.

use std::time::Duration;

/// Converts `duration` to milliseconds, rounding up so that a short delay does not become none.
pub(crate) fn ms_rounded_up(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_millisecond_count_as_a_whole_one() {
        for (ns, ms) in [(0, 0), (1, 1), (999_999, 1), (1_000_000, 1), (1_000_001, 2)] {
            assert_eq!(ms_rounded_up(Duration::from_nanos(ns)), ms, "{ns} ns");
        }
    }
}
