//! The daemon's log: lines `<prefix>2026/11/22 16:17:21.079313 INFO: text` on stderr, in local time, or JSON objects
//! `{"time":"2026-11-22T16:17:21.079313Z","level":"info","program":"nsqd","msg":"text"}`, in UTC.
//!
//! ```
//! use nsq_daemon::log::{Capture, Level, Logger};
//!
//! let capture = Capture::new();
//! let log = Logger::with_sink("[nsqd] ", Level::Info, capture.clone());
//! log.info(format_args!("TOPIC({}): created", "orders"));
//! log.debug(format_args!("not at this level"));
//! assert_eq!(capture.texts(), ["INFO: TOPIC(orders): created"]);
//! ```
//!
//! Logging never waits: a thread of its own writes to stderr. A program calls [`flush`] before it ends.

mod capture;
mod format;
mod level;
mod limited;
mod line;
mod queue;
mod stderr;
mod throttle;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
};

use jiff::Timestamp;

pub(crate) use self::stderr::flush_within;
pub use self::{
    capture::Capture,
    format::{Format, InvalidFormat},
    level::{InvalidLevel, Level},
    limited::Limited,
    stderr::{FlushGuard, flush},
};
use self::{line::Lines, stderr::Stderr};

/// The lines a second about one peer and of one kind, unless told otherwise.
pub const DEFAULT_RATE: u32 = 10;

/// The destination of log lines.
pub trait Sink: Send + Sync + 'static {
    /// Takes one whole line, its newline included.
    fn write_line(&self, line: &[u8]);

    /// The number of lines that were dropped, because they could not be written in time.
    fn dropped(&self) -> u64 {
        0
    }
}

/// Writes log lines. Clones share the level and the sink.
#[derive(Clone)]
pub struct Logger {
    shared: Arc<Shared>,
}

struct Shared {
    lines: Arc<Lines>,
    level: AtomicU8,
    rate: AtomicU32,
    suppressed: AtomicU64,
    rate_reached: AtomicU64,
    sink: Box<dyn Sink>,
}

impl Logger {
    /// A logger to stderr whose lines start with `prefix`.
    ///
    /// Local time follows the environment variable `TZ` or `/etc/localtime`, read once; without both it is UTC.
    pub fn new(prefix: impl Into<String>, level: Level) -> Self {
        Self::in_format(Format::Text, prefix, level)
    }

    /// A logger to stderr in any format. In JSON, the prefix without its brackets is the program.
    pub fn in_format(format: Format, prefix: impl Into<String>, level: Level) -> Self {
        let lines = Arc::new(Lines::new(format, prefix.into()));
        let sink = Stderr::new(&lines);
        Self::build(lines, level, sink)
    }

    /// A logger to any sink.
    pub fn with_sink(prefix: impl Into<String>, level: Level, sink: impl Sink) -> Self {
        Self::build(Arc::new(Lines::new(Format::Text, prefix.into())), level, sink)
    }

