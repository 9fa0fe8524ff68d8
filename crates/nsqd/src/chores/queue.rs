//! A queue of background work with due times, served by a fixed number of threads.
//!
//! The work belongs to its owner, such as a topic: an [`Errand`] is made once and asked for as often as needed. It is
//! queued at most once, never runs on two threads at a time, and runs again when it was asked for while it ran.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fmt, io,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Condvar, Mutex, PoisonError, Weak},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::lock::lock;

/// Work that is done again and again.
pub(crate) struct Errand {
    turn: Mutex<Turn>,
    work: Box<dyn Fn() + Send + Sync>,
}

/// The state of an errand.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Turn {
    Idle,
    /// Entered in the queue; entries with another time are stale.
    Queued(Instant),
    /// Being done; asked for again since, or not.
    Running(Option<Instant>),
}

impl Errand {
    pub(crate) fn new(work: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { turn: Mutex::new(Turn::Idle), work: Box::new(work) })
    }

    /// An errand that does `work` with `owner` as long as there is one.
    pub(crate) fn of<T: Send + Sync + 'static>(owner: &Weak<T>, work: fn(&T)) -> Arc<Self> {
        let owner = Weak::clone(owner);
        Self::new(move || {
            if let Some(owner) = owner.upgrade() {
                work(&owner);
            }
        })
    }

    /// Notes that the errand is wanted by `due`; returns whether it has to be entered for that time.
    fn ask(&self, due: Instant) -> bool {
        let mut turn = lock(&self.turn);
        match &mut *turn {
            Turn::Queued(queued) if *queued <= due => false,
            Turn::Idle | Turn::Queued(_) => {
                *turn = Turn::Queued(due);
                true
            }
            Turn::Running(again) => {
                *again = Some(again.map_or(due, |again| again.min(due)));
                false
            }
        }
    }

    /// Begins the turn that was entered for `due`; false if that entry is stale.
    fn begin(&self, due: Instant) -> bool {
        let mut turn = lock(&self.turn);
        let current = *turn == Turn::Queued(due);
        if current {
            *turn = Turn::Running(None);
        }
        current
    }

    /// Ends the turn; returns when the next one is due if it was asked for meanwhile.
    fn end(&self) -> Option<Instant> {
        let mut turn = lock(&self.turn);
        let Turn::Running(again) = *turn else { return None };
        *turn = again.map_or(Turn::Idle, Turn::Queued);
        again
    }
}

impl fmt::Debug for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errand").field("turn", &self.turn).finish_non_exhaustive()
    }
}

/// Errands in the order of their due times.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    backlog: Mutex<Backlog>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Backlog {
    entries: BinaryHeap<Entry>,
    running: usize,
    stopping: bool,
}

#[derive(Debug)]
struct Entry {
    due: Reverse<Instant>,
    errand: Arc<Errand>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

impl Queue {
    /// Has `errand` run once `delay` has passed, or sooner if it was asked for sooner.
    pub(crate) fn ask(&self, errand: &Arc<Errand>, delay: Duration) {
        let due = now() + delay;
        if errand.ask(due) {
            self.enter(due, Arc::clone(errand));
        }
    }

    fn enter(&self, due: Instant, errand: Arc<Errand>) {
        let mut backlog = lock(&self.backlog);
        if backlog.stopping && due > now() {
            return;
        }
        let earliest = backlog.entries.peek().is_none_or(|first| due < first.due.0);
        backlog.entries.push(Entry { due: Reverse(due), errand });
        drop(backlog);
        if earliest {
            self.changed.notify_one();
        }
    }

    /// Starts `count` threads that serve the queue until it is stopped.
    ///
    /// # Errors
    /// When the operating system has no thread to give. Those that were started end with [`Queue::stop`].
    pub(crate) fn serve(
        self: &Arc<Self>,
        name: &str,
        count: usize,
    ) -> io::Result<Vec<JoinHandle<()>>> {
        let start = |_| {
            let queue = Arc::clone(self);
            thread::Builder::new().name(name.to_owned()).spawn(move || queue.run())
        };
        (0..count).map(start).collect()
    }

    /// Ends the threads once every queued errand has run, whatever its due time. Errands that are asked for with a
    /// delay from now on are not run.
    pub(crate) fn stop(&self) {
        lock(&self.backlog).stopping = true;
        self.changed.notify_all();
    }

