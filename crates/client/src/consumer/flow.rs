//! Flow control: divides `max_in_flight` among the connections.
//!
//! A [`Flow`] is a value without I/O. Time is an argument, [`Flow::next_time`] tells when the flow wants to be called
//! again, and the caller sends the RDY commands that [`Flow::poll_rdy`] returns, in that order.
//!
//! # Invariants
//! 1. The RDY counts never add up to more than may be in flight, not even between two commands: connections that get
//!    less come first.
//! 2. While messages may be in flight and there are connections that accept RDY, at least one has RDY above 0.
//! 3. When there are more connections than messages, they take turns, the one that has waited longest first.
//! 4. RDY is sent only when it changes.

mod shares;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use self::shares::even_shares;
use crate::{
    backoff::{BackoffState, Change, Outcome, Phase},
    config::Config,
    random::random,
};

/// A subscribed connection, as far as flow control needs to know it. A clone is the same connection.
pub(crate) trait Subscribed: Clone {
    /// The highest RDY count that nsqd accepts on this connection.
    fn rdy_count_max(&self) -> u32;
    /// The number of messages received so far.
    fn received(&self) -> u64;
    /// The number of messages received and not answered.
    fn in_flight(&self) -> u64;
    /// Returns whether `other` is the same connection.
    fn is(&self, other: &Self) -> bool;
}

/// The subscribed connections and their RDY counts.
pub(crate) struct Flow<C> {
    max_in_flight: u32,
    idle_timeout: Duration,
    hold_timeout: Duration,
    interval: Duration,
    backoff: BackoffState,
    shares: Vec<Share<C>>,
    /// RDY commands that the caller has not taken yet.
    commands: VecDeque<(C, u32)>,
    /// Incremented each time shares are given out; orders the connections that wait for a turn.
    round: u64,
    /// The index of the connection that is first to get a message of the remainder.
    first_favoured: usize,
    /// When to check next whether RDY has to move to other connections.
    rotation: Option<ScheduledRotation>,
}

struct Share<C> {
    connection: C,
    rdy: u32,
    /// The round in which RDY became 0.
    waiting_since: u64,
    /// When RDY was last raised from 0.
    ready_since: Instant,
    /// The number of messages received at the last check.
    seen: u64,
    /// When a check last found new messages.
    last_message: Instant,
}

/// Why RDY moves from one connection to another.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Rotation {
    /// There are more connections than messages, so connections take turns.
    Turns,
    /// The messages cannot be divided evenly, so the remainder goes round.
    Remainder,
}

#[derive(Copy, Clone)]
struct ScheduledRotation {
    kind: Rotation,
    at: Instant,
}

impl<C: Subscribed> Flow<C> {
    pub(crate) fn new(config: &Config) -> Self {
        let backoff = BackoffState::new(
            config.backoff_strategy.clone(),
            config.backoff_multiplier,
            config.max_backoff_duration,
        );
        Self {
            max_in_flight: config.max_in_flight,
            idle_timeout: config.low_rdy_idle_timeout,
            hold_timeout: config.low_rdy_timeout,
            interval: config.rdy_redistribute_interval,
            backoff,
            shares: Vec::new(),
            commands: VecDeque::new(),
            round: 0,
            first_favoured: 0,
            rotation: None,
        }
    }

    pub(crate) fn connections(&self) -> impl Iterator<Item = &C> {
        self.shares.iter().map(|share| &share.connection)
    }

    pub(crate) fn max_in_flight(&self) -> u32 {
        self.max_in_flight
    }

    pub(crate) fn phase(&self) -> Phase {
        self.backoff.phase()
    }

    /// Returns when to call [`Flow::handle_time`].
    pub(crate) fn next_time(&self) -> Option<Instant> {
        let rotation = self.rotation.map(|rotation| rotation.at);
        self.backoff.pause_end().into_iter().chain(rotation).min()
    }

    /// Returns the next RDY command to send.
    pub(crate) fn poll_rdy(&mut self) -> Option<(C, u32)> {
        self.commands.pop_front()
    }

    pub(crate) fn change_max_in_flight(&mut self, max_in_flight: u32, now: Instant) {
        self.max_in_flight = max_in_flight;
        self.share_out(now);
    }

    pub(crate) fn add(&mut self, connection: C, now: Instant) {
        self.shares.push(Share {
            connection,
            rdy: 0,
            waiting_since: self.round + 1,
            ready_since: now,
            seen: 0,
            last_message: now,
        });
        self.share_out(now);
    }

    /// Removes a connection that has ended or is closing.
    pub(crate) fn remove(&mut self, connection: &C, now: Instant) {
        self.shares.retain(|share| !share.connection.is(connection));
        self.share_out(now);
    }

    /// Removes and returns all connections, without further commands.
    pub(crate) fn drain(&mut self) -> Vec<C> {
        self.rotation = None;
        self.commands.clear();
        self.shares.drain(..).map(|share| share.connection).collect()
    }

    /// Returns whether a connection has nearly all messages in flight that it may have, so that nsqd may hold more.
    pub(crate) fn is_starved(&self) -> bool {
        self.shares.iter().any(|share| {
            let in_flight = share.connection.in_flight();
            in_flight > 0 && in_flight >= u64::from(share.rdy) * 85 / 100
        })
    }

