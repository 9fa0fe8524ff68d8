//! Closing a store: only topics that changed are flushed, several at a time.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use super::{Store, topics::Topic};
use crate::{error::Error, lock, topic_log::TopicLog};

/// Topics are flushed by at most this many threads.
const CLOSE_THREADS: usize = 16;

impl Store {
    /// Writes and flushes everything and records a clean stop. Logs take no appends afterwards.
    ///
    /// # Errors
    /// The first failure; every topic is closed all the same. The next start treats the stop as a crash then, and also
    /// when a topic has failed to open.
    pub fn close(&self) -> Result<(), Error> {
        let Some(topics) = self.topics.close() else { return Ok(()) };
        let logs: Vec<_> = topics.iter().filter_map(Topic::log).collect();
        self.shared.space.drop_ballast();
        let next = AtomicUsize::new(0);
        let failed = Mutex::new(None);
        let work = || {
            while let Some(log) = logs.get(next.fetch_add(1, Relaxed)) {
                if let Err(error) = log.close() {
                    lock(&failed).get_or_insert(error);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..CLOSE_THREADS.min(logs.len()) {
                scope.spawn(work);
            }
            work();
        });
        let failed = lock(&failed).take();
        match failed {
            Some(error) => Err(error),
            None if logs.len() == topics.len() => Ok(self.shared.node.stop()?),
            None => Ok(()),
        }
    }
}

impl TopicLog {
    /// Returns true if everything is written and flushed, and the next start has nothing to walk.
    fn is_settled(&self) -> Result<bool, Error> {
        if self.memory_only {
            return Ok(true);
        }
        let position = self.appender.position(&self.site())?;
        Ok(self.appender.is_flushed(&self.site()) && self.journal.is_settled(position))
    }

    /// Writes and flushes everything, and refuses appends from now on.
    fn close(&self) -> Result<(), Error> {
        let written = self.write_all();
        // Also after a failure: recovery checks the files.
        let closed = self.appender.close(&self.site());
        written.and(closed)
    }

    /// Writes and flushes everything, with a waypoint that spares the next start a walk.
    fn write_all(&self) -> Result<(), Error> {
        if self.is_settled()? {
            return Ok(());
        }
        self.flush()?;
        self.retry_journal()?;
        self.sync()?;
        if let Some(position) = self.appender.position(&self.site())? {
            self.journal.waypoint(self.waypoint_at(position, true), u64::MAX)?;
        }
        Ok(self.journal.sync()?)
    }
}
