//! Heartbeats to a client, how long it may be silent or not read, and how long it may stall.
//!
//! Heartbeats, and the deadlines that come with them, are the client's choice. A client that leaves a command unfinished or
//! output unread without any progress is closed after `--stall-timeout` in any case. One without heartbeats that owes
//! nothing may stay idle for ever.

use std::time::Duration;

use tokio::time::Instant;

use crate::session::identify::Setting;

/// The interval of heartbeats unless the client asks for another one.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);

/// The time in which the memory of a burst may prove to be needed again.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// The last signs of life of a client, and when they are checked next.
#[derive(Debug)]
pub(super) struct Liveness {
    /// `None` when the client switched heartbeats off; then there are no deadlines for silence either.
    interval: Option<Duration>,
    /// `None` when clients may stall for ever.
    stall_timeout: Option<Duration>,
    next_beat: Instant,
    next_check: Instant,
    last_command: Instant,
    /// The last input of an unfinished command.
    last_input: Instant,
    /// When the client last took output, or had nothing to take.
    last_written: Instant,
    /// The client is not listened to for now.
    is_held_up: bool,
    /// There was output that the client did not take.
    is_behind: bool,
}

/// The outcome of a check.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// The client is to be sent a heartbeat.
    Beat,
    /// The client is fine.
    Pass,
    /// The client has sent nothing for too long.
    Silent,
    /// The client has read nothing for too long.
    Deaf,
    /// The client has stalled.
    Stalled(Stall),
}

/// A client's omission that holds memory.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Stall {
    Unfinished,
    Unread,
}

/// The duties of a client.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Owed {
    /// The rest of a command.
    pub(super) input: bool,
    /// To read its output.
    pub(super) output: bool,
}

