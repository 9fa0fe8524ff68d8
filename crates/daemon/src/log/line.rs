//! The writing of one log line, in each format.

use std::fmt::{self, Write as _};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use super::{format::Format, level::Level};
use crate::text::{More, is_control, push_visible};

/// Most lines fit without growing.
const LINE_BYTES: usize = 192;
/// The most bytes of text that a line shows. A stranger can send megabytes that end up in a line.
const TEXT_BYTES_MAX: usize = 1024;

/// The lines of a logger, apart from the level that they are filtered by.
pub(super) struct Lines {
    pub(super) prefix: String,
    shape: Shape,
}

enum Shape {
    /// In local time.
    Text(TimeZone),
    /// With the name of the program, escaped already.
    Json(String),
}

impl Lines {
    pub(super) fn new(format: Format, prefix: String) -> Self {
        let shape = match format {
            Format::Text => Shape::Text(system_zone()),
            Format::Json => {
                let name = prefix.trim_matches(|c: char| c.is_whitespace() || "[]:".contains(c));
                let mut program = String::new();
                push_json_text(&mut program, name);
                Shape::Json(program)
            }
        };
        Self { prefix, shape }
    }

    pub(super) fn format(&self) -> Format {
        match self.shape {
            Shape::Text(_) => Format::Text,
            Shape::Json(_) => Format::Json,
        }
    }

    /// One line with its newline.
    pub(super) fn line(&self, at: Timestamp, level: Level, text: fmt::Arguments<'_>) -> String {
        let mut line = String::with_capacity(LINE_BYTES);
        match &self.shape {
            Shape::Text(zone) => {
                // Writing to a String cannot fail.
                let _ = push_text_head(&mut line, &self.prefix, zone.to_datetime(at), level);
                Text::new(&mut line, push_visible).write(text);
                line.push('\n');
            }
            Shape::Json(program) => {
                let _ = push_json_head(&mut line, program, at, level);
                Text::new(&mut line, push_json_text).write(text);
                line.push_str("\"}\n");
            }
        }
        line
    }
}

fn system_zone() -> TimeZone {
    TimeZone::try_system().unwrap_or(TimeZone::UTC)
}

fn push_text_head(line: &mut String, prefix: &str, local: DateTime, level: Level) -> fmt::Result {
    let micros = local.subsec_nanosecond() / 1000;
    line.push_str(prefix);
    write!(line, "{:04}/{:02}/{:02} ", local.year(), local.month(), local.day())?;
    write!(line, "{:02}:{:02}:{:02}", local.hour(), local.minute(), local.second())?;
    write!(line, ".{micros:06} {level}: ")
}

fn push_json_head(line: &mut String, program: &str, at: Timestamp, level: Level) -> fmt::Result {
    let utc = TimeZone::UTC.to_datetime(at);
    let micros = utc.subsec_nanosecond() / 1000;
    write!(line, "{{\"time\":\"{:04}-{:02}-{:02}", utc.year(), utc.month(), utc.day())?;
    write!(line, "T{:02}:{:02}:{:02}.{micros:06}Z", utc.hour(), utc.minute(), utc.second())?;
    let level = level.name();
    write!(line, "\",\"level\":\"{level}\",\"program\":\"{program}\",\"msg\":\"")
}

/// The text of a line: one line without control characters, so that input from a client cannot pass for a line of its
/// own or reach the terminal, and cut after [`TEXT_BYTES_MAX`].
struct Text<'a> {
    line: &'a mut String,
    push: fn(&mut String, &str),
    /// Bytes that may still be written.
    room: usize,
    /// Bytes that were left out.
    more: usize,
}

impl<'a> Text<'a> {
    fn new(line: &'a mut String, push: fn(&mut String, &str)) -> Self {
        Self { line, push, room: TEXT_BYTES_MAX, more: 0 }
    }

    fn write(mut self, text: fmt::Arguments<'_>) {
        // A `Display` that gives up leaves its part out.
        let _ = self.write_fmt(text);
        if self.more > 0 {
            let _ = write!(self.line, "{}", More(self.more));
        }
    }
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Once text has been cut, all later parts are cut too, even those that would fit.
        let room = if self.more == 0 { self.room } else { 0 };
        let (shown, rest) = text.split_at(text.floor_char_boundary(room));
        (self.push)(self.line, shown);
        self.room -= shown.len();
        self.more += rest.len();
        Ok(())
    }
}

