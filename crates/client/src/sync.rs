//! Locking.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`. What is guarded here is changed in single steps, so that a panic elsewhere leaves it whole and
/// poison says nothing.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
