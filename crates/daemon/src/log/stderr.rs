//! Stderr as the destination of all loggers of the process.

use std::{
    io::{self, Write as _},
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::{Sink, level::Level, line::Lines, now, queue::Queue};

/// How long [`flush`] waits for a reader that is stuck.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// The queue of the process; `None` inside if its thread could not be started.
static QUEUE: OnceLock<Option<Arc<Queue>>> = OnceLock::new();

/// Writes to stderr, which nothing but a thread of its own waits for.
pub(super) struct Stderr {
    queue: Option<Arc<Queue>>,
}

impl Stderr {
    /// Starts the thread if there is none. Reports of dropped lines look as the lines of the first logger.
    pub(super) fn new(lines: &Arc<Lines>) -> Self {
        let start = || {
            let lines = Arc::clone(lines);
            let report = move |count: u64| {
                let text =
                    format_args!("{count} lines of the log dropped: they were not read in time");
                lines.line(now(), Level::Warn, text)
            };
            Queue::start(io::stderr(), Box::new(report)).ok()
        };
        Self { queue: QUEUE.get_or_init(start).clone() }
    }
}

impl Sink for Stderr {
    fn write_line(&self, line: &[u8]) {
        match &self.queue {
            Some(queue) => queue.push(line),
            // There is no other place to report its failure.
            None => drop(io::stderr().lock().write_all(line)),
        }
    }

    fn dropped(&self) -> u64 {
        self.queue.as_ref().map_or(0, |queue| queue.dropped())
    }
}

/// Waits until the lines written so far have reached stderr, for a second at most. A program calls this before it ends.
pub fn flush() {
    flush_within(FLUSH_MAX);
}

/// As [`flush`], for so long at most.
pub(crate) fn flush_within(time: Duration) {
    if let Some(Some(queue)) = QUEUE.get() {
        queue.flush(time);
    }
}

/// Calls [`flush`] when it goes out of scope, also by a panic.
#[derive(Debug, Default)]
pub struct FlushGuard(());

impl Drop for FlushGuard {
    fn drop(&mut self) {
        flush();
    }
}
