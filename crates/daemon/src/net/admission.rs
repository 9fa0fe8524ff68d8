//! Admission of connections, so that they leave descriptors to everything else that needs some.
//!
//! The connections of a process share its slots. Each kind of connection has a limit of its own, and is guaranteed some
//! slots that no other kind takes.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The slots for the connections of a process. Clones share them.
#[derive(Clone, Debug)]
pub struct Slots(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    count: usize,
    kinds: Mutex<Vec<Kind>>,
}

/// A kind of connection.
#[derive(Debug)]
struct Kind {
    open: usize,
    guaranteed: usize,
}

/// The admission of one kind of connection. Clones share its limit.
#[derive(Clone)]
pub struct Admission {
    slots: Slots,
    kind: usize,
    max: usize,
    on_refusal: Arc<dyn Fn(Full) + Send + Sync>,
}

/// A slot. It is free again when this is dropped, so it has to be kept as long as the connection.
#[derive(Debug)]
pub struct Permit {
    slots: Slots,
    kind: usize,
}

/// Why a connection is refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// All connections of its kind are open.
    #[error("the limit of {max} connections is reached")]
    Kind {
        /// The number of them.
        max: usize,
    },
    /// No slot is left, or only slots that other kinds are guaranteed.
    #[error("the limit on open files leaves no more connections")]
    Process,
}

impl Slots {
    /// A number of slots.
    pub fn new(count: usize) -> Self {
        Self(Arc::new(Pool { count, kinds: Mutex::default() }))
    }

    /// Admits another kind of connection, up to `max` at a time. The other kinds leave it `guaranteed` slots.
    pub fn admission(&self, max: usize, guaranteed: usize) -> Admission {
        let mut kinds = self.kinds();
        kinds.push(Kind { open: 0, guaranteed: guaranteed.min(max) });
        Admission { slots: self.clone(), kind: kinds.len() - 1, max, on_refusal: Arc::new(|_| ()) }
    }

    /// Changes are single additions, so a panic elsewhere leaves nothing half done.
    fn kinds(&self) -> MutexGuard<'_, Vec<Kind>> {
        self.0.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission {
    /// Admits everything.
    pub fn unlimited() -> Self {
        Slots::new(usize::MAX).admission(usize::MAX, 0)
    }

    /// Calls `count` for every connection that is refused, in place of what was called before.
    #[must_use]
    pub fn on_refusal(self, count: impl Fn(Full) + Send + Sync + 'static) -> Self {
        Self { on_refusal: Arc::new(count), ..self }
    }

    /// Takes a slot for a connection.
    ///
    /// # Errors
    /// When there is none for it.
    pub fn admit(&self) -> Result<Permit, Full> {
        let taken = self.take();
        if let Err(full) = taken {
            (self.on_refusal)(full);
        }
        taken.map(|()| Permit { slots: self.slots.clone(), kind: self.kind })
    }

    fn take(&self) -> Result<(), Full> {
        let mut kinds = self.slots.kinds();
        if kinds[self.kind].open >= self.max {
            return Err(Full::Kind { max: self.max });
        }
        let kept_for_others = |(number, kind): (usize, &Kind)| match number == self.kind {
            true => kind.open,
            false => kind.open.max(kind.guaranteed),
        };
        let taken: usize = kinds.iter().enumerate().map(kept_for_others).sum();
        if taken >= self.slots.0.count {
            return Err(Full::Process);
        }
        kinds[self.kind].open += 1;
        Ok(())
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("kind", &self.kind)
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.slots.kinds()[self.kind].open -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    /// Takes slots until there are no more.
    fn take_all(admission: &Admission) -> (Vec<Permit>, Full) {
        let mut permits = Vec::new();
        loop {
            match admission.admit() {
                Ok(permit) => permits.push(permit),
                Err(full) => return (permits, full),
            }
        }
    }

    #[test]
    fn a_kind_has_its_own_limit_and_a_dropped_permit_frees_a_slot() {
        let admission = Slots::new(10).admission(2, 0);
        let (mut permits, full) = take_all(&admission);
        assert_eq!((permits.len(), full), (2, Full::Kind { max: 2 }));
        permits.pop();
        assert_eq!(take_all(&admission).0.len(), 1);
    }

    #[test]
    fn no_kind_takes_what_another_is_guaranteed_in_any_order() {
        let slots = Slots::new(10);
        let (tcp, http) = (slots.admission(usize::MAX, 4), slots.admission(usize::MAX, 2));
        let (of_http, full) = take_all(&http);
        assert_eq!((of_http.len(), full), (6, Full::Process));
        let (of_tcp, full) = take_all(&tcp);
        assert_eq!((of_tcp.len(), full), (4, Full::Process));
        drop(of_http);
        let (more_of_tcp, _) = take_all(&tcp);
        assert_eq!(of_tcp.len() + more_of_tcp.len(), 8);
        assert_eq!(take_all(&http).0.len(), 2);
    }

    #[test]
    fn a_guarantee_is_not_more_than_the_limit() {
        let slots = Slots::new(10);
        let (tcp, http) = (slots.admission(usize::MAX, 0), slots.admission(1, 5));
        assert_eq!(take_all(&tcp).0.len(), 9);
        assert_eq!(take_all(&http).0.len(), 1);
    }

    #[test]
    fn refusals_are_counted_by_their_reason() {
        let refused = Arc::new(AtomicUsize::new(0));
        let counted = refused.clone();
        let count = move |full| {
            assert_eq!(full, Full::Process);
            counted.fetch_add(1, Relaxed);
        };
        let admission = Slots::new(1).admission(2, 0).on_refusal(count);
        let _permit = admission.admit().unwrap();
        assert!(admission.admit().is_err() && admission.admit().is_err());
        assert_eq!(refused.load(Relaxed), 2);
    }
}