    fn build(lines: Arc<Lines>, level: Level, sink: impl Sink) -> Self {
        let shared = Shared {
            lines,
            level: AtomicU8::new(level.number()),
            rate: AtomicU32::new(DEFAULT_RATE),
            suppressed: AtomicU64::new(0),
            rate_reached: AtomicU64::new(0),
            sink: Box::new(sink),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A logger that writes nothing.
    pub fn discard() -> Self {
        Self::with_sink("", Level::Fatal, Nowhere)
    }

    /// The beginning of every line.
    pub fn prefix(&self) -> &str {
        &self.shared.lines.prefix
    }

    /// The format of the lines.
    pub fn format(&self) -> Format {
        self.shared.lines.format()
    }

    /// The level from which on lines are written.
    pub fn level(&self) -> Level {
        Level::from_number(self.shared.level.load(Ordering::Relaxed))
    }

    /// The number of lines that were dropped, because they could not be written in time.
    pub fn dropped(&self) -> u64 {
        self.shared.sink.dropped()
    }

    /// Changes the level, for all clones at once.
    pub fn change_level(&self, level: Level) {
        self.shared.level.store(level.number(), Ordering::Relaxed);
    }

    /// The lines a second that a [`Limited`] log writes about one peer and of one kind; 0 for no bound.
    pub fn rate(&self) -> u32 {
        self.shared.rate.load(Ordering::Relaxed)
    }

    /// Changes the rate of [`Limited`] logs, for those that are made from now on by any clone.
    pub fn change_rate(&self, lines_per_second: u32) {
        self.shared.rate.store(lines_per_second, Ordering::Relaxed);
    }

    /// The number of lines that [`Limited`] logs have suppressed.
    pub fn suppressed(&self) -> u64 {
        self.shared.suppressed.load(Ordering::Relaxed)
    }

    /// How often a second had more lines about one peer and of one kind than its share.
    pub fn rate_reached(&self) -> u64 {
        self.shared.rate_reached.load(Ordering::Relaxed)
    }

    fn count_suppressed(&self, is_first: bool) {
        self.shared.suppressed.fetch_add(1, Ordering::Relaxed);
        if is_first {
            self.shared.rate_reached.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns whether lines of this level are written; for skipping work that only a log line needs.
    #[inline]
    pub fn is_enabled(&self, level: Level) -> bool {
        level.number() >= self.shared.level.load(Ordering::Relaxed)
    }

    /// Writes a line at level debug.
    #[inline]
    pub fn debug(&self, text: fmt::Arguments<'_>) {
        self.log(Level::Debug, text);
    }

    /// Writes a line at level info.
    #[inline]
    pub fn info(&self, text: fmt::Arguments<'_>) {
        self.log(Level::Info, text);
    }

    /// Writes a line at level warning.
    #[inline]
    pub fn warn(&self, text: fmt::Arguments<'_>) {
        self.log(Level::Warn, text);
    }

    /// Writes a line at level error.
    #[inline]
    pub fn error(&self, text: fmt::Arguments<'_>) {
        self.log(Level::Error, text);
    }

    /// Writes a line at level fatal. Ending the program is left to the caller.
    #[inline]
    pub fn fatal(&self, text: fmt::Arguments<'_>) {
        self.log(Level::Fatal, text);
    }

    /// Writes a line, if the level is enabled. Nothing is formatted otherwise.
    #[inline]
    pub fn log(&self, level: Level, text: fmt::Arguments<'_>) {
        if self.is_enabled(level) {
            let line = self.shared.lines.line(now(), level, text);
            self.shared.sink.write_line(line.as_bytes());
        }
    }
}

impl fmt::Debug for Logger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logger").field("level", &self.level()).finish_non_exhaustive()
    }
}

#[expect(clippy::disallowed_methods, reason = "a log line carries the time it was written at")]
fn now() -> Timestamp {
    Timestamp::try_from(std::time::SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH)
}

struct Nowhere;

impl Sink for Nowhere {
    fn write_line(&self, _line: &[u8]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_can_be_changed_for_all_clones() {
        let capture = Capture::new();
        let log = Logger::with_sink("", Level::Info, capture.clone());
        let clone = log.clone();
        clone.debug(format_args!("1"));
        log.change_level(Level::Debug);
        clone.debug(format_args!("2"));
        clone.change_level(Level::Fatal);
        log.error(format_args!("3"));
        log.fatal(format_args!("4"));
        assert_eq!(capture.texts(), ["DEBUG: 2", "FATAL: 4"]);
        assert_eq!(log.level(), Level::Fatal);
    }

    #[test]
    fn nothing_is_formatted_for_a_disabled_level() {
        struct Loud;
        impl fmt::Display for Loud {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                panic!("formatted")
            }
        }
        Logger::with_sink("", Level::Info, Capture::new()).debug(format_args!("{Loud}"));
    }

    #[test]
    fn a_text_with_line_breaks_stays_one_line() {
        let capture = Capture::new();
        let log = Logger::with_sink("", Level::Info, capture.clone());
        log.info(format_args!("a\nb\r\u{1b}[31m\té"));
        assert_eq!(capture.texts(), ["INFO: a\\nb\\r\\u{1b}[31m\\té"]);
    }

    #[test]
    fn formats_are_read_in_any_case_and_nothing_else() {
        assert_eq!(("JSON".parse(), "text".parse()), (Ok(Format::Json), Ok(Format::Text)));
        let error = "xml".parse::<Format>().unwrap_err().to_string();
        assert_eq!(error, "invalid log format 'xml' (text, json)");
    }

    #[test]
    fn levels_are_read_in_any_case_and_nothing_else() {
        assert_eq!("WARN".parse(), Ok(Level::Warn));
        assert_eq!("Debug".parse(), Ok(Level::Debug));
        for text in ["warning", "", " info", "2"] {
            let error = text.parse::<Level>().unwrap_err().to_string();
            assert_eq!(
                error,
                format!("invalid log level '{text}' (debug, info, warn, error, fatal)")
            );
        }
    }
}
