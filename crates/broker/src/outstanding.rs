//! The messages a channel has touched and not finished with: in flight, requeued, deferred.
//!
//! Messages in the same state share an entry, so what is handed to a client at once is one entry
//! until something happens to a part of it.
//!
//! # Invariants
//!
//! 1. Entries do not overlap, and `key <= from < to <= next key`. A lookup is one step to the left.
//! 2. Finishing the first messages of an entry moves its `from` and leaves its key; whatever else
//!    happens to a part of an entry cuts it out, and what is right of the cut gets a key of its own.
//! 3. An entry that is ready for redelivery has its `from` as its key.
//! 4. `timers` holds exactly one item for each entry that is in flight or deferred, `changed`
//!    exactly one for each entry with `changed` set.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::{ClientId, Refusal, Time};

/// Consecutive messages in the same state.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// How often the messages have been delivered.
    pub(crate) attempts: u16,
    /// Whether attempts or due time differ from what [`Outstanding::take_changed`] told last.
    pub(crate) changed: bool,
    pub(crate) state: State,
}

impl Entry {
    pub(crate) fn len(&self) -> u64 {
        self.to - self.from
    }

    /// When the messages are due, if they are deferred.
    pub(crate) fn due(&self) -> Option<Time> {
        match self.state {
            State::Deferred { due } => Some(due),
            State::InFlight(_) | State::Ready => None,
        }
    }

    fn timer(&self) -> Option<Time> {
        match self.state {
            State::InFlight(Delivery { deadline, .. }) => Some(deadline),
            State::Deferred { due } => Some(due),
            State::Ready => None,
        }
    }
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum State {
    InFlight(Delivery),
    /// Waiting to be delivered again, or for the first time after a deferral.
    Ready,
    Deferred {
        due: Time,
    },
}

/// What is remembered of messages that are in flight.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Delivery {
    pub(crate) client: ClientId,
    pub(crate) deadline: Time,
    pub(crate) delivered_at: Time,
}

#[derive(Default, Debug)]
pub(crate) struct Outstanding {
    entries: BTreeMap<u64, Entry>,
    /// Deadlines and due times with the key of their entry.
    timers: BTreeSet<(Time, u64)>,
    changed: BTreeSet<u64>,
    in_flight: u64,
    deferred: u64,
}

impl Outstanding {
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    pub(crate) fn deferred(&self) -> u64 {
        self.deferred
    }

    /// The lowest message.
    pub(crate) fn first(&self) -> Option<u64> {
        self.entries.first_key_value().map(|(_, entry)| entry.from)
    }

    /// The entries, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The number of entries, for tests of what they cost.
    #[cfg(test)]
    pub(crate) fn entry_count(&self) -> usize {
        self.entries.len().max(self.timers.len()).max(self.changed.len())
    }

    pub(crate) fn insert(&mut self, entry: Entry) {
        let base = entry.from;
        self.count(entry.state, entry.len());
        if let Some(time) = entry.timer() {
            self.timers.insert((time, base));
        }
        if entry.changed {
            self.changed.insert(base);
        }
        let before = self.entries.insert(base, entry);
        debug_assert!(before.is_none(), "two entries share the key {base}");
    }

    /// Inserts, and joins the entry with its left neighbour when both are in the same state.
    pub(crate) fn insert_joining(&mut self, mut entry: Entry) {
        let left = self.entries.range(..entry.from).next_back();
        if let Some((&base, left)) = left
            && left.to == entry.from
            && left.state == entry.state
            && left.attempts == entry.attempts
            && left.changed == entry.changed
        {
            let left = self.remove(base);
            entry.from = left.from;
        }
        self.insert(entry);
    }

    /// Makes the ready entry with the key `base` reach up to `to`.
    pub(crate) fn extend_ready(&mut self, base: u64, to: u64, changed: bool) {
        let entry = self.entries.get_mut(&base);
        debug_assert!(entry.as_ref().is_some_and(|entry| entry.state == State::Ready));
        if let Some(entry) = entry {
            entry.to = to;
            if changed && !entry.changed {
                entry.changed = true;
                self.changed.insert(base);
            }
        }
    }

    /// Forgets the messages from `range.start` on that are in flight to `client` as one entry,
    /// and returns where they end.
    pub(crate) fn finish(&mut self, client: ClientId, range: Range<u64>) -> Result<u64, Refusal> {
        let Range { start, end } = range;
        let (base, entry) = in_flight_to(&mut self.entries, client, start)?;
        let end = end.min(entry.to);
        if start == entry.from && end < entry.to {
            entry.from = end;
            self.in_flight -= end - start;
        } else {
            self.cut(base, start..end);
        }
        Ok(end)
    }

