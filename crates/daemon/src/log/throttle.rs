//! A bound on lines a second. A value: time is an argument.

use std::{mem, time::Duration};

use tokio::time::Instant;

/// The period in which lines are counted.
const PERIOD: Duration = Duration::from_secs(1);

/// Lets the first lines of each second pass and counts the others.
#[derive(Debug)]
pub(super) struct Throttle {
    lines_max: u32,
    /// The end of the period that the counts are about.
    ends: Instant,
    passed: u32,
    suppressed: u64,
}

/// The decision about a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is written, behind a report of this many that were suppressed before it.
    Pass { suppressed: u64 },
    /// It is suppressed, as the first one in a period that ends at this time.
    Begin(Instant),
    /// It is suppressed as well.
    Suppress,
}

impl Throttle {
    /// Lets `lines_max` lines pass a second.
    pub(super) fn new(lines_max: u32, now: Instant) -> Self {
        Self { lines_max, ends: now + PERIOD, passed: 0, suppressed: 0 }
    }

    /// Decides about a line.
    pub(super) fn admit(&mut self, now: Instant) -> Admission {
        let mut suppressed = 0;
        if now >= self.ends {
            suppressed = self.take();
            self.ends = now + PERIOD;
            self.passed = 0;
        }
        if self.passed < self.lines_max {
            self.passed += 1;
            return Admission::Pass { suppressed };
        }
        self.suppressed += 1;
        if self.suppressed == 1 { Admission::Begin(self.ends) } else { Admission::Suppress }
    }

    /// The lines suppressed in a period that has ended by now, to be reported.
    pub(super) fn expire(&mut self, now: Instant) -> u64 {
        if now >= self.ends { self.take() } else { 0 }
    }

    /// The lines suppressed and not reported yet.
    pub(super) fn take(&mut self) -> u64 {
        mem::take(&mut self.suppressed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASS: Admission = Admission::Pass { suppressed: 0 };

    #[test]
    fn the_first_lines_of_each_second_pass_and_the_others_are_counted() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut throttle = Throttle::new(2, start);
        assert_eq!((throttle.admit(at(0)), throttle.admit(at(900))), (PASS, PASS));
        assert_eq!(throttle.admit(at(901)), Admission::Begin(at(1000)));
        assert_eq!(throttle.admit(at(999)), Admission::Suppress);
        assert_eq!(throttle.expire(at(999)), 0);
        // The next period begins with its first line.
        assert_eq!(throttle.admit(at(1200)), Admission::Pass { suppressed: 2 });
        assert_eq!(throttle.admit(at(2100)), PASS);
        assert_eq!(throttle.admit(at(2199)), Admission::Begin(at(2200)));
        assert_eq!(throttle.expire(at(2200)), 1);
        assert_eq!(throttle.expire(at(2300)), 0);
        assert_eq!((throttle.admit(at(9000)), throttle.take()), (PASS, 0));
    }
}
