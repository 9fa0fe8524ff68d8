//! Handing messages to clients: offer, take, park.

use std::ops::Range;

use super::Channel;
use crate::{
    ClientId, Time,
    in_flight::{Delivery, Entry},
    run::Run,
};

/// Where messages to hand out come from. The two take turns, so that messages requeued in a loop do not hold up new
/// ones, nor the other way round.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Source {
    /// The messages never delivered.
    Pending,
    /// The messages put aside that are ready, in the order of becoming ready.
    Aside,
}

impl Source {
    fn other(self) -> Source {
        match self {
            Source::Pending => Source::Aside,
            Source::Aside => Source::Pending,
        }
    }
}

/// Messages a client may take.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Offer {
    /// The messages.
    pub range: Range<u64>,
    /// The attempts they are delivered with, 1 for the first time.
    pub attempts: u16,
    source: Source,
}

impl Offer {
    /// Returns whether the messages were requeued or deferred before, and so come from anywhere in the log instead
    /// of from the channel's position in it.
    pub fn was_put_aside(&self) -> bool {
        self.source == Source::Aside
    }
}

impl Channel {
    /// The next messages for a client: consecutive, delivered equally often before, no more than
    /// its spare ready count and its fair share. `None` when there is nothing for it; then
    /// [`Channel::park`].
    ///
    /// Messages that a sampled client is not to see are finished on the way.
    pub fn offer(&mut self, id: ClientId) -> Option<Offer> {
        loop {
            if self.paused {
                return None;
            }
            let entitled = self.clients.entitled(id, self.depth());
            if entitled == 0 {
                return None;
            }
            let (source, Run { from, to, attempts, .. }) = self.front()?;
            let range = from..to.min(from.saturating_add(entitled));
            let attempts = attempts.saturating_add(1);
            let Some(keeps) = self.sampling(id) else {
                return Some(Offer { range, attempts, source });
            };
            let kept = |seq: &u64| keeps(*seq, attempts);
            let first = range.clone().find(kept).unwrap_or(range.end);
            let end = (first..range.end).find(|seq| !kept(seq)).unwrap_or(range.end);
            self.drop_ready(id, source, range.start..first);
            if first < end {
                return Some(Offer { range: first..end, attempts, source });
            }
        }
    }

    /// Puts the first `count` messages of an offer in flight and returns how many that are.
    ///
    /// It belongs to the [`Channel::offer`] right before it; an offer that is out of date is not
    /// taken. A client that takes less than was offered is not coming back at once, so its reservation
    /// goes to others; one that takes all is expected to ask again.
    pub fn take(&mut self, id: ClientId, offer: &Offer, count: u64, now: Time) -> u64 {
        let Offer { range, attempts, source } = offer.clone();
        let offered = range.end - range.start;
        let entitled = self.clients.entitled(id, self.available());
        let current = self.front_of(source).filter(|run| {
            run.from == range.start
                && run.to >= range.end
                && run.attempts.saturating_add(1) == attempts
                && offered <= entitled
        });
        debug_assert!(current.is_some(), "offer {offer:?} is out of date");
        let count = if current.is_some() { count.min(offered) } else { 0 };
        if let Some(client) = self.clients.get(id).filter(|_| count > 0) {
            let deadline = now + client.config.msg_timeout;
            self.withdraw(source, count);
            // A first delivery follows from the cursor; the journal need not be told.
            let changed = source == Source::Aside;
            let run = Run { from: range.start, to: range.start + count, attempts, changed };
            let delivery = Delivery { client: id, deadline, delivered_at: now };
            self.in_flight.insert(Entry { run, delivery });
            self.counters.deliveries += count;
            self.clients.use_reservation(id, count);
            self.clients.update(id, |stats| {
                stats.in_flight += count;
                stats.message_count += count;
            });
        }
        if count < offered {
            self.release(id);
        }
        count
    }

    /// Marks a client that found nothing as waiting: it is woken once there is something for it.
    /// That also holds when it has no spare ready count at the moment.
    ///
    /// Returns false, and does nothing, when there is something for it right now.
    #[must_use = "a client that was not parked is not woken"]
    pub fn park(&mut self, id: ClientId) -> bool {
        self.clients.park(id, self.available())
    }

    /// Gives a client's reservation to others, because it cannot come for it soon. It is expected to
    /// ask again, or park, when it can.
    pub fn release(&mut self, id: ClientId) {
        self.clients.release(id);
        self.wake();
    }

    /// The run whose turn it is.
    fn front(&self) -> Option<(Source, Run)> {
        let run = |source| self.front_of(source).map(|run| (source, run));
        run(self.turn).or_else(|| run(self.turn.other()))
    }

    /// The first run of `source`.
    fn front_of(&self, source: Source) -> Option<Run> {
        match source {
            Source::Pending => self.pending.front(),
            Source::Aside => self.aside.front_ready(),
        }
    }

    /// Removes the first `count` messages of the first run of `source`; the other's turn is next.
    fn withdraw(&mut self, source: Source, count: u64) {
        match source {
            Source::Pending => self.pending.advance(count),
            Source::Aside => self.aside.take_ready(count),
        }
        self.turn = source.other();
    }

    /// Finishes the first ready messages of `source` instead of delivering them to `id`.
    fn drop_ready(&mut self, id: ClientId, source: Source, range: Range<u64>) {
        if !range.is_empty() {
            let count = range.end - range.start;
            self.withdraw(source, count);
            self.clients.use_reservation(id, count);
            self.unreported.finished.insert(range);
        }
    }

    /// Returns whether a sampled client gets a message; `None` for a client that gets all.
    fn sampling(&self, id: ClientId) -> Option<impl Fn(u64, u16) -> bool + use<>> {
        let rate = self.clients.get(id)?.config.sample_rate;
        let seed = self.config.seed;
        (rate > 0).then_some(move |seq, attempts| draw(seed, seq, attempts) <= u64::from(rate))
    }
}

/// A number from 0 to 99 for one delivery of one message. It follows from its arguments, so that
/// offering a message again does not draw again.
fn draw(seed: u64, seq: u64, attempts: u16) -> u64 {
    let mut bits = seed ^ seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (u64::from(attempts) << 48);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits ^ (bits >> 31)) % 100
}
