//! A piece of the messages put aside: a sorted array of packed entries.

use crate::{Outstanding, Time, run::Run};

/// The most entries in a chunk. To search so few costs little more than a step down a tree.
pub(super) const CHUNK_ENTRIES_MAX: usize = 128;

/// Consecutive messages that were put aside together.
#[derive(Copy, Clone, Debug)]
pub(super) struct Entry {
    pub(super) from: u64,
    /// When the messages become ready; meaningless once they are.
    due: Time,
    len: u32,
    attempts: u16,
    changed: bool,
    ready: bool,
}

/// The size on which the promised cost of a message put aside rests.
const _: () = assert!(size_of::<Entry>() == 24);

impl Entry {
    /// The run as entries, each as long as an entry can be. They are ready when there is no due time.
    pub(super) fn split(run: Run, due: Option<Time>) -> impl Iterator<Item = Entry> {
        let Run { mut from, to, attempts, changed } = run;
        std::iter::from_fn(move || {
            let len = u32::try_from(to - from).unwrap_or(u32::MAX);
            let due_at = due.unwrap_or_default();
            let entry = Entry { from, due: due_at, len, attempts, changed, ready: due.is_none() };
            from = entry.to();
            (len > 0).then_some(entry)
        })
    }

    pub(super) fn len(&self) -> u64 {
        u64::from(self.len)
    }

    pub(super) fn to(&self) -> u64 {
        self.from + self.len()
    }

    pub(super) fn run(&self) -> Run {
        let &Entry { from, attempts, changed, .. } = self;
        Run { from, to: self.to(), attempts, changed }
    }

    fn due(&self) -> Option<Time> {
        (!self.ready).then_some(self.due)
    }

    pub(super) fn report(&self) -> Outstanding {
        self.run().report(self.due())
    }

    /// Makes `next` a part of this entry if it continues it; returns whether it does.
    fn join(&mut self, next: &Entry) -> bool {
        let same = (self.attempts, self.due()) == (next.attempts, next.due());
        match self.len.checked_add(next.len) {
            Some(len) if same && self.to() == next.from => {
                self.len = len;
                self.changed |= next.changed;
                true
            }
            _ => false,
        }
    }
}

/// The facts about a chunk by which others find it.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub(super) struct Summary {
    /// The first due time of its deferred messages.
    pub(super) next_due: Option<Time>,
    /// Set when an entry has changed.
    pub(super) changed: bool,
}

/// Neighbouring entries, ascending.
#[derive(Default, Debug)]
pub(super) struct Chunk {
    entries: Vec<Entry>,
    summary: Summary,
    /// The number of ready messages.
    ready: u64,
}

impl Chunk {
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn summary(&self) -> Summary {
        self.summary
    }

    /// The memory of its entries, for tests.
    #[cfg(test)]
    pub(super) fn capacity_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    /// The number of ready messages below `seq`.
    pub(super) fn ready_below(&self, seq: u64) -> u64 {
        if self.entries.last().is_none_or(|last| last.to() <= seq) {
            return self.ready;
        }
        let ready = self.entries.iter().filter(|entry| entry.ready);
        ready.map(|entry| entry.to().min(seq).saturating_sub(entry.from)).sum()
    }

    /// The lowest message that is ready.
    pub(super) fn first_ready(&self) -> Option<u64> {
        if self.ready == 0 {
            return None;
        }
        self.entries.iter().find(|entry| entry.ready).map(|entry| entry.from)
    }

    /// The entry that begins at `from`.
    pub(super) fn get(&self, from: u64) -> Option<&Entry> {
        self.entries.get(self.find(from)?)
    }

    /// Adds an entry, if there is room or its left neighbour can take it in; returns whether it did.
    pub(super) fn insert(&mut self, entry: Entry) -> bool {
        let at = self.entries.partition_point(|other| other.from < entry.from);
        if !self.join_left(at, &entry) {
            if self.len() >= CHUNK_ENTRIES_MAX {
                return false;
            }
            self.entries.insert(at, entry);
        }
        self.count(&entry);
        true
    }

    fn join_left(&mut self, at: usize, entry: &Entry) -> bool {
        // Ready entries are found by their first messages, in the order of becoming ready.
        let left = at.checked_sub(1).filter(|_| !entry.ready);
        let left = left.and_then(|left| self.entries.get_mut(left));
        // A part that the journal was told must not be told again.
        left.is_some_and(|left| left.changed == entry.changed && left.join(entry))
    }

    /// Makes an entry a part of the one that begins at `from` if it continues it; returns whether it does.
    pub(super) fn extend(&mut self, from: u64, entry: &Entry) -> bool {
        let extended = self.find(from).and_then(|at| self.entries.get_mut(at));
        let joined = extended.is_some_and(|extended| extended.join(entry));
        if joined {
            self.count(entry);
        }
        joined
    }

    /// Removes the entry that begins at `from`.
    pub(super) fn remove(&mut self, from: u64) -> Option<Entry> {
        let at = self.find(from)?;
        Some(self.remove_at(at))
    }

    /// Returns the first entry that is due at `due`.
    pub(super) fn find_due(&self, due: Time) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.due() == Some(due))
    }

    /// Makes the deferred entry that begins at `from` ready.
    pub(super) fn make_ready(&mut self, from: u64) {
        let Some(at) = self.find(from) else { return };
        let before = self.entries[at];
        let entry = Entry { ready: true, changed: true, ..before };
        self.entries[at] = entry;
        self.uncount(&before);
        self.count(&entry);
    }

    /// Reports the entries that changed, which then count as told.
    pub(super) fn take_changed(&mut self, report: &mut impl FnMut(Outstanding)) {
        for entry in self.entries.iter_mut().filter(|entry| entry.changed) {
            entry.changed = false;
            report(entry.report());
        }
        self.summary.changed = false;
    }

    /// Cuts off the upper half.
    pub(super) fn split_off(&mut self) -> Chunk {
        let entries = self.entries.split_off(self.len() / 2);
        let mut upper = Chunk { entries, ..Chunk::default() };
        self.recount();
        upper.recount();
        upper
    }

    /// Takes over the entries of the chunk to the right.
    pub(super) fn append(&mut self, mut right: Chunk) {
        self.entries.append(&mut right.entries);
        self.recount();
    }

    fn find(&self, from: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&from, |entry| entry.from).ok()
    }

    fn remove_at(&mut self, at: usize) -> Entry {
        let entry = self.entries.remove(at);
        let len = self.len();
        if len + len / 2 < self.entries.capacity() {
            // With some room, so that not every removal copies.
            self.entries.shrink_to(len + len / 8);
        }
        self.uncount(&entry);
        entry
    }

    fn count(&mut self, entry: &Entry) {
        self.summary.changed |= entry.changed;
        if entry.ready {
            self.ready += entry.len();
        } else {
            let earlier = self.summary.next_due.map_or(entry.due, |due| due.min(entry.due));
            self.summary.next_due = Some(earlier);
        }
    }

    /// Undoes [`Chunk::count`] for an entry that has left.
    fn uncount(&mut self, entry: &Entry) {
        if entry.changed {
            self.summary.changed = self.entries.iter().any(|entry| entry.changed);
        }
        if entry.ready {
            self.ready -= entry.len();
        } else if self.summary.next_due == Some(entry.due) {
            self.summary.next_due = self.entries.iter().filter_map(Entry::due).min();
        }
    }

    fn recount(&mut self) {
        (self.summary, self.ready) = (Summary::default(), 0);
        for at in 0..self.entries.len() {
            let entry = self.entries[at];
            self.count(&entry);
        }
    }
}
