//! Pauses between attempts.

use std::time::Duration;

use crate::random::random_part;

/// The pause before a second attempt.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Each pause is twice the one before, up to a maximum, and shortened by up to a quarter at random so that many
/// clients do not come back together.
pub(super) struct Pauses {
    next: Duration,
    max: Duration,
}

impl Pauses {
    pub(super) fn new(max: Duration) -> Self {
        Self { next: PAUSE_MIN.min(max), max }
    }

    /// Starts small again.
    pub(super) fn restart(&mut self) {
        self.next = PAUSE_MIN.min(self.max);
    }

    /// Goes on with the longest one, because trying soon would be in vain.
    pub(super) fn skip_to_longest(&mut self) {
        self.next = self.max;
    }

    pub(super) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.max);
        pause - random_part(pause / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_maximum_and_vary_by_a_quarter() {
        let mut pauses = Pauses::new(Duration::from_millis(300));
        for expected_ms in [100, 200, 300, 300] {
            let pause = pauses.next();
            let expected = Duration::from_millis(expected_ms);
            assert!(pause <= expected && pause >= expected * 3 / 4, "{pause:?}");
        }
        pauses.restart();
        assert!(pauses.next() <= Duration::from_millis(100));
        pauses.skip_to_longest();
        assert!(pauses.next() >= Duration::from_millis(225));
    }
}
