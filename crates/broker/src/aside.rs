//! The messages put aside: deferred until they are due, or ready to be delivered again.
//!
//! There may be as many as there are messages, each with a due time of its own, so an entry for them is small: they
//! lie in sorted chunks of packed entries, and only the chunks are in trees.
//!
//! # Invariants
//!
//! 1. Entries do not overlap. Each lies in the chunk with the highest key that is not above its first
//!    message, and no chunk is empty.
//! 2. `due` holds exactly the chunks with deferred messages, each under its first due time; `changed`
//!    holds exactly those with an entry that the journal must learn of.
//! 3. `ready` holds the first message of each entry that is ready, in the order in which they became
//!    ready.
//! 4. A chunk that has become nearly empty is merged with a neighbour that has room for it, so memory
//!    follows from the messages that are left.

mod chunk;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound::{Excluded, Unbounded},
};

use self::chunk::{CHUNK_ENTRIES_MAX, Chunk, Entry, Summary};
use crate::{Outstanding, Time, run::Run};

/// A queue of ready entries that is shorter than this keeps its memory.
const READY_SHRINK_MIN: usize = 64;

/// The messages put aside.
#[derive(Default, Debug)]
pub(crate) struct Aside {
    chunks: BTreeMap<u64, Chunk>,
    due: BTreeSet<(Time, u64)>,
    changed: BTreeSet<u64>,
    ready: VecDeque<u64>,
    /// Where the last ready entry ends.
    ready_end: u64,
    ready_count: u64,
    deferred_count: u64,
}

impl Aside {
    /// The number of messages that are ready.
    pub(crate) fn ready(&self) -> u64 {
        self.ready_count
    }

    /// The number of messages that are not due yet.
    pub(crate) fn deferred(&self) -> u64 {
        self.deferred_count
    }

    /// The number of ready messages below `seq`.
    pub(crate) fn ready_below(&self, seq: u64) -> u64 {
        self.chunks.range(..seq).map(|(_, chunk)| chunk.ready_below(seq)).sum()
    }

    /// The lowest message.
    pub(crate) fn first(&self) -> Option<u64> {
        self.entries().next().map(|entry| entry.from)
    }

    /// The lowest message that is ready.
    pub(crate) fn first_ready(&self) -> Option<u64> {
        self.chunks.values().find_map(Chunk::first_ready)
    }

