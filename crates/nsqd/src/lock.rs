//! Locking without poison.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`, whether or not another holder panicked.
///
/// The data behind the mutexes of nsqd is changed only after everything that can fail, so a panic leaves it whole; a
/// daemon that refused to serve a topic ever after would lose more than it protects.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
