//! The time limit of one run, shared by its threads.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{clock::now, failure::Failure};

/// The longest blocking read or write before the limit is checked.
pub(crate) const TICK: Duration = Duration::from_millis(20);

/// A deadline that every blocking wait of a run checks, so that no run can hang.
pub(crate) struct Limit {
    until: Instant,
    seconds: u64,
    cancelled: AtomicBool,
}

impl Limit {
    /// Starts a limit of `seconds` from now.
    pub(crate) fn start(seconds: u64) -> Self {
        Self {
            until: now() + Duration::from_secs(seconds),
            seconds,
            cancelled: AtomicBool::new(false),
        }
    }

    /// Checks that the run may continue with `action`.
    ///
    /// # Errors
    /// Returns [`Failure::Late`] after the deadline and [`Failure::Cancelled`] once another thread
    /// has failed.
    pub(crate) fn check(&self, action: &'static str) -> Result<(), Failure> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Failure::Cancelled);
        }
        if now() >= self.until {
            return Err(Failure::Late { seconds: self.seconds, action });
        }
        Ok(())
    }
}

/// The work of one thread of a run.
pub(crate) type Task<'a, T> = Box<dyn FnOnce() -> Result<T, Failure> + Send + 'a>;

/// Runs each task on its own thread and returns the results in order.
///
/// # Errors
/// Returns the failure that caused the others: when one thread fails, the others give up with
/// failures of their own.
pub(crate) fn run_together<T: Send>(
    limit: &Limit,
    tasks: Vec<Task<'_, T>>,
) -> Result<Vec<T>, Failure> {
    let results: Vec<Result<T, Failure>> = thread::scope(|scope| {
        let threads: Vec<_> = tasks
            .into_iter()
            .map(|task| {
                scope.spawn(move || {
                    let result = task();
                    if result.is_err() {
                        limit.cancelled.store(true, Ordering::Relaxed);
                    }
                    result
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread.join().unwrap_or_else(|_| Err(Failure::Wrong("a thread panicked".into())))
            })
            .collect()
    });
    let mut done = Vec::with_capacity(results.len());
    let mut first: Option<Failure> = None;
    for result in results {
        match result {
            Ok(value) => done.push(value),
            Err(failure) if matches!(first, None | Some(Failure::Cancelled)) => {
                first = Some(failure);
            }
            Err(_) => {}
        }
    }
    first.map_or(Ok(done), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failure_that_caused_the_others_is_the_one_reported() {
        let limit = Limit::start(60);
        let tasks: Vec<Task<'_, ()>> = vec![
            Box::new(|| {
                loop {
                    limit.check("waiting")?;
                    thread::yield_now();
                }
            }),
            Box::new(|| Err(Failure::Closed)),
        ];
        assert!(matches!(run_together(&limit, tasks), Err(Failure::Closed)));
    }

    #[test]
    fn a_limit_that_has_passed_says_what_was_going_on() {
        let limit = Limit::start(0);
        let failure = limit.check("reading").unwrap_err();
        assert_eq!(failure.to_string(), "not complete after 0 s while reading");
    }
}
