//! Backing off: when handling fails, the consumer pauses, then tries a single message, whose outcome makes the next
//! pause longer or shorter.
//!
//! The state is a value; time and outcomes are arguments.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{random::random_part, retry::doubled};

/// Computes the pause at each level of backing off. Implemented by every `Fn(u32, Duration) -> Duration`.
pub trait BackoffStrategy: Send + Sync + 'static {
    /// Returns the pause at `level`, which is 1 after the first failure. `multiplier` is the configuration's
    /// `backoff_multiplier`. Must not block.
    fn delay(&self, level: u32, multiplier: Duration) -> Duration;
}

impl<F: Fn(u32, Duration) -> Duration + Send + Sync + 'static> BackoffStrategy for F {
    fn delay(&self, level: u32, multiplier: Duration) -> Duration {
        self(level, multiplier)
    }
}

/// The growth of the pauses of backing off with the level.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Backoff {
    /// `backoff_multiplier` × 2^level.
    #[default]
    Exponential,
    /// A random time below [`Backoff::Exponential`].
    FullJitter,
    /// A strategy of the application.
    Custom(Arc<dyn BackoffStrategy>),
}

impl Backoff {
    /// Wraps a strategy of the application.
    pub fn custom(strategy: impl BackoffStrategy) -> Self {
        Self::Custom(Arc::new(strategy))
    }

    /// Returns the pause at `level`.
    fn delay(&self, level: u32, multiplier: Duration) -> Duration {
        match self {
            Self::Exponential => doubled(multiplier, level),
            Self::FullJitter => random_part(doubled(multiplier, level)),
            Self::Custom(strategy) => strategy.delay(level, multiplier),
        }
    }

    /// Returns the longest pause at `level`, which decides whether the level may rise. Not random.
    fn longest(&self, level: u32, multiplier: Duration) -> Duration {
        match self {
            Self::Exponential | Self::FullJitter => doubled(multiplier, level),
            Self::Custom(strategy) => strategy.delay(level, multiplier),
        }
    }
}

impl PartialEq for Backoff {
    /// Custom strategies are equal if they are the same object.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exponential, Self::Exponential) | (Self::FullJitter, Self::FullJitter) => true,
            (Self::Custom(one), Self::Custom(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl fmt::Debug for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exponential => "Exponential",
            Self::FullJitter => "FullJitter",
            Self::Custom(_) => "Custom",
        })
    }
}

/// The outcome of a message, as far as backing off is concerned.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Finished.
    Success,
    /// Requeued because handling failed.
    Failure,
    /// Requeued for a reason that does not affect other messages.
    Neutral,
}

/// The phases of backing off.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not backing off: as many messages as allowed.
    Off,
    /// No messages.
    Pausing,
    /// A single message.
    Trying,
}

/// The effect of an outcome.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Nothing,
    /// A pause begins.
    Pause {
        level: u32,
        length: Duration,
    },
    /// Backing off is over.
    Resume,
}

/// The state of a consumer's backing off.
pub(crate) struct BackoffState {
    strategy: Backoff,
    multiplier: Duration,
    /// The longest pause; zero disables backing off.
    pause_max: Duration,
    level: u32,
    pause_end: Option<Instant>,
}

impl BackoffState {
    pub(crate) fn new(strategy: Backoff, multiplier: Duration, pause_max: Duration) -> Self {
        Self { strategy, multiplier, pause_max, level: 0, pause_end: None }
    }

    pub(crate) fn phase(&self) -> Phase {
        match (self.pause_end, self.level) {
            (Some(_), _) => Phase::Pausing,
            (None, 0) => Phase::Off,
            (None, _) => Phase::Trying,
        }
    }

    /// Returns when to call [`BackoffState::handle_time`].
    pub(crate) fn pause_end(&self) -> Option<Instant> {
        self.pause_end
    }

    /// Handles the outcome of a message. Outcomes during a pause have no effect: those messages were received before
    /// it.
    pub(crate) fn handle_outcome(&mut self, outcome: Outcome, now: Instant) -> Change {
        if self.pause_end.is_some() || self.pause_max.is_zero() {
            return Change::Nothing;
        }
        let before = self.level;
        match outcome {
            Outcome::Success => self.level = before.saturating_sub(1),
            Outcome::Failure => {
                let raised = before.saturating_add(1);
                if self.strategy.longest(raised, self.multiplier) <= self.pause_max {
                    self.level = raised;
                }
            }
            Outcome::Neutral => {}
        }
        match (before, self.level) {
            (0, 0) => Change::Nothing,
            (_, 0) => Change::Resume,
            (_, level) => {
                let length = self.strategy.delay(level, self.multiplier).min(self.pause_max);
                self.pause_end = Some(now + length);
                Change::Pause { level, length }
            }
        }
    }

