//! Heartbeats to a client, and how long it may be silent or not read.

use std::time::Duration;

use tokio::time::Instant;

use crate::session::identify::Setting;

/// The interval of heartbeats unless the client asks for another one.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);

/// The last signs of life of a client, and when they are checked next.
#[derive(Debug)]
pub(super) struct Liveness {
    /// `None` when the client switched heartbeats off; then there are no deadlines either.
    interval: Option<Duration>,
    next_check: Instant,
    last_command: Instant,
    last_written: Instant,
}

/// The outcome of a check.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// The client is to be sent a heartbeat.
    Beat,
    /// The client wants no heartbeats.
    Off,
    /// The client has sent nothing for too long.
    Silent,
    /// The client has read nothing for too long.
    Deaf,
}

impl Liveness {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            interval: Some(HEARTBEAT_INTERVAL),
            next_check: now + HEARTBEAT_INTERVAL,
            last_command: now,
            last_written: now,
        }
    }

    /// Changes the interval as the client asked.
    pub(super) fn set_interval(&mut self, interval: Setting<Duration>, now: Instant) {
        self.interval = interval.over(self.interval);
        self.plan(now);
    }

    pub(super) fn has_heartbeats(&self) -> bool {
        self.interval.is_some()
    }

    /// Notes that a command came.
    pub(super) fn heard(&mut self, now: Instant) {
        self.last_command = now;
    }

    /// Notes that the client took some output.
    pub(super) fn written(&mut self, now: Instant) {
        self.last_written = now;
    }

    /// When to [check](Self::check).
    pub(super) fn next_check(&self) -> Instant {
        self.next_check
    }

    /// Returns whether a check is due, by the last write: for a session that writes all the time.
    pub(super) fn is_due(&self) -> bool {
        self.last_written >= self.next_check
    }

    /// Judges the client and plans the next check.
    pub(super) fn check(&mut self, has_output: bool, now: Instant) -> Check {
        self.plan(now);
        let Some(interval) = self.interval else { return Check::Off };
        if now.duration_since(self.last_command) >= 2 * interval {
            Check::Silent
        } else if has_output && now.duration_since(self.last_written) >= interval {
            Check::Deaf
        } else {
            Check::Beat
        }
    }

    fn plan(&mut self, now: Instant) {
        // Without heartbeats the connection is still visited now and then, to give back memory.
        self.next_check = now + self.interval.unwrap_or(HEARTBEAT_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn with_interval(interval: Setting<Duration>) -> (Liveness, Instant) {
        let now = Instant::now();
        let mut liveness = Liveness::new(now);
        liveness.set_interval(interval, now);
        (liveness, now)
    }

    #[test]
    fn a_client_that_asks_for_nothing_is_asked_every_thirty_seconds() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        assert_eq!(liveness.next_check(), start + 30 * SECOND);
        assert_eq!(liveness.check(false, start + 30 * SECOND), Check::Beat);
        assert_eq!(liveness.next_check(), start + 60 * SECOND);
        assert_eq!(liveness.check(false, start + 60 * SECOND), Check::Silent);
    }

    #[test]
    fn a_client_may_be_silent_for_less_than_two_intervals() {
        let (mut liveness, start) = with_interval(Setting::Value(SECOND));
        assert_eq!(liveness.next_check(), start + SECOND);
        assert_eq!(liveness.check(false, start + SECOND), Check::Beat);
        assert_eq!(liveness.check(false, start + 2 * SECOND), Check::Silent);
        liveness.heard(start + 2 * SECOND);
        assert_eq!(liveness.check(false, start + 3 * SECOND), Check::Beat);
    }

    #[test]
    fn a_client_has_to_read_within_an_interval() {
        let (mut liveness, start) = with_interval(Setting::Value(SECOND));
        assert_eq!(liveness.check(true, start + SECOND), Check::Deaf);
        liveness.written(start + SECOND);
        assert_eq!(liveness.check(true, start + SECOND), Check::Beat);
    }

    #[test]
    fn without_heartbeats_a_client_may_be_silent() {
        let (mut liveness, start) = with_interval(Setting::Off);
        assert_eq!(liveness.check(true, start + 100 * SECOND), Check::Off);
        assert_eq!(liveness.next_check(), start + 100 * SECOND + HEARTBEAT_INTERVAL);
        assert!(!liveness.has_heartbeats());
    }
}
