//! The health of a node's disk, which all topics share, as in NSQ.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::lock::lock;

/// The writes that fail at the moment, and the messages that cannot be read back.
///
/// Both are kept by owner: a topic, or a file of the node.
#[derive(Debug, Default)]
pub(crate) struct Health {
    failing: AtomicBool,
    failures: Mutex<BTreeMap<String, String>>,
    losses: Mutex<BTreeMap<String, String>>,
}

impl Health {
    /// Notes that a write of `owner` failed; its owner retries it.
    pub(crate) fn failed(&self, owner: &str, error: &dyn Display) {
        let mut failures = lock(&self.failures);
        failures.insert(owner.to_owned(), error.to_string());
        self.failing.store(true, Ordering::Release);
    }

    /// Notes that everything of `owner` is written, or that it is gone.
    pub(crate) fn recovered(&self, owner: &str) {
        let mut failures = lock(&self.failures);
        failures.remove(owner);
        self.failing.store(!failures.is_empty(), Ordering::Release);
    }

    /// Notes that stored messages of `owner` cannot be read back.
    pub(crate) fn lost(&self, owner: &str, what: &dyn Display) {
        lock(&self.losses).insert(owner.to_owned(), what.to_string());
    }

    /// Forgets everything about `owner`, which is gone or whole again.
    pub(crate) fn forget(&self, owner: &str) {
        self.recovered(owner);
        lock(&self.losses).remove(owner);
    }

    /// The number of owners with writes that fail, and of those with messages that cannot be read back.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let failing = lock(&self.failures).len();
        (failing, lock(&self.losses).len())
    }

    /// `OK`, or `NOK - ` and an error, for `/ping`. Losses do not count: probes restart nsqd, and that would
    /// bring nothing back.
    pub(crate) fn status(&self) -> String {
        if self.failing.load(Ordering::Acquire) {
            summary(&lock(&self.failures)).unwrap_or_else(|| "OK".to_owned())
        } else {
            "OK".to_owned()
        }
    }

    /// As [`Health::status`], with losses, for `/stats`.
    pub(crate) fn report(&self) -> String {
        let status = self.status();
        if status != "OK" {
            return status;
        }
        summary(&lock(&self.losses)).unwrap_or(status)
    }
}

fn summary(troubles: &BTreeMap<String, String>) -> Option<String> {
    let (owner, what) = troubles.first_key_value()?;
    let more = match troubles.len() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    Some(format!("NOK - {owner}: {what}{more}"))
}
