//! Work for HTTP clients that is bounded in number, and shared by those who ask for the same.

use std::{
    collections::HashMap,
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex},
};

use foldhash::fast::RandomState;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use crate::lock::lock;

/// The results that are made at a time, and the requests that wait for one.
///
/// A request never gets a result that was begun before the request arrived, so clients see their own earlier changes.
pub(super) struct Gate<K, V> {
    slots: Arc<Semaphore>,
    /// The results that have not been begun.
    waiting: Mutex<HashMap<K, Arc<OnceCell<V>>, RandomState>>,
}

/// A slot that is taken until it is dropped.
pub(super) struct Slot {
    /// Always `Some`: the semaphore is never closed.
    _permit: Option<OwnedSemaphorePermit>,
}

impl<K: Eq + Hash + Clone, V: Clone> Gate<K, V> {
    /// A gate that lets `at_once` results be made at a time.
    pub(super) fn new(at_once: usize) -> Self {
        Self { slots: Arc::new(Semaphore::new(at_once)), waiting: Mutex::default() }
    }

    /// Returns whether a new request would have to wait.
    pub(super) fn is_full(&self) -> bool {
        self.slots.available_permits() == 0
    }

    /// Returns the result for `key`: the one that others wait for already, or the one of `make`, which keeps its slot for
    /// as long as it works.
    ///
    /// # Errors
    /// Those of `make`. Others who wait try for themselves.
    pub(super) async fn get<E, F>(&self, key: K, make: impl FnOnce(Slot) -> F) -> Result<V, E>
    where
        F: Future<Output = Result<V, E>>,
    {
        let result = lock(&self.waiting).entry(key.clone()).or_default().clone();
        let request = Request { gate: self, key, result };
        let begin = async {
            let permit = self.slots.clone().acquire_owned().await.ok();
            request.begin();
            make(Slot { _permit: permit }).await
        };
        request.result.get_or_try_init(|| begin).await.cloned()
    }
}

/// A request for a result. The last one that goes away while the result has not been begun leaves nothing behind.
struct Request<'a, K: Eq + Hash, V> {
    gate: &'a Gate<K, V>,
    key: K,
    result: Arc<OnceCell<V>>,
}

impl<K: Eq + Hash, V> Request<'_, K, V> {
    /// Removes the result from the waiting ones, so that later requests do not join it.
    fn begin(&self) {
        self.remove_if(|_| true);
    }

    fn remove_if(&self, condition: impl FnOnce(&Arc<OnceCell<V>>) -> bool) {
        let mut waiting = lock(&self.gate.waiting);
        let current = waiting.get(&self.key).filter(|it| Arc::ptr_eq(it, &self.result));
        if current.is_some_and(condition) {
            waiting.remove(&self.key);
        }
    }
}

impl<K: Eq + Hash, V> Drop for Request<'_, K, V> {
    fn drop(&mut self) {
        // One is here, one in the map; requests join under its lock.
        self.remove_if(|result| Arc::strong_count(result) == 2);
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, convert::Infallible, pin::pin};

    use tokio::{join, select, sync::oneshot, task::yield_now};

    use super::*;

    /// Results by number, each of which takes until it is let go.
    struct Maker {
        gate: Gate<&'static str, u32>,
        begun: Cell<u32>,
    }

    impl Maker {
        fn new() -> Self {
            Self { gate: Gate::new(2), begun: Cell::new(0) }
        }

        async fn get(&self, key: &'static str, done: oneshot::Receiver<()>) -> u32 {
            let make = async |slot| {
                let number = self.begun.replace(self.begun.get() + 1);
                done.await.unwrap();
                drop(slot);
                Ok::<_, Infallible>(number)
            };
            self.gate.get(key, make).await.unwrap_or_else(|never| match never {})
        }
    }

    fn held() -> (oneshot::Sender<()>, oneshot::Receiver<()>) {
        oneshot::channel()
    }

    fn free() -> oneshot::Receiver<()> {
        let (done, free) = held();
        done.send(()).unwrap();
        free
    }

    #[tokio::test]
    async fn two_results_are_made_at_a_time_and_those_who_wait_for_the_same_share_it() {
        let maker = Maker::new();
        let ((first_done, first), (second_done, second)) = (held(), held());
        let steps = async {
            yield_now().await;
            assert_eq!((maker.begun.get(), maker.gate.is_full()), (2, true));
            first_done.send(()).unwrap();
        };
        let results = join!(
            maker.get("a", first),
            maker.get("b", second),
            maker.get("a", free()),
            maker.get("a", free()),
            async {
                steps.await;
                // Those who wait go on once a slot is free.
                while maker.begun.get() < 3 {
                    yield_now().await;
                }
                second_done.send(()).unwrap();
            },
        );
        assert_eq!(results, (0, 1, 2, 2, ()));
        assert!(!maker.gate.is_full() && lock(&maker.gate.waiting).is_empty());
    }

    #[tokio::test]
    async fn no_request_gets_a_result_that_was_begun_before_it_came() {
        let maker = Maker::new();
        let (done, first) = held();
        let mut first = pin!(maker.get("a", first));
        select! {
            biased;
            _ = &mut first => panic!("it is held"),
            () = yield_now() => {}
        }
        assert_eq!(maker.get("a", free()).await, 1);
        done.send(()).unwrap();
        assert_eq!(first.await, 0);
    }

    #[tokio::test]
    async fn those_who_wait_go_on_when_the_one_that_asked_first_goes_away() {
        let maker = Maker::new();
        let (_done, first) = held();
        let mut first = Box::pin(maker.get("a", first));
        select! {
            biased;
            _ = &mut first => panic!("it is held"),
            () = yield_now() => {}
        }
        drop(first);
        assert_eq!(maker.get("a", free()).await, 1);
        assert!(!maker.gate.is_full());
    }

    #[tokio::test]
    async fn requests_that_go_away_while_they_wait_leave_nothing_behind() {
        let maker = Maker::new();
        let (_done_a, a) = held();
        let (_done_b, b) = held();
        let mut at_work = (Box::pin(maker.get("a", a)), Box::pin(maker.get("b", b)));
        select! {
            biased;
            _ = &mut at_work.0 => panic!("it is held"),
            _ = &mut at_work.1 => panic!("it is held"),
            () = yield_now() => {}
        }
        let mut waiting = [pin_first(&maker), pin_first(&maker)].map(Some);
        for request in waiting.iter_mut().flatten() {
            select! {
                biased;
                _ = request => panic!("both slots are taken"),
                () = yield_now() => {}
            }
        }
        for left in [1, 0] {
            waiting[left] = None;
            assert_eq!(lock(&maker.gate.waiting).len(), left, "the other one still waits");
        }
    }

    fn pin_first(maker: &Maker) -> std::pin::Pin<Box<impl Future<Output = u32>>> {
        Box::pin(maker.get("c", free()))
    }
}
