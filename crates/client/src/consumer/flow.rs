//! How many messages each connection may have in flight: `max_in_flight` shared out over the connections.
//!
//! Time comes in as an argument; what has to happen later is asked for with [`Flow::next_time`].
//!
//! # Invariants
//! 1. The RDY counts never add up to more than may be in flight, not even between two commands: those that get less
//!    are told first.
//! 2. While messages may be in flight and there are connections, at least one of them has RDY above 0.
//! 3. When there are more connections than messages, each one gets its turn, longest waiting first.
//! 4. RDY is only said when it changes.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    event::{Emitter, Event},
    subscriber::Subscriber,
};
use crate::{
    backoff::{BackoffState, Change, Outcome, Phase},
    config::Config,
    random::random,
};

/// The subscribed connections and the RDY each was given.
pub(crate) struct Flow {
    max_in_flight: u32,
    idle_timeout: Duration,
    hold_timeout: Duration,
    interval: Duration,
    backoff: BackoffState,
    events: Emitter,
    shares: Vec<Share>,
    /// Counts the times that shares were given out, for places in line.
    round: u64,
    /// Which connection is the first to get one of the messages that cannot be divided evenly.
    first_favoured: usize,
    /// When the next look at who holds RDY is due.
    tick: Option<Tick>,
}

struct Share {
    subscriber: Arc<Subscriber>,
    rdy: u32,
    /// The round in which it came to have no RDY: its place in line.
    waiting_since: u64,
    /// When RDY was last raised from 0.
    ready_since: Instant,
    /// How many messages had come when they were last counted, and when there were more than before.
    seen: u64,
    last_message: Instant,
}

/// What a look at who holds RDY is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Rotation {
    /// There are more connections than messages: some have none, and want their turn.
    Turns,
    /// Some connections may have one message more than others.
    Remainder,
}

#[derive(Copy, Clone)]
struct Tick {
    rotation: Rotation,
    at: Instant,
}

impl Flow {
    pub(crate) fn new(config: &Config, events: Emitter) -> Self {
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
            events,
            shares: Vec::new(),
            round: 0,
            first_favoured: 0,
            tick: None,
        }
    }

    pub(crate) fn subscribers(&self) -> impl Iterator<Item = &Arc<Subscriber>> {
        self.shares.iter().map(|share| &share.subscriber)
    }

    pub(crate) fn phase(&self) -> Phase {
        self.backoff.phase()
    }

    /// When [`Flow::handle_time`] has something to do.
    pub(crate) fn next_time(&self) -> Option<Instant> {
        let tick = self.tick.map(|tick| tick.at);
        self.backoff.pause_end().into_iter().chain(tick).min()
    }

    pub(crate) fn change_max_in_flight(&mut self, max_in_flight: u32, now: Instant) {
        self.max_in_flight = max_in_flight;
        self.share_out(now);
    }

    pub(crate) fn add(&mut self, subscriber: Arc<Subscriber>, now: Instant) {
        if self.max_in_flight > subscriber.rdy_count_max() {
            tracing::warn!(
                nsqd = subscriber.address(),
                max_rdy_count = subscriber.rdy_count_max(),
                max_in_flight = self.max_in_flight,
                "max_in_flight is over what nsqd allows one connection"
            );
        }
        self.shares.push(Share {
            subscriber,
            rdy: 0,
            waiting_since: self.round,
            ready_since: now,
            seen: 0,
            last_message: now,
        });
        self.share_out(now);
    }

    /// Takes a connection out, whether it has ended or is closing.
    pub(crate) fn remove(&mut self, subscriber: &Arc<Subscriber>, now: Instant) {
        self.shares.retain(|share| !Arc::ptr_eq(&share.subscriber, subscriber));
        self.share_out(now);
    }

    /// Takes all connections out, which are to be closed.
    pub(crate) fn drain(&mut self) -> Vec<Arc<Subscriber>> {
        self.tick = None;
        self.shares.drain(..).map(|share| share.subscriber).collect()
    }

    /// Whether a connection has nearly all messages in flight that it may have, so that more may be waiting.
    pub(crate) fn is_starved(&self) -> bool {
        self.shares.iter().any(|share| {
            let in_flight = share.subscriber.counts().in_flight();
            in_flight > 0 && in_flight >= u64::from(share.rdy) * 85 / 100
        })
    }

    /// A message is about to be answered. RDY commands that follow from it are said before.
    pub(crate) fn handle_outcome(&mut self, outcome: Outcome, now: Instant) {
        match self.backoff.handle_outcome(outcome, now) {
            Change::Nothing => return,
            Change::Pause { level, length } => {
                tracing::warn!(level, pause = ?length, "backing off");
                self.events.emit(|| Event::BackedOff { level, pause: length });
            }
            Change::Resume => {
                tracing::info!("messages are handled again, no more backing off");
                self.events.emit(|| Event::Resumed);
            }
        }
        self.share_out(now);
    }

    /// Time has passed.
    pub(crate) fn handle_time(&mut self, now: Instant) {
        let pause_over = self.backoff.handle_time(now);
        let due = self.tick.filter(|tick| tick.at <= now);
        if let Some(tick) = due {
            self.tick = None;
            match tick.rotation {
                Rotation::Turns => self.end_turns(now),
                Rotation::Remainder => {
                    if self.count_messages(now) {
                        self.first_favoured += 1;
                    }
                }
            }
        }
        if pause_over || due.is_some() {
            self.share_out(now);
        }
    }

    /// How many messages may be in flight in all.
    fn budget(&self) -> u32 {
        match self.backoff.phase() {
            Phase::Off => self.max_in_flight,
            Phase::Pausing => 0,
            Phase::Trying => self.max_in_flight.min(1),
        }
    }

    /// Tells every connection whose share has changed, those that get less first.
    fn share_out(&mut self, now: Instant) {
        self.round += 1;
        let budget = self.budget();
        let limits: Vec<_> =
            self.shares.iter().map(|share| share.subscriber.rdy_count_max()).collect();
        let few = usize::try_from(budget).is_ok_and(|budget| budget < limits.len());
        let targets = if few {
            self.turns(budget, &limits)
        } else {
            even_shares(budget, &limits, self.first_favoured)
        };
        for lowering in [true, false] {
            for (share, &target) in self.shares.iter_mut().zip(&targets) {
                if share.rdy != target && (target < share.rdy) == lowering {
                    share.say(target, self.round, now);
                }
            }
        }
        self.plan_tick(budget, few, &targets, now);
    }

    /// One message for each of those who have their turn, and then for those who have waited longest.
    fn turns(&self, mut budget: u32, limits: &[u32]) -> Vec<u32> {
        let mut line: Vec<_> = (0..limits.len()).filter(|&i| limits[i] > 0).collect();
        // Nobody shall be tried first again and again: those who wait equally long are taken at random.
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

    /// Ends the turns of those who receive nothing and of those who have had theirs for long, as far as there are
    /// others waiting.
    fn end_turns(&mut self, now: Instant) {
        self.count_messages(now);
        let can_have = |share: &&Share| share.rdy == 0 && share.subscriber.rdy_count_max() > 0;
        let mut waiting = self.shares.iter().filter(can_have).count();
        self.round += 1;
        for share in self.shares.iter_mut().filter(|share| share.rdy > 0) {
            if waiting == 0 {
                return;
            }
            let silent = now.duration_since(share.last_message) > self.idle_timeout
                && share.subscriber.counts().in_flight() == 0;
            if silent || now.duration_since(share.ready_since) > self.hold_timeout {
                share.say(0, self.round, now);
                waiting -= 1;
            }
        }
    }

    /// Notes which connections have received messages; says whether any has.
    fn count_messages(&mut self, now: Instant) -> bool {
        let mut any = false;
        for share in &mut self.shares {
            let received = share.subscriber.received();
            if received != share.seen {
                share.seen = received;
                share.last_message = now;
                any = true;
            }
        }
        any
    }

    /// Arranges for the next look at who holds RDY, if there is anything to be changed by it.
    fn plan_tick(&mut self, budget: u32, few: bool, targets: &[u32], now: Instant) {
        let uneven = targets.iter().min() != targets.iter().max();
        let (rotation, period) = match self.phase() {
            _ if budget > 0 && few => (Rotation::Turns, self.interval),
            Phase::Off if budget > 0 && uneven => (Rotation::Remainder, self.hold_timeout),
            _ => {
                self.tick = None;
                return;
            }
        };
        if self.tick.is_none_or(|tick| tick.rotation != rotation) {
            self.tick = Some(Tick { rotation, at: now + period });
        }
    }
}

