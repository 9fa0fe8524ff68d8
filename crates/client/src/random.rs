//! Random numbers for jitter, which keeps many clients from acting at the same moment. Not for secrets.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// Returns a random number.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(())
}

/// Returns a random duration below `duration`, or zero for zero.
pub(crate) fn random_part(duration: Duration) -> Duration {
    let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(random().checked_rem(ns).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_part_is_less_than_the_whole_and_never_the_same_for_long() {
        let whole = Duration::from_secs(3600);
        let parts: Vec<_> = (0..20).map(|_| random_part(whole)).collect();
        assert!(parts.iter().all(|part| *part < whole));
        assert!(parts.iter().any(|part| *part != parts[0]));
        assert_eq!(random_part(Duration::ZERO), Duration::ZERO);
    }
}
