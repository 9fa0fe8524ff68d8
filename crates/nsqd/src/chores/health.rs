//! Whether the disk takes what nsqd writes.

use std::{
    fmt::Display,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::lock::lock;

/// The health of a node's disk, which all topics share, as in NSQ.
#[derive(Debug, Default)]
pub(crate) struct Health {
    failing: AtomicBool,
    error: Mutex<String>,
}

impl Health {
    /// A write failed. The mender tries it again.
    pub(crate) fn failed(&self, error: &dyn Display) {
        *lock(&self.error) = error.to_string();
        self.failing.store(true, Ordering::Release);
    }

    /// Everything that had failed has worked since.
    pub(crate) fn recovered(&self) {
        self.failing.store(false, Ordering::Release);
    }

    /// `OK`, or `NOK - ` and why.
    pub(crate) fn status(&self) -> String {
        if self.failing.load(Ordering::Acquire) {
            format!("NOK - {}", lock(&self.error))
        } else {
            "OK".to_owned()
        }
    }
}