/// Appends the inside of a JSON string. Control characters are escaped also where JSON does not ask for it.
fn push_json_text(out: &mut String, mut text: &str) {
    let special = |c: char| matches!(c, '"' | '\\') || is_control(c);
    while let Some(at) = text.find(special) {
        out.push_str(&text[..at]);
        let mut rest = text[at..].chars();
        match rest.next() {
            Some('\n') => out.push_str("\\n"),
            Some('\t') => out.push_str("\\t"),
            Some('\r') => out.push_str("\\r"),
            Some(c @ ('"' | '\\')) => out.extend(['\\', c]),
            // All of them have four digits. Writing to a String cannot fail.
            Some(c) => drop(write!(out, "\\u{:04x}", u32::from(c))),
            None => {}
        }
        text = rest.as_str();
    }
    out.push_str(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(lines: &Lines, nanos: i128, text: &str) -> String {
        let at = Timestamp::from_nanosecond(nanos).unwrap();
        lines.line(at, Level::Warn, format_args!("{text}"))
    }

    const AT: i128 = 1_795_364_241_079_313_999;

    #[test]
    fn a_line_of_text_has_prefix_local_time_level_and_text() {
        let in_zone = |zone| Lines { prefix: "[nsqd] ".to_owned(), shape: Shape::Text(zone) };
        for (zone, at, expected) in [
            (TimeZone::UTC, AT, "[nsqd] 2026/11/22 16:17:21.079313 WARNING: x\n"),
            (
                TimeZone::fixed(jiff::tz::offset(9)),
                AT,
                "[nsqd] 2026/11/23 01:17:21.079313 WARNING: x\n",
            ),
            (TimeZone::UTC, 5_000, "[nsqd] 1970/01/01 00:00:00.000005 WARNING: x\n"),
        ] {
            assert_eq!(line(&in_zone(zone), at, "x"), expected);
        }
    }

    #[test]
    fn a_line_of_json_has_time_level_program_and_text() {
        for (prefix, program) in [("[nsqd] ", "nsqd"), ("", ""), ("a \"b\": ", "a \\\"b\\\"")] {
            let lines = Lines::new(Format::Json, prefix.to_owned());
            let expected = format!(
                "{{\"time\":\"2026-11-22T16:17:21.079313Z\",\"level\":\"warn\",\"program\":\"{program}\",\"msg\":\"x\"}}\n"
            );
            assert_eq!(line(&lines, AT, "x"), expected);
        }
    }

    #[test]
    fn every_text_makes_one_line_that_is_json() {
        let lines = Lines::new(Format::Json, String::new());
        let controls: String = (0..0x100_u32).filter_map(char::from_u32).collect();
        for text in ["", "a\nb", "\"\\\"", "\\u0000", "é€𝄞\u{2028}", &controls] {
            let line = line(&lines, 0, text);
            assert_eq!(line.find('\n'), Some(line.len() - 1), "{line}");
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(value["msg"], text);
            assert_eq!(value["time"], "1970-01-01T00:00:00.000000Z");
        }
    }

    #[test]
    fn json_keeps_a_terminal_from_acting_too() {
        let lines = Lines::new(Format::Json, String::new());
        let line = line(&lines, 0, "\u{9b}\u{202e}\u{2029}\u{7f}");
        assert!(line.contains(r#""msg":"\u009b\u202e\u2029\u007f""#), "{line}");
    }

    #[test]
    fn a_text_is_cut_after_a_kilobyte_whatever_it_is_made_of() {
        let long = "é".repeat(1 << 20);
        let text = Lines { prefix: String::new(), shape: Shape::Text(TimeZone::UTC) };
        let json = Lines::new(Format::Json, String::new());
        let expected = format!("x{}… ({} bytes more)", "é".repeat(511), (2 << 20) - 1022 + 1);
        for lines in [text, json] {
            // The text comes in several parts: those after the cut must not appear.
            let at = Timestamp::UNIX_EPOCH;
            let line = lines.line(at, Level::Warn, format_args!("x{long}{}", 1));
            assert!(line.contains(&expected), "{line}");
        }
    }

    #[test]
    fn an_object_ends_even_if_its_text_does_not_come_to_an_end() {
        struct GivesUp;
        impl fmt::Display for GivesUp {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("half")?;
                Err(fmt::Error)
            }
        }
        let lines = Lines::new(Format::Json, String::new());
        let line = lines.line(Timestamp::UNIX_EPOCH, Level::Info, format_args!("{GivesUp}!"));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["msg"], "half");
    }
}