    fn run(&self) {
        while let Some((due, errand)) = self.next() {
            if errand.begin(due) {
                // A panic was reported by the panic hook. It ends this run, not the thread that others need.
                let _ = panic::catch_unwind(AssertUnwindSafe(&errand.work));
                if let Some(again) = errand.end() {
                    self.enter(again, errand);
                }
            }
            self.finish_one();
        }
    }

    /// Waits for the next errand that is due; `None` when the queue is stopped and nothing is left.
    fn next(&self) -> Option<(Instant, Arc<Errand>)> {
        let mut backlog = lock(&self.backlog);
        loop {
            let wait = match backlog.entries.peek() {
                Some(_) if backlog.stopping => Duration::ZERO,
                Some(first) => first.due.0.saturating_duration_since(now()),
                // An errand that still runs may ask for others.
                None if backlog.stopping && backlog.running == 0 => return None,
                None => Duration::MAX,
            };
            if wait.is_zero() {
                let Entry { due, errand } = backlog.entries.pop()?;
                backlog.running += 1;
                if !backlog.entries.is_empty() {
                    // Another thread has to wait for the entry that is first now.
                    self.changed.notify_one();
                }
                return Some((due.0, errand));
            }
            let waited = self.changed.wait_timeout(backlog, wait.min(Duration::from_secs(3600)));
            backlog = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn finish_one(&self) {
        let mut backlog = lock(&self.backlog);
        backlog.running -= 1;
        if backlog.stopping && backlog.running == 0 {
            self.changed.notify_all();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "drives the threads that wait for due times")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LATER: Duration = Duration::from_secs(600);

    fn queue(threads: usize) -> (Arc<Queue>, Vec<JoinHandle<()>>) {
        let queue = Arc::new(Queue::default());
        let threads = queue.serve("test", threads).unwrap();
        (queue, threads)
    }

    fn join(queue: &Queue, threads: Vec<JoinHandle<()>>) {
        queue.stop();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    #[test]
    fn an_errand_asked_for_many_times_before_its_time_is_run_once() {
        let (queue, threads) = queue(2);
        let (runs, ran) = mpsc::channel();
        let errand = Errand::new(move || runs.send(()).unwrap());
        for _ in 0..10 {
            queue.ask(&errand, LATER);
        }
        queue.ask(&errand, Duration::ZERO);
        ran.recv().unwrap();
        join(&queue, threads);
        drop(errand);
        assert_eq!(ran.iter().count(), 0);
    }

    #[test]
    fn an_errand_asked_for_while_it_runs_is_run_again_and_never_twice_at_once() {
        let (queue, threads) = queue(4);
        let (started, starts) = mpsc::channel();
        let (go, gate) = mpsc::channel();
        let gate = Mutex::new(gate);
        let errand = Errand::new(move || {
            started.send(()).unwrap();
            let gate = gate.try_lock().expect("one run at a time");
            gate.recv().unwrap();
        });
        queue.ask(&errand, Duration::ZERO);
        starts.recv().unwrap();
        queue.ask(&errand, Duration::ZERO);
        queue.ask(&errand, LATER);
        go.send(()).unwrap();
        starts.recv().unwrap();
        go.send(()).unwrap();
        join(&queue, threads);
        drop(errand);
        assert_eq!(starts.iter().count(), 0);
    }

    #[test]
    fn errands_of_different_owners_run_at_the_same_time() {
        let (queue, threads) = queue(2);
        let barrier = Arc::new(std::sync::Barrier::new(3));
        let errand = || {
            let barrier = Arc::clone(&barrier);
            Errand::new(move || {
                barrier.wait();
            })
        };
        queue.ask(&errand(), Duration::ZERO);
        queue.ask(&errand(), Duration::ZERO);
        barrier.wait();
        join(&queue, threads);
    }

    #[test]
    fn stopping_runs_what_is_not_due_yet() {
        let (queue, threads) = queue(1);
        let (runs, ran) = mpsc::channel();
        queue.ask(&Errand::new(move || runs.send(()).unwrap()), LATER);
        join(&queue, threads);
        assert_eq!(ran.iter().count(), 1);
    }

    #[test]
    fn a_panic_ends_one_run_of_an_errand_and_nothing_else() {
        let (queue, threads) = queue(1);
        let (runs, ran) = mpsc::channel();
        let errand = Errand::new(move || {
            runs.send(()).unwrap();
            panic!("on purpose");
        });
        for _ in 0..3 {
            queue.ask(&errand, Duration::ZERO);
            ran.recv().unwrap();
        }
        join(&queue, threads);
    }
}