    /// Handles the passing of time. Returns whether a pause has ended.
    pub(crate) fn handle_time(&mut self, now: Instant) -> bool {
        let over = self.pause_end.is_some_and(|end| end <= now);
        if over {
            self.pause_end = None;
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn state(pause_max: Duration) -> BackoffState {
        BackoffState::new(Backoff::Exponential, SECOND, pause_max)
    }

    /// Returns the length of the pause that follows, and waits for its end.
    fn pause_after(state: &mut BackoffState, outcome: Outcome) -> Option<u64> {
        let now = Instant::now();
        let Change::Pause { length, .. } = state.handle_outcome(outcome, now) else { return None };
        assert_eq!(state.phase(), Phase::Pausing);
        assert_eq!(state.handle_outcome(Outcome::Failure, now), Change::Nothing); // B04
        assert_eq!(state.handle_outcome(Outcome::Success, now), Change::Nothing);
        assert!(!state.handle_time(now + length - Duration::from_nanos(1)));
        assert!(state.handle_time(now + length));
        assert_eq!(state.phase(), Phase::Trying);
        Some(length.as_secs())
    }

    #[test]
    fn pauses_double_with_failures_up_to_the_longest_that_fits() {
        // B07
        let mut state = state(2 * 60 * SECOND);
        let pauses: Vec<_> = (0..8).map(|_| pause_after(&mut state, Outcome::Failure)).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 64, 64].map(Some));
    }

    #[test]
    fn each_success_takes_back_one_failure() {
        // B05, B06
        let mut state = state(2 * 60 * SECOND);
        for expected in [2, 4, 8] {
            assert_eq!(pause_after(&mut state, Outcome::Failure), Some(expected));
        }
        assert_eq!(pause_after(&mut state, Outcome::Success), Some(4));
        assert_eq!(pause_after(&mut state, Outcome::Neutral), Some(4));
        assert_eq!(pause_after(&mut state, Outcome::Success), Some(2));
        let now = Instant::now();
        assert_eq!(state.handle_outcome(Outcome::Success, now), Change::Resume);
        assert_eq!(state.phase(), Phase::Off);
        assert_eq!(state.handle_outcome(Outcome::Success, now), Change::Nothing);
        assert_eq!(state.handle_outcome(Outcome::Neutral, now), Change::Nothing);
    }

    #[test]
    fn a_longest_pause_below_the_first_one_means_never() {
        // B07
        for pause_max in [Duration::ZERO, SECOND] {
            let mut state = state(pause_max);
            assert_eq!(pause_after(&mut state, Outcome::Failure), None);
            assert_eq!(state.phase(), Phase::Off);
        }
    }

    #[test]
    fn strategies_do_what_they_say_and_do_not_overflow() {
        // B08
        for (level, seconds) in [(0, 1), (1, 2), (3, 8), (5, 32)] {
            assert_eq!(Backoff::Exponential.delay(level, SECOND), seconds * SECOND);
            for _ in 0..100 {
                assert!(Backoff::FullJitter.delay(level, SECOND) < seconds * SECOND);
            }
        }
        assert!(Backoff::Exponential.delay(u32::MAX, SECOND) >= (u32::MAX / 2) * SECOND);
        assert_eq!(Backoff::Exponential.delay(u32::MAX, Duration::MAX), Duration::MAX);
        assert_eq!(Backoff::FullJitter.delay(7, Duration::ZERO), Duration::ZERO);
        let fixed = Backoff::custom(|level, multiplier| multiplier * 3 * level);
        assert_eq!(fixed.delay(2, SECOND), 6 * SECOND);
        let mut state = BackoffState::new(fixed, SECOND, 10 * SECOND);
        let pauses: Vec<_> = (0..4).map(|_| pause_after(&mut state, Outcome::Failure)).collect();
        assert_eq!(pauses, [3, 6, 9, 9].map(Some));
    }

    #[test]
    fn the_level_cannot_creep_up_by_lucky_jitter() {
        // B07
        let mut state = BackoffState::new(Backoff::FullJitter, SECOND, 10 * SECOND);
        for _ in 0..200 {
            pause_after(&mut state, Outcome::Failure);
        }
        assert_eq!(state.level, 3);
    }
}
