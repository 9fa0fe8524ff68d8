//! The messages in flight, and to which client.
//!
//! Messages handed to a client at once are one entry until something happens to a part of it. The ready counts of
//! the clients bound the number of entries.
//!
//! # Invariants
//!
//! 1. Entries do not overlap, and `key <= from < to <= next key`. A lookup is one step to the left.
//! 2. Finishing the first messages of an entry moves its `from` and leaves its key; any other change
//!    to a part of an entry cuts it out, and the part right of the cut gets a key of its own.
//! 3. `deadlines` holds exactly one item for each entry, `changed` exactly one for each entry with
//!    `changed` set.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use crate::{ClientId, Refusal, Stamp, Time, run::Run};

/// Consecutive messages of one delivery.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) run: Run,
    pub(crate) delivery: Delivery,
}

/// The delivery of messages that are in flight.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Delivery {
    pub(crate) client: ClientId,
    pub(crate) deadline: Time,
    pub(crate) delivered_at: Time,
    pub(crate) stamp: Stamp,
}

/// The messages in flight.
#[derive(Default, Debug)]
pub(crate) struct InFlight {
    entries: BTreeMap<u64, Entry>,
    /// Deadlines with the key of their entry.
    deadlines: BTreeSet<(Time, u64)>,
    changed: BTreeSet<u64>,
    count: u64,
}

impl InFlight {
    /// The number of messages.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The lowest message.
    pub(crate) fn first(&self) -> Option<u64> {
        self.entries.first_key_value().map(|(_, entry)| entry.run.from)
    }

    /// The messages, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Run> {
        self.entries.values().map(|entry| &entry.run)
    }

    /// The number of entries, for tests of their cost.
    #[cfg(test)]
    pub(crate) fn entry_count(&self) -> usize {
        self.entries.len().max(self.deadlines.len()).max(self.changed.len())
    }

    pub(crate) fn insert(&mut self, entry: Entry) {
        let key = entry.run.from;
        self.count += entry.run.len();
        self.deadlines.insert((entry.delivery.deadline, key));
        if entry.run.changed {
            self.changed.insert(key);
        }
        let before = self.entries.insert(key, entry);
        debug_assert!(before.is_none(), "two entries share the key {key}");
    }

    /// Inserts an entry as a part of its left neighbour when both have the same history.
    pub(crate) fn insert_joining(&mut self, mut entry: Entry) {
        let left = self.entries.range(..entry.run.from).next_back();
        if let Some((&key, left)) = left
            && left.run.to == entry.run.from
            && left.delivery == entry.delivery
            && left.run.attempts == entry.run.attempts
            && left.run.changed == entry.run.changed
        {
            entry.run.from = self.remove(key).run.from;
        }
        self.insert(entry);
    }

    /// Forgets the messages from `range.start` on that are in flight to `client` as one entry, and returns where
    /// they end and their stamp.
    pub(crate) fn finish(
        &mut self,
        client: ClientId,
        range: Range<u64>,
    ) -> Result<(u64, Stamp), Refusal> {
        let Range { start, end } = range;
        let (key, entry) = owned(&mut self.entries, client, start)?;
        let (end, stamp) = (end.min(entry.run.to), entry.delivery.stamp);
        if start == entry.run.from && end < entry.run.to {
            entry.run.from = end;
            self.count -= end - start;
        } else {
            self.cut(key, start..end);
        }
        Ok((end, stamp))
    }

    /// Removes one message that is in flight to `client`.
    pub(crate) fn take_one(&mut self, client: ClientId, seq: u64) -> Result<Entry, Refusal> {
        let (key, _) = owned(&mut self.entries, client, seq)?;
        Ok(self.cut(key, seq..seq + 1))
    }

    /// The delivery of a message that is in flight to `client`.
    pub(crate) fn delivery(&mut self, client: ClientId, seq: u64) -> Result<Delivery, Refusal> {
        Ok(owned(&mut self.entries, client, seq)?.1.delivery)
    }

    /// Removes the `count` messages that are in flight to `client`, ascending.
    pub(crate) fn take_client(&mut self, client: ClientId, count: u64) -> Vec<Run> {
        let mut keys = Vec::new();
        let mut left = count;
        for (&key, entry) in &self.entries {
            if left == 0 {
                break;
            }
            if entry.delivery.client == client {
                left = left.saturating_sub(entry.run.len());
                keys.push(key);
            }
        }
        keys.into_iter().map(|key| self.remove(key).run).collect()
    }

    /// The next deadline.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// Removes the entry whose deadline passed first, if one has.
    pub(crate) fn take_due(&mut self, now: Time) -> Option<Entry> {
        let &(_, key) = self.deadlines.first().filter(|(deadline, _)| *deadline <= now)?;
        Some(self.remove(key))
    }

    /// Returns whether [`InFlight::take_changed`] has something to report.
    pub(crate) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The messages whose attempts changed since the last call, ascending.
    pub(crate) fn take_changed(&mut self) -> impl Iterator<Item = Run> {
        std::mem::take(&mut self.changed).into_iter().filter_map(|key| {
            let entry = self.entries.get_mut(&key)?;
            entry.run.changed = false;
            Some(entry.run)
        })
    }

    /// Cuts `range`, which lies inside the entry with this key, out of it.
    fn cut(&mut self, key: u64, range: Range<u64>) -> Entry {
        let entry = self.entries.get_mut(&key).expect("keys come from the map itself");
        debug_assert!(
            entry.run.from <= range.start && !range.is_empty() && range.end <= entry.run.to
        );
        let mut cut = *entry;
        if entry.run.from < range.start {
            entry.run.to = range.start;
            self.count -= cut.run.to - range.start;
        } else {
            self.remove(key);
        }
        if range.end < cut.run.to {
            self.insert(Entry { run: Run { from: range.end, ..cut.run }, ..cut });
        }
        (cut.run.from, cut.run.to) = (range.start, range.end);
        cut
    }

    fn remove(&mut self, key: u64) -> Entry {
        let entry = self.entries.remove(&key).expect("keys come from the map itself");
        self.count -= entry.run.len();
        self.deadlines.remove(&(entry.delivery.deadline, key));
        if entry.run.changed {
            self.changed.remove(&key);
        }
        entry
    }
}

/// The entry that holds `seq`, when it is in flight to `client`.
fn owned(
    entries: &mut BTreeMap<u64, Entry>,
    client: ClientId,
    seq: u64,
) -> Result<(u64, &mut Entry), Refusal> {
    let found = entries.range_mut(..=seq).next_back();
    let (&key, entry) = found
        .filter(|(_, entry)| (entry.run.from..entry.run.to).contains(&seq))
        .ok_or(Refusal::NotInFlight)?;
    if entry.delivery.client == client { Ok((key, entry)) } else { Err(Refusal::NotOwner) }
}