    /// All messages, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Outstanding> {
        self.entries().map(Entry::report)
    }

    /// When the next messages are due.
    pub(crate) fn next_due(&self) -> Option<Time> {
        self.due.first().map(|&(due, _)| due)
    }

    /// Adds messages that become ready at `due`.
    pub(crate) fn defer(&mut self, run: Run, due: Time) {
        self.deferred_count += run.len();
        Entry::split(run, Some(due)).for_each(|entry| self.insert(entry));
    }

    /// Adds messages that are ready, behind those that have been for longer.
    pub(crate) fn push_ready(&mut self, run: Run) {
        self.ready_count += run.len();
        for entry in Entry::split(run, None) {
            if !self.extend_ready(&entry) {
                self.insert(entry);
                self.ready.push_back(entry.from);
                self.ready_end = entry.to();
            }
        }
    }

    /// Makes the messages that are due first ready, if any are; returns whether it did.
    pub(crate) fn expire_next(&mut self, now: Time) -> bool {
        let Some(&(due, key)) = self.due.first().filter(|(due, _)| *due <= now) else {
            return false;
        };
        let found = self.chunks.get(&key).and_then(|chunk| chunk.find_due(due)).copied();
        let Some(entry) = found else { return false };
        self.deferred_count -= entry.len();
        self.ready_count += entry.len();
        let ready = Entry::split(Run { changed: true, ..entry.run() }, None).next();
        if ready.is_some_and(|ready| self.extend_ready(&ready)) {
            self.remove(entry.from);
        } else {
            self.edit(key, |chunk| chunk.make_ready(entry.from));
            self.ready.push_back(entry.from);
            self.ready_end = entry.to();
        }
        true
    }

    /// The messages that have been ready for the longest time.
    pub(crate) fn front_ready(&self) -> Option<Run> {
        let first = *self.ready.front()?;
        let chunk = self.chunks.get(&self.key_of(first))?;
        chunk.get(first).map(Entry::run)
    }

    /// Removes the first `count` messages, all of which are in the front run.
    pub(crate) fn take_ready(&mut self, count: u64) {
        let Some(first) = self.ready.pop_front() else { return };
        let Some(entry) = self.remove(first) else { return };
        debug_assert!(count <= entry.len());
        self.ready_count -= count;
        let rest = Run { from: first + count, ..entry.run() };
        for entry in Entry::split(rest, None) {
            self.insert(entry);
            self.ready.push_front(entry.from);
        }
        let len = self.ready.len();
        if len < self.ready.capacity() / 2 && len >= READY_SHRINK_MIN {
            self.ready.shrink_to(len + len / 4);
        }
    }

    /// Returns whether [`Aside::take_changed`] has something to report.
    pub(crate) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Reports the messages whose attempts or due time changed since the last call, ascending.
    pub(crate) fn take_changed(&mut self, mut report: impl FnMut(Outstanding)) {
        for key in std::mem::take(&mut self.changed) {
            if let Some(chunk) = self.chunks.get_mut(&key) {
                chunk.take_changed(&mut report);
            }
        }
    }

    /// The number of entries, for tests of their cost.
    #[cfg(test)]
    pub(crate) fn entry_count(&self) -> usize {
        self.entries().count().max(self.ready.len())
    }

    fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.chunks.values().flat_map(Chunk::entries)
    }

    /// Adds an entry to the chunk it belongs to.
    fn insert(&mut self, entry: Entry) {
        let key = self.key_for(entry.from);
        if !self.edit(key, |chunk| chunk.insert(entry)) {
            let key = self.make_room(key, entry.from);
            self.edit(key, |chunk| chunk.insert(entry));
        }
    }

    /// Makes a ready entry a part of the last one if it continues it; returns whether it does.
    fn extend_ready(&mut self, entry: &Entry) -> bool {
        let last = self.ready.back().copied().filter(|_| self.ready_end == entry.from);
        let extended = last.is_some_and(|last| {
            let key = self.key_of(last);
            self.edit(key, |chunk| chunk.extend(last, entry))
        });
        if extended {
            self.ready_end = entry.to();
        }
        extended
    }

    /// Removes the entry that begins at `from`, and gives back the memory that has become free.
    fn remove(&mut self, from: u64) -> Option<Entry> {
        let key = self.key_of(from);
        let removed = self.edit(key, |chunk| chunk.remove(from));
        if self.chunks.get(&key).is_none_or(|chunk| chunk.len() <= CHUNK_ENTRIES_MAX / 4) {
            let left = self.chunks.range(..key).next_back().map(|(&left, _)| left);
            self.merge_right(key);
            if let Some(left) = left {
                self.merge_right(left);
            }
        }
        removed
    }

    /// Merges a chunk with its right neighbour if together they are no more than half full.
    fn merge_right(&mut self, key: u64) {
        let Some(len) = self.chunks.get(&key).map(Chunk::len) else { return };
        let right = self.chunks.range((Excluded(key), Unbounded)).next();
        let fits = |chunk: &Chunk| len + chunk.len() <= CHUNK_ENTRIES_MAX / 2;
        let right = right.filter(|(_, chunk)| fits(chunk)).map(|(&right, _)| right);
        if let Some(chunk) = right.and_then(|right| self.detach(right)) {
            self.edit(key, |left| left.append(chunk));
        }
    }

    /// Splits the full chunk at `key`; returns the key of the chunk in which `from` belongs then.
    fn make_room(&mut self, key: u64, from: u64) -> u64 {
        if self.entries().next_back().is_some_and(|last| last.from < from) {
            // Messages put aside in order leave full chunks behind.
            return from;
        }
        let upper = self.edit(key, Chunk::split_off);
        let Some(upper_key) = upper.entries().first().map(|entry| entry.from) else { return key };
        self.attach(upper_key, upper);
        if from < upper_key { key } else { upper_key }
    }

    /// The key of the chunk in which an entry that begins at `from` lies, if there is one.
    fn key_of(&self, from: u64) -> u64 {
        self.chunks.range(..=from).next_back().map_or(from, |(&key, _)| key)
    }

    /// The key of the chunk in which an entry that begins at `from` belongs.
    fn key_for(&mut self, from: u64) -> u64 {
        if let Some((&key, _)) = self.chunks.range(..=from).next_back() {
            return key;
        }
        let first = self.chunks.first_key_value().map(|(&key, _)| key);
        if let Some(chunk) = first.and_then(|first| self.detach(first)) {
            self.attach(from, chunk);
        }
        from
    }

    /// Changes the chunk at `key`, which is created or removed as needed, and follows up in `due` and `changed`.
    fn edit<R>(&mut self, key: u64, edit: impl FnOnce(&mut Chunk) -> R) -> R {
        let chunk = self.chunks.entry(key).or_default();
        let before = chunk.summary();
        let result = edit(chunk);
        let after = chunk.summary();
        if chunk.len() == 0 {
            self.chunks.remove(&key);
        }
        self.reindex(key, before, after);
        result
    }

    fn attach(&mut self, key: u64, chunk: Chunk) {
        self.reindex(key, Summary::default(), chunk.summary());
        self.chunks.insert(key, chunk);
    }

    fn detach(&mut self, key: u64) -> Option<Chunk> {
        let chunk = self.chunks.remove(&key)?;
        self.reindex(key, chunk.summary(), Summary::default());
        Some(chunk)
    }

    fn reindex(&mut self, key: u64, before: Summary, after: Summary) {
        if before.next_due != after.next_due {
            if let Some(due) = before.next_due {
                self.due.remove(&(due, key));
            }
            if let Some(due) = after.next_due {
                self.due.insert((due, key));
            }
        }
        match (before.changed, after.changed) {
            (false, true) => _ = self.changed.insert(key),
            (true, false) => _ = self.changed.remove(&key),
            _ => {}
        }
    }
}