    /// Cuts out one message that is in flight to `client`.
    pub(crate) fn take_one(&mut self, client: ClientId, seq: u64) -> Result<Entry, Refusal> {
        let (base, _) = in_flight_to(&mut self.entries, client, seq)?;
        Ok(self.cut(base, seq..seq + 1))
    }

    /// What is remembered of a message that is in flight to `client`.
    pub(crate) fn delivery(&mut self, client: ClientId, seq: u64) -> Result<Delivery, Refusal> {
        match in_flight_to(&mut self.entries, client, seq)?.1.state {
            State::InFlight(delivery) => Ok(delivery),
            State::Ready | State::Deferred { .. } => Err(Refusal::NotInFlight),
        }
    }

    /// Cuts out the first `count` messages of the ready entry at `base`.
    pub(crate) fn take_ready(&mut self, base: u64, count: u64) -> Entry {
        self.cut(base, base..base + count)
    }

    /// Removes all that is in flight to `client`, ascending.
    pub(crate) fn take_client(&mut self, client: ClientId) -> Vec<Entry> {
        let owned =
            |entry: &Entry| matches!(entry.state, State::InFlight(it) if it.client == client);
        let bases: Vec<u64> =
            self.entries.iter().filter(|(_, entry)| owned(entry)).map(|(&base, _)| base).collect();
        bases.into_iter().map(|base| self.remove(base)).collect()
    }

    /// When the next deadline or due time is.
    pub(crate) fn next_timer(&self) -> Option<Time> {
        self.timers.first().map(|&(time, _)| time)
    }

    /// Removes the entry whose deadline or due time passed first, if one has.
    pub(crate) fn take_due(&mut self, now: Time) -> Option<Entry> {
        let &(_, base) = self.timers.first().filter(|(time, _)| *time <= now)?;
        Some(self.remove(base))
    }

    /// Whether [`Outstanding::take_changed`] has something to tell.
    pub(crate) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The entries whose attempts or due time changed since this was last asked, ascending.
    pub(crate) fn take_changed(&mut self) -> impl Iterator<Item = &Entry> {
        let changed = std::mem::take(&mut self.changed);
        for base in &changed {
            if let Some(entry) = self.entries.get_mut(base) {
                entry.changed = false;
            }
        }
        changed.into_iter().filter_map(|base| self.entries.get(&base))
    }

    /// Cuts `range`, which lies inside the entry with the key `base`, out of it.
    fn cut(&mut self, base: u64, range: Range<u64>) -> Entry {
        let entry = self.entries.get_mut(&base).expect("keys come from the map itself");
        debug_assert!(entry.from <= range.start && !range.is_empty() && range.end <= entry.to);
        let mut cut = *entry;
        if entry.from < range.start {
            entry.to = range.start;
            self.uncount(cut.state, cut.to - range.start);
        } else {
            self.remove(base);
        }
        if range.end < cut.to {
            self.insert(Entry { from: range.end, ..cut });
        }
        cut.from = range.start;
        cut.to = range.end;
        cut
    }

    fn remove(&mut self, base: u64) -> Entry {
        let entry = self.entries.remove(&base).expect("keys come from the map itself");
        self.uncount(entry.state, entry.len());
        if let Some(time) = entry.timer() {
            self.timers.remove(&(time, base));
        }
        if entry.changed {
            self.changed.remove(&base);
        }
        entry
    }

    fn count(&mut self, state: State, messages: u64) {
        match state {
            State::InFlight(_) => self.in_flight += messages,
            State::Deferred { .. } => self.deferred += messages,
            State::Ready => {}
        }
    }

    fn uncount(&mut self, state: State, messages: u64) {
        match state {
            State::InFlight(_) => self.in_flight -= messages,
            State::Deferred { .. } => self.deferred -= messages,
            State::Ready => {}
        }
    }
}

/// The entry that holds `seq`, when it is in flight to `client`.
fn in_flight_to(
    entries: &mut BTreeMap<u64, Entry>,
    client: ClientId,
    seq: u64,
) -> Result<(u64, &mut Entry), Refusal> {
    let found = entries.range_mut(..=seq).next_back();
    let (&base, entry) = found
        .filter(|(_, entry)| (entry.from..entry.to).contains(&seq))
        .ok_or(Refusal::NotInFlight)?;
    match entry.state {
        State::InFlight(delivery) if delivery.client == client => Ok((base, entry)),
        State::InFlight(_) => Err(Refusal::NotOwner),
        State::Ready | State::Deferred { .. } => Err(Refusal::NotInFlight),
    }
}