impl Liveness {
    pub(super) fn new(stall_timeout: Option<Duration>, now: Instant) -> Self {
        let mut liveness = Self {
            interval: Some(HEARTBEAT_INTERVAL),
            stall_timeout,
            next_beat: now,
            next_check: now,
            last_command: now,
            last_input: now,
            last_written: now,
            is_held_up: false,
            is_behind: false,
        };
        liveness.plan(now);
        liveness
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

    /// Notes that a part of a command came, and no command.
    pub(super) fn progressed(&mut self, now: Instant) {
        self.last_input = now;
    }

    /// Notes that the client took some output (`sent`), and if it left some (`is_behind`).
    pub(super) fn written(&mut self, sent: bool, is_behind: bool, now: impl FnOnce() -> Instant) {
        let falls_behind = is_behind && !self.is_behind;
        if sent || falls_behind {
            self.last_written = now();
        }
        if falls_behind {
            self.check_soon(self.last_written);
        }
        self.is_behind = is_behind;
    }

    /// Notes if the client is listened to. Time in which it is not does not count as a stall.
    pub(super) fn listened(&mut self, is_listened_to: bool, now: impl FnOnce() -> Instant) {
        if is_listened_to && self.is_held_up {
            self.last_input = now();
        }
        self.is_held_up = !is_listened_to;
    }

    /// When to [check](Self::check).
    pub(super) fn next_check(&self) -> Instant {
        self.next_check
    }

    /// Has the next check come soon, because a burst has left memory behind.
    pub(super) fn check_soon(&mut self, now: Instant) {
        self.next_check = self.next_check.min(now + SETTLE_TIME);
    }

    /// Returns whether a check is due, by the last write: for a session that writes all the time.
    pub(super) fn is_due(&self) -> bool {
        self.last_written >= self.next_check
    }

    /// Judges the client and plans the next check.
    pub(super) fn check(&mut self, owed: Owed, now: Instant) -> Check {
        let stalled_at = self.stalled_at(owed);
        if let Some((_, stall)) = stalled_at.filter(|(at, _)| now >= *at) {
            return Check::Stalled(stall);
        }
        let is_beat = now >= self.next_beat;
        if is_beat {
            self.plan(now);
        } else {
            self.plan_check(now);
        }
        if let Some((at, _)) = stalled_at {
            self.next_check = self.next_check.min(at);
        }
        match self.interval.filter(|_| is_beat) {
            None => Check::Pass,
            Some(interval) if now.duration_since(self.last_command) >= 2 * interval => {
                Check::Silent
            }
            Some(interval) if owed.output && now.duration_since(self.last_written) >= interval => {
                Check::Deaf
            }
            Some(_) => Check::Beat,
        }
    }

    /// When the client will have stalled, unless it makes progress.
    fn stalled_at(&self, owed: Owed) -> Option<(Instant, Stall)> {
        let timeout = self.stall_timeout?;
        let input = || (self.last_command.max(self.last_input) + timeout, Stall::Unfinished);
        let output = || (self.last_written + timeout, Stall::Unread);
        let stalls = [owed.input.then(input), owed.output.then(output)];
        stalls.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn plan(&mut self, now: Instant) {
        // Without heartbeats the connection is still visited now and then, to give back memory.
        self.next_beat = now + self.interval.unwrap_or(HEARTBEAT_INTERVAL);
        self.plan_check(now);
    }

    fn plan_check(&mut self, now: Instant) {
        // Who owes nothing at a check cannot have stalled before this.
        let earliest_stall = self.stall_timeout.map_or(self.next_beat, |timeout| now + timeout);
        self.next_check = self.next_beat.min(earliest_stall);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    const NOTHING: Owed = Owed { input: false, output: false };
    const INPUT: Owed = Owed { input: true, output: false };
    const OUTPUT: Owed = Owed { input: false, output: true };

    fn with_interval(interval: Setting<Duration>) -> (Liveness, Instant) {
        let now = Instant::now();
        let mut liveness = Liveness::new(None, now);
        liveness.set_interval(interval, now);
        (liveness, now)
    }

    #[test]
    fn a_client_that_asks_for_nothing_is_asked_every_thirty_seconds() {
        let start = Instant::now();
        let mut liveness = Liveness::new(None, start);
        assert_eq!(liveness.next_check(), start + 30 * SECOND);
        assert_eq!(liveness.check(NOTHING, start + 30 * SECOND), Check::Beat);
        assert_eq!(liveness.next_check(), start + 60 * SECOND);
        assert_eq!(liveness.check(NOTHING, start + 60 * SECOND), Check::Silent);
    }

    #[test]
    fn a_client_may_be_silent_for_less_than_two_intervals() {
        let (mut liveness, start) = with_interval(Setting::Value(SECOND));
        assert_eq!(liveness.next_check(), start + SECOND);
        assert_eq!(liveness.check(NOTHING, start + SECOND), Check::Beat);
        assert_eq!(liveness.check(NOTHING, start + 2 * SECOND), Check::Silent);
        liveness.heard(start + 2 * SECOND);
        assert_eq!(liveness.check(NOTHING, start + 3 * SECOND), Check::Beat);
    }

    #[test]
    fn a_client_has_to_read_within_an_interval() {
        let (mut liveness, start) = with_interval(Setting::Value(SECOND));
        assert_eq!(liveness.check(OUTPUT, start + SECOND), Check::Deaf);
        liveness.written(true, true, || start + 3 * SECOND / 2);
        liveness.heard(start + SECOND);
        assert_eq!(liveness.check(OUTPUT, start + 2 * SECOND), Check::Beat);
    }

    #[test]
    fn without_heartbeats_a_client_may_be_silent() {
        let (mut liveness, start) = with_interval(Setting::Off);
        assert_eq!(liveness.check(OUTPUT, start + 100 * SECOND), Check::Pass);
        assert_eq!(liveness.next_check(), start + 100 * SECOND + HEARTBEAT_INTERVAL);
        assert!(!liveness.has_heartbeats());
    }

    fn with_stall_timeout(timeout: Duration) -> (Liveness, Instant) {
        let now = Instant::now();
        let mut liveness = Liveness::new(Some(timeout), now);
        liveness.set_interval(Setting::Off, now);
        (liveness, now)
    }

    #[test]
    fn a_client_stalls_exactly_a_timeout_after_its_last_progress() {
        let (mut liveness, start) = with_stall_timeout(10 * SECOND);
        assert_eq!(liveness.next_check(), start + 10 * SECOND);
        liveness.progressed(start + 7 * SECOND);
        assert_eq!(liveness.check(INPUT, start + 10 * SECOND), Check::Pass);
        assert_eq!(liveness.next_check(), start + 17 * SECOND);
        liveness.heard(start + 8 * SECOND);
        assert_eq!(liveness.check(INPUT, start + 17 * SECOND), Check::Pass);
        assert_eq!(liveness.next_check(), start + 18 * SECOND);
        let stalled = Check::Stalled(Stall::Unfinished);
        assert_eq!(liveness.check(INPUT, start + 18 * SECOND), stalled);

        let (mut liveness, start) = with_stall_timeout(10 * SECOND);
        liveness.written(false, true, || start + 4 * SECOND);
        assert_eq!(liveness.check(OUTPUT, start + 10 * SECOND), Check::Pass);
        liveness.written(false, true, || start + 13 * SECOND);
        assert_eq!(liveness.next_check(), start + 14 * SECOND);
        assert_eq!(liveness.check(OUTPUT, start + 14 * SECOND), Check::Stalled(Stall::Unread));
    }

    #[test]
    fn a_client_that_makes_progress_or_owes_nothing_never_stalls() {
        let (mut liveness, mut now) = with_stall_timeout(10 * SECOND);
        for _ in 0..100 {
            // Each time at the last moment.
            now += 9 * SECOND;
            liveness.progressed(now);
            liveness.written(true, true, || now);
            assert_eq!(liveness.check(Owed { input: true, output: true }, now), Check::Pass);
        }
        for _ in 0..100 {
            now += 1000 * SECOND;
            assert_eq!(liveness.check(NOTHING, now), Check::Pass);
        }
        // A long rest does not count against the first byte, nor against the first answer.
        liveness.progressed(now);
        liveness.written(false, false, || now);
        liveness.written(false, true, || now);
        let owed = Owed { input: true, output: true };
        assert_eq!(liveness.check(owed, now + 9 * SECOND), Check::Pass);
    }

    #[test]
    fn time_in_which_a_client_is_not_listened_to_is_no_stall() {
        let (mut liveness, start) = with_stall_timeout(10 * SECOND);
        liveness.listened(false, || start);
        liveness.listened(true, || start + 50 * SECOND);
        liveness.listened(true, || start + 51 * SECOND);
        assert_eq!(liveness.check(INPUT, start + 59 * SECOND), Check::Pass);
        let stalled = Check::Stalled(Stall::Unfinished);
        assert_eq!(liveness.check(INPUT, start + 60 * SECOND), stalled);
    }

    #[test]
    fn heartbeats_keep_their_interval_beside_a_stall_timeout() {
        let (mut liveness, start) = with_stall_timeout(3 * SECOND);
        liveness.set_interval(Setting::Value(5 * SECOND), start);
        assert_eq!(liveness.next_check(), start + 3 * SECOND);
        assert_eq!(liveness.check(NOTHING, start + 3 * SECOND), Check::Pass);
        assert_eq!(liveness.next_check(), start + 5 * SECOND);
        assert_eq!(liveness.check(NOTHING, start + 5 * SECOND), Check::Beat);
    }
}
