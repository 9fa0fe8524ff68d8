//! The memory that cold reads of all topics may hold.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// A load takes at most this part of what is left, so that many readers get something.
const SHARE: usize = 8;

/// A bound on memory, which loads stay within by taking less, not by waiting.
#[derive(Debug)]
pub(crate) struct ReadBudget {
    max: usize,
    used: AtomicUsize,
}

impl ReadBudget {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, used: AtomicUsize::new(0) })
    }

    /// Returns true if everything is taken. Loads get the least then, and reading ahead should wait.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.used.load(Relaxed) >= self.max
    }

    /// Takes `wanted` bytes or a share of what is left, but always `least`.
    pub(crate) fn take(self: &Arc<Self>, wanted: usize, least: usize) -> Lease {
        let left = self.max.saturating_sub(self.used.load(Relaxed));
        let bytes = wanted.min(left / SHARE).max(least);
        self.used.fetch_add(bytes, Relaxed);
        Lease { budget: Arc::clone(self), bytes }
    }
}

/// A part of a budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    budget: Arc<ReadBudget>,
    bytes: usize,
}

impl Lease {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes the size of the lease.
    pub(crate) fn resize(&mut self, bytes: usize) {
        self.budget.used.fetch_add(bytes, Relaxed);
        self.budget.used.fetch_sub(self.bytes, Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_readers_stay_near_the_budget_and_each_gets_something() {
        let budget = ReadBudget::new(8 << 20);
        let leases: Vec<_> = (0..100).map(|_| budget.take(1 << 20, 64 << 10)).collect();
        assert_eq!(leases[0].bytes(), 1 << 20);
        assert!(leases.iter().all(|lease| lease.bytes() >= 64 << 10));
        let used: usize = leases.iter().map(Lease::bytes).sum();
        assert!(used <= (8 << 20) + 100 * (64 << 10), "{used}");
        drop(leases);
        let mut lease = budget.take(1 << 20, 0);
        lease.resize(3 << 20);
        assert_eq!(budget.used.load(Relaxed), 3 << 20);
        drop(lease);
        assert_eq!(budget.used.load(Relaxed), 0);
    }
}
