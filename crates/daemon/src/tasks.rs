//! The tasks of a daemon: every one is counted, so that a stop can wait for all of them.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::task::AbortHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::panics::CatchPanic;

/// The tasks of one daemon and the token that asks them to end. Clones share both.
///
/// # Invariants
/// 1. A task spawned here is known by name until its future has been dropped.
/// 2. After [`drain`](Tasks::drain) has returned no task of this set makes progress any more: it has ended, or
///    it was told to abort.
/// 3. A panic never goes unseen: it is in the outcome of `drain`.
#[derive(Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    shutdown: CancellationToken,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    next: u64,
    running: HashMap<u64, Running>,
    panics: Vec<Panic>,
}

struct Running {
    name: &'static str,
    abort: Option<AbortHandle>,
}

/// A task that panicked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panic {
    /// The name it was spawned with.
    pub task: &'static str,
    /// The text of the panic.
    pub message: String,
}

/// The reason why a [`Tasks::drain`] was not clean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unclean {
    /// The names of the tasks that were still running at the deadline and were aborted, sorted.
    pub aborted: Vec<&'static str>,
    /// The tasks that had panicked, first panic first.
    pub panics: Vec<Panic>,
}

impl Tasks {
    /// A set without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// The token that is cancelled when the daemon is asked to stop. Every task watches it.
    pub fn shutdown_token(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Asks all tasks to end, without waiting.
    pub fn shutdown(&self) {
        self.shutdown.cancel();
    }

    /// Returns whether the tasks were asked to end.
    pub fn is_shutting_down(&self) -> bool {
        self.shutdown.is_cancelled()
    }

    /// The number of tasks that have not ended.
    pub fn count(&self) -> usize {
        self.tracker.len()
    }

    /// The names of the tasks that have not ended, with the number of each.
    pub fn names(&self) -> BTreeMap<&'static str, usize> {
        let mut names = BTreeMap::new();
        for running in lock(&self.state).running.values() {
            *names.entry(running.name).or_default() += 1;
        }
        names
    }

    /// Starts a task whose panic ends only itself, such as one connection.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        self.start(name, future, None);
    }

    /// Starts a task that the daemon cannot do without: when it panics, all tasks are asked to end.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn_vital(
        &self,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        self.start(name, future, Some(self.shutdown.clone()));
    }

    fn start(
        &self,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
        on_panic: Option<CancellationToken>,
    ) {
        // Known before it runs: the task may end before `spawn` returns.
        let entry = Entry::new(Arc::clone(&self.state), name);
        let id = entry.id;
        let task = self.tracker.spawn(async move {
            let entry = entry;
            if let Err(message) = CatchPanic::new(future).await {
                lock(&entry.state).panics.push(Panic { task: name, message });
                if let Some(token) = on_panic {
                    token.cancel();
                }
            }
        });
        if let Some(running) = lock(&self.state).running.get_mut(&id) {
            running.abort = Some(task.abort_handle());
        }
    }

    /// Asks all tasks to end and waits for them until `deadline` has passed; tasks that still run then are aborted.
    ///
    /// Tasks may be spawned while this waits; they are waited for too.
    ///
    /// # Errors
    /// When a task had to be aborted or has panicked since the set was made.
    pub async fn drain(&self, deadline: Duration) -> Result<(), Unclean> {
        self.shutdown.cancel();
        self.tracker.close();
        let mut aborted = Vec::new();
        if tokio::time::timeout(deadline, self.tracker.wait()).await.is_err() {
            for running in lock(&self.state).running.values() {
                aborted.push(running.name);
                if let Some(abort) = &running.abort {
                    abort.abort();
                }
            }
            aborted.sort_unstable();
        }
        let panics = lock(&self.state).panics.clone();
        if aborted.is_empty() && panics.is_empty() {
            Ok(())
        } else {
            Err(Unclean { aborted, panics })
        }
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks")
            .field("count", &self.count())
            .field("shutting_down", &self.is_shutting_down())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Unclean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for Panic { task, message } in &self.panics {
            write!(f, "{separator}task {task} panicked: {message}")?;
            separator = "; ";
        }
        if !self.aborted.is_empty() {
            write!(f, "{separator}tasks did not end in time: {}", self.aborted.join(", "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Unclean {}

/// The presence of a task in the table, from before it starts until its future is dropped.
struct Entry {
    state: Arc<Mutex<State>>,
    id: u64,
}

impl Entry {
    fn new(state: Arc<Mutex<State>>, name: &'static str) -> Self {
        let id = {
            let mut state = lock(&state);
            let id = state.next;
            state.next += 1;
            state.running.insert(id, Running { name, abort: None });
            id
        };
        Self { state, id }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.state).running.remove(&self.id);
    }
}

/// The table is changed by single inserts and removals, so a panic elsewhere cannot leave it half changed.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn drain_waits_for_tasks_that_end_on_the_token() {
        let tasks = Tasks::new();
        let (done, finished) = tokio::sync::oneshot::channel();
        let token = tasks.shutdown_token();
        tasks.spawn("worker", async move {
            token.cancelled().await;
            let _ = done.send(());
        });
        assert_eq!(tasks.count(), 1);
        tasks.drain(Duration::from_secs(30)).await.unwrap();
        finished.await.unwrap();
        assert_eq!(tasks.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_named_and_aborted() {
        let tasks = Tasks::new();
        let (held, gone) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn("stuck", async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        let unclean = tasks.drain(Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(unclean.aborted, ["stuck"]);
        assert_eq!(unclean.to_string(), "tasks did not end in time: stuck");
        assert!(gone.await.is_err());
    }

    #[tokio::test]
    async fn a_panic_is_reported_and_ends_only_its_task() {
        let tasks = Tasks::new();
        tasks.spawn("bad", async { panic!("no {}", 1) });
        let token = tasks.shutdown_token();
        tasks.spawn("good", async move { token.cancelled().await });
        while tasks.count() > 1 {
            tokio::task::yield_now().await;
        }
        assert!(!tasks.is_shutting_down());
        let unclean = tasks.drain(Duration::from_secs(30)).await.unwrap_err();
        assert_eq!(unclean.panics, [Panic { task: "bad", message: "no 1".to_owned() }]);
    }

    #[tokio::test]
    async fn the_panic_of_a_vital_task_stops_the_others() {
        let tasks = Tasks::new();
        tasks.spawn_vital("vital", async { panic!("lost") });
        tasks.shutdown_token().cancelled().await;
        assert!(tasks.drain(Duration::from_secs(30)).await.is_err());
    }
}