impl Share {
    fn say(&mut self, rdy: u32, round: u64, now: Instant) {
        if self.rdy == 0 {
            self.ready_since = now;
        }
        if rdy == 0 {
            self.waiting_since = round;
        }
        self.rdy = rdy;
        self.subscriber.ready(rdy);
        tracing::debug!(nsqd = self.subscriber.address(), rdy, "RDY");
    }
}

/// `total` in as even parts as the limits allow; of equals, the one at `first` and those behind it get the remainder.
fn even_shares(total: u32, limits: &[u32], first: usize) -> Vec<u32> {
    let count = limits.len();
    let mut by_limit: Vec<usize> = (0..count).collect();
    by_limit.sort_by_key(|&i| (limits[i], (i + count - first % count) % count));
    let mut shares = vec![0; count];
    let mut left = total;
    for (done, &i) in by_limit.iter().enumerate() {
        let rest = u32::try_from(count - done).unwrap_or(u32::MAX);
        shares[i] = left.div_ceil(rest).min(limits[i]);
        left -= shares[i];
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_use_all_there_is_and_never_more() {
        // R02
        for (total, limits, expected) in [
            (10, &[2500; 3][..], &[4, 3, 3][..]),
            (9, &[2500; 6], &[2, 2, 2, 1, 1, 1]),
            (0, &[2500; 2], &[0, 0]),
            (5000, &[100, 2500], &[100, 2500]),
            (100, &[2500, 10, 2500], &[45, 10, 45]),
            (7, &[], &[]),
        ] {
            assert_eq!(even_shares(total, limits, 0), expected, "{total} over {limits:?}");
        }
    }

    #[test]
    fn the_remainder_can_go_to_each_connection() {
        // R02
        for (first, expected) in [(1, [3, 4, 3]), (2, [3, 3, 4]), (3, [4, 3, 3])] {
            assert_eq!(even_shares(10, &[2500; 3], first), expected);
        }
        assert_eq!(even_shares(5, &[2500; 3], 2), [2, 1, 2]);
    }
}
