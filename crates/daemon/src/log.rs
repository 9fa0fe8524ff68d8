//! The daemon's log: lines `<prefix>2026/11/22 16:17:21.079313 INFO: text` on stderr, in local time.
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

mod level;

use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use jiff::{Timestamp, tz::TimeZone};

pub use self::level::{InvalidLevel, Level};

/// The destination of log lines.
pub trait Sink: Send + Sync + 'static {
    /// Takes one whole line, its newline included.
    fn write_line(&self, line: &[u8]);
}

/// Writes log lines. Clones share the level and the sink.
#[derive(Clone)]
pub struct Logger {
    shared: Arc<Shared>,
}

struct Shared {
    prefix: String,
    level: AtomicU8,
    zone: TimeZone,
    sink: Box<dyn Sink>,
}

impl Logger {
    /// A logger to stderr whose lines start with `prefix`.
    ///
    /// Local time follows the environment variable `TZ` or `/etc/localtime`, read once; without both it is UTC.
    pub fn new(prefix: impl Into<String>, level: Level) -> Self {
        Self::with_sink(prefix, level, Stderr)
    }

    /// A logger to any sink.
    pub fn with_sink(prefix: impl Into<String>, level: Level, sink: impl Sink) -> Self {
        let shared = Shared {
            prefix: prefix.into(),
            level: AtomicU8::new(level.number()),
            zone: system_zone(),
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
        &self.shared.prefix
    }

    /// The level from which on lines are written.
    pub fn level(&self) -> Level {
        Level::from_number(self.shared.level.load(Ordering::Relaxed))
    }

    /// Changes the level, for all clones at once.
    pub fn change_level(&self, level: Level) {
        self.shared.level.store(level.number(), Ordering::Relaxed);
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
            self.shared.write(now(), level, text);
        }
    }
}

impl fmt::Debug for Logger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logger")
            .field("prefix", &self.shared.prefix)
            .field("level", &self.level())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn write(&self, at: Timestamp, level: Level, text: fmt::Arguments<'_>) {
        let mut line = String::with_capacity(160);
        // Writing to a String cannot fail; only a Display that gives up could, and then its part is missing.
        let _ = self.push_head(at, level, &mut line);
        let _ = OneLine(&mut line).write_fmt(text);
        line.push('\n');
        self.sink.write_line(line.as_bytes());
    }

    fn push_head(&self, at: Timestamp, level: Level, line: &mut String) -> fmt::Result {
        let local = self.zone.to_datetime(at);
        let micros = local.subsec_nanosecond() / 1000;
        line.push_str(&self.prefix);
        write!(line, "{:04}/{:02}/{:02} ", local.year(), local.month(), local.day())?;
        write!(line, "{:02}:{:02}:{:02}", local.hour(), local.minute(), local.second())?;
        write!(line, ".{micros:06} {level}: ")
    }
}

/// The local time as the one-line complaints of NSQ's tools start with it: `2026/11/22 13:31:11`.
pub fn local_seconds() -> String {
    let local = system_zone().to_datetime(now());
    let (date, time) = (local.date(), local.time());
    format!(
        "{:04}/{:02}/{:02} {:02}:{:02}:{:02}",
        date.year(),
        date.month(),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

fn system_zone() -> TimeZone {
    TimeZone::try_system().unwrap_or(TimeZone::UTC)
}

#[expect(clippy::disallowed_methods, reason = "a log line carries the time it was written at")]
fn now() -> Timestamp {
    Timestamp::try_from(std::time::SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Keeps a line one line: control characters are written as escapes, so that input from a client cannot pass
/// for a line of its own or reach the terminal.
struct OneLine<'a>(&'a mut String);

impl fmt::Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
            self.0.push_str(text);
            return Ok(());
        }
        for c in text.chars() {
            match c {
                '\t' => self.0.push(c),
                '\0'..='\u{1f}' | '\u{7f}' => self.0.extend(c.escape_default()),
                _ => self.0.push(c),
            }
        }
        Ok(())
    }
}

struct Stderr;

impl Sink for Stderr {
    fn write_line(&self, line: &[u8]) {
        // Stderr has no buffer, so this is one write. There is no other place to report its failure.
        let _ = io::stderr().lock().write_all(line);
    }
}

struct Nowhere;

impl Sink for Nowhere {
    fn write_line(&self, _line: &[u8]) {}
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn line_in(zone: TimeZone, nanos: i128) -> String {
        let capture = Capture::new();
        let shared = Shared {
            prefix: "[nsqd] ".to_owned(),
            level: AtomicU8::new(1),
            zone,
            sink: Box::new(capture.clone()),
        };
        shared.write(Timestamp::from_nanosecond(nanos).unwrap(), Level::Warn, format_args!("x"));
        capture.lines().concat()
    }

    #[test]
    fn a_line_has_prefix_local_time_level_and_text() {
        let at = 1_795_364_241_079_313_999;
        assert_eq!(line_in(TimeZone::UTC, at), "[nsqd] 2026/11/22 16:17:21.079313 WARNING: x");
        let tokyo = TimeZone::fixed(jiff::tz::offset(9));
        assert_eq!(line_in(tokyo, at), "[nsqd] 2026/11/23 01:17:21.079313 WARNING: x");
        assert_eq!(line_in(TimeZone::UTC, 5_000), "[nsqd] 1970/01/01 00:00:00.000005 WARNING: x");
    }

    #[test]
    fn complaints_of_tools_start_with_the_local_time() {
        let text = local_seconds();
        let shape: String =
            text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000/00/00 00:00:00");
    }

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
        assert_eq!(capture.texts(), ["INFO: a\\nb\\r\\u{1b}[31m\té"]);
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
