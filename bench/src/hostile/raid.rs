//! The time during which a neighbour is hostile, and the count of what it did.

use std::{
    io,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{clock::now, limit::Limit};

/// One neighbour's work against one server.
pub(super) struct Raid<'a> {
    /// The server's address for protocol V2.
    pub(super) tcp: SocketAddr,
    /// The server's address for HTTP.
    pub(super) http: SocketAddr,
    end: Instant,
    limit: &'a Limit,
    done: AtomicUsize,
    refused: AtomicUsize,
}

impl<'a> Raid<'a> {
    /// Plans a raid until `end`, or until the run is given up.
    pub(super) fn until(end: Instant, tcp: SocketAddr, http: SocketAddr, limit: &'a Limit) -> Self {
        let (done, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { tcp, http, end, limit, done, refused }
    }

    /// Returns whether the neighbour has to stop.
    pub(super) fn is_over(&self) -> bool {
        now() >= self.end || self.limit.check("being hostile").is_err()
    }

    /// Repeats `step` at `interval`, or as fast as it goes if that is slower, until the end. Counts the
    /// outcomes.
    pub(super) fn every(&self, interval: Duration, step: impl FnMut(usize) -> io::Result<()>) {
        self.times(usize::MAX, interval, step);
    }

    /// Like [`Raid::every`], but stops after `times`.
    pub(super) fn times(
        &self,
        times: usize,
        interval: Duration,
        mut step: impl FnMut(usize) -> io::Result<()>,
    ) {
        let mut due = now();
        for index in 0..times {
            if self.is_over() {
                break;
            }
            self.count(1, &step(index));
            due = (due + interval).max(now());
            thread::sleep(due.min(self.end).saturating_duration_since(now()));
        }
    }

    /// Does nothing until the end.
    pub(super) fn rest(&self) {
        thread::sleep(self.end.saturating_duration_since(now()));
    }

    /// Counts `number` things that were done or, on an error, refused.
    pub(super) fn count(&self, number: usize, outcome: &io::Result<()>) {
        let counter = if outcome.is_ok() { &self.done } else { &self.refused };
        counter.fetch_add(number, Ordering::Relaxed);
    }

    /// Returns how many things were done and how many were refused.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.done.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }
}
