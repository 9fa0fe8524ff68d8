//! A sink for tests.

use std::sync::{Arc, Mutex, PoisonError};

use super::Sink;

/// A sink that keeps the lines in memory, for tests. Clones share the lines.
#[derive(Debug, Clone, Default)]
pub struct Capture {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Capture {
    /// A sink without lines.
    pub fn new() -> Self {
        Self::default()
    }

    /// The whole lines so far, without their newlines.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lines so far from the level on, such as `INFO: TCP: listening on 127.0.0.1:4150`.
    pub fn texts(&self) -> Vec<String> {
        self.lines().iter().map(|line| from_level(line).to_owned()).collect()
    }
}

fn from_level(line: &str) -> &str {
    const LEVELS: [&str; 5] = ["DEBUG: ", "INFO: ", "WARNING: ", "ERROR: ", "FATAL: "];
    let start = LEVELS.iter().filter_map(|level| line.find(level)).min();
    start.map_or(line, |start| &line[start..])
}

impl Sink for Capture {
    fn write_line(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line).trim_end_matches('\n').to_owned();
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}