    /// Handles the outcome of a message. RDY commands that follow from it must be sent before the message's answer.
    pub(crate) fn handle_outcome(&mut self, outcome: Outcome, now: Instant) -> Change {
        let change = self.backoff.handle_outcome(outcome, now);
        if change != Change::Nothing {
            self.share_out(now);
        }
        change
    }

    /// Handles the passing of time.
    pub(crate) fn handle_time(&mut self, now: Instant) {
        let pause_over = self.backoff.handle_time(now);
        let due = self.rotation.take_if(|rotation| rotation.at <= now);
        match due.map(|rotation| rotation.kind) {
            Some(Rotation::Turns) => self.end_turns(now),
            Some(Rotation::Remainder) if self.count_messages(now) => self.first_favoured += 1,
            Some(Rotation::Remainder) | None => {}
        }
        if pause_over || due.is_some() {
            self.share_out(now);
        }
    }

    /// The number of messages that may be in flight over all connections.
    fn budget(&self) -> u32 {
        match self.backoff.phase() {
            Phase::Off => self.max_in_flight,
            Phase::Pausing => 0,
            Phase::Trying => self.max_in_flight.min(1),
        }
    }

    /// Gives every connection its share of the budget; those that get less come first.
    fn share_out(&mut self, now: Instant) {
        self.round += 1;
        let budget = self.budget();
        let limits: Vec<_> =
            self.shares.iter().map(|share| share.connection.rdy_count_max()).collect();
        let too_few = usize::try_from(budget).is_ok_and(|budget| budget < limits.len());
        let targets = if too_few {
            self.turns(budget, &limits)
        } else {
            even_shares(budget, &limits, self.first_favoured)
        };
        for lowering in [true, false] {
            for (share, &target) in self.shares.iter_mut().zip(&targets) {
                if share.rdy != target && (target < share.rdy) == lowering {
                    self.commands.push_back(share.set_rdy(target, self.round, now));
                }
            }
        }
        let rotation = if budget == 0 { None } else { self.rotation_for(too_few, &targets) };
        self.schedule(rotation, now);
    }

    /// Gives one message to each connection whose turn it is, then to those that have waited longest.
    fn turns(&self, mut budget: u32, limits: &[u32]) -> Vec<u32> {
        let mut line: Vec<_> = (0..limits.len()).filter(|&i| limits[i] > 0).collect();
        // Connections that have waited equally long are taken at random, so that none is always the last.
        line.sort_by_cached_key(|&i| {
            let share = &self.shares[i];
            if share.rdy > 0 { (0, 0, 0) } else { (1, share.waiting_since, random()) }
        });
        let mut targets = vec![0; limits.len()];
        for i in line {
            let granted = budget.min(1);
            targets[i] = granted;
            budget -= granted;
        }
        targets
    }

    /// Ends the turns of connections that are idle or have had theirs for long, at most one for each that waits.
    fn end_turns(&mut self, now: Instant) {
        self.count_messages(now);
        let waits = |share: &&Share<C>| share.rdy == 0 && share.connection.rdy_count_max() > 0;
        let mut waiting = self.shares.iter().filter(waits).count();
        self.round += 1;
        for share in self.shares.iter_mut().filter(|share| share.rdy > 0) {
            if waiting == 0 {
                return;
            }
            let idle = now.duration_since(share.last_message) > self.idle_timeout
                && share.connection.in_flight() == 0;
            if idle || now.duration_since(share.ready_since) > self.hold_timeout {
                self.commands.push_back(share.set_rdy(0, self.round, now));
                waiting -= 1;
            }
        }
    }

    /// Records which connections have received messages since the last check; returns whether any has.
    fn count_messages(&mut self, now: Instant) -> bool {
        let mut any = false;
        for share in &mut self.shares {
            let received = share.connection.received();
            if received != share.seen {
                share.seen = received;
                share.last_message = now;
                any = true;
            }
        }
        any
    }

    /// The rotation that `targets` call for, if any.
    fn rotation_for(&self, too_few: bool, targets: &[u32]) -> Option<Rotation> {
        let uneven = targets.iter().min() != targets.iter().max();
        match self.phase() {
            _ if too_few => Some(Rotation::Turns),
            Phase::Off if uneven => Some(Rotation::Remainder),
            _ => None,
        }
    }

    /// Schedules `rotation`; one of the same kind that is already scheduled keeps its time.
    fn schedule(&mut self, rotation: Option<Rotation>, now: Instant) {
        let Some(kind) = rotation else {
            self.rotation = None;
            return;
        };
        if self.rotation.is_none_or(|scheduled| scheduled.kind != kind) {
            let period = match kind {
                Rotation::Turns => self.interval,
                Rotation::Remainder => self.hold_timeout,
            };
            self.rotation = Some(ScheduledRotation { kind, at: now + period });
        }
    }
}

impl<C: Subscribed> Share<C> {
    /// Changes RDY and returns the command that tells nsqd.
    fn set_rdy(&mut self, rdy: u32, round: u64, now: Instant) -> (C, u32) {
        if self.rdy == 0 {
            self.ready_since = now;
        }
        if rdy == 0 {
            self.waiting_since = round;
        }
        self.rdy = rdy;
        (self.connection.clone(), rdy)
    }
}
