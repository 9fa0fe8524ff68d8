//! The writing of one log line, in each format.

use std::fmt::{self, Write as _};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use super::{format::Format, level::Level};

/// Most lines fit without growing.
const LINE_BYTES: usize = 192;

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
                // Writing to a String cannot fail.
                let _ = Escaped(&mut program).write_str(name);
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

    /// One line with its newline. A `Display` that gives up leaves its part out.
    pub(super) fn line(&self, at: Timestamp, level: Level, text: fmt::Arguments<'_>) -> String {
        let mut line = String::with_capacity(LINE_BYTES);
        match &self.shape {
            Shape::Text(zone) => {
                let _ = push_text(&mut line, &self.prefix, zone.to_datetime(at), level, text);
                line.push('\n');
            }
            Shape::Json(program) => {
                let _ = push_json(&mut line, program, at, level, text);
                // The object ends, also when the text was cut short.
                line.push_str("\"}\n");
            }
        }
        line
    }
}

fn system_zone() -> TimeZone {
    TimeZone::try_system().unwrap_or(TimeZone::UTC)
}

fn push_text(
    line: &mut String,
    prefix: &str,
    local: DateTime,
    level: Level,
    text: fmt::Arguments<'_>,
) -> fmt::Result {
    let micros = local.subsec_nanosecond() / 1000;
    line.push_str(prefix);
    write!(line, "{:04}/{:02}/{:02} ", local.year(), local.month(), local.day())?;
    write!(line, "{:02}:{:02}:{:02}", local.hour(), local.minute(), local.second())?;
    write!(line, ".{micros:06} {level}: ")?;
    OneLine(line).write_fmt(text)
}

fn push_json(
    line: &mut String,
    program: &str,
    at: Timestamp,
    level: Level,
    text: fmt::Arguments<'_>,
) -> fmt::Result {
    let utc = TimeZone::UTC.to_datetime(at);
    let micros = utc.subsec_nanosecond() / 1000;
    write!(line, "{{\"time\":\"{:04}-{:02}-{:02}", utc.year(), utc.month(), utc.day())?;
    write!(line, "T{:02}:{:02}:{:02}.{micros:06}Z", utc.hour(), utc.minute(), utc.second())?;
    let level = level.name();
    write!(line, "\",\"level\":\"{level}\",\"program\":\"{program}\",\"msg\":\"")?;
    Escaped(line).write_fmt(text)
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

/// Writes the inside of a JSON string.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, mut text: &str) -> fmt::Result {
        let special = |byte: u8| byte < 0x20 || matches!(byte, b'"' | b'\\' | 0x7f);
        while let Some(at) = text.bytes().position(special) {
            // Special characters are ASCII, so these are boundaries of characters.
            self.0.push_str(&text[..at]);
            match text.as_bytes()[at] {
                b'\n' => self.0.push_str("\\n"),
                b'\t' => self.0.push_str("\\t"),
                b'\r' => self.0.push_str("\\r"),
                byte @ (b'"' | b'\\') => self.0.extend(['\\', byte.into()]),
                byte => write!(self.0, "\\u{byte:04x}")?,
            }
            text = &text[at + 1..];
        }
        self.0.push_str(text);
        Ok(())
    }
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
