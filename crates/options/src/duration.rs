//! Durations as NSQ spells them: `1m30s`, `1.5h`, `300ms`, `0`.
//!
//! A duration is a sequence of decimal numbers, each with a unit: `ns`, `us` (or `µs`), `ms`, `s`, `m`, `h`. Only
//! zero needs no unit. NSQ counts nanoseconds in 64 signed bits, so the largest is about 292 years.

use std::time::Duration;

use nsq_protocol::quote;

/// The reason why a text is not a duration, in texts that users of NSQ know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text has no such form, or the duration does not fit.
    #[error("time: invalid duration {}", quote(.text.as_bytes()))]
    Invalid {
        /// The text that was to be read.
        text: String,
    },
    /// A number stands alone.
    #[error("time: missing unit in duration {}", quote(.text.as_bytes()))]
    MissingUnit {
        /// The text that was to be read.
        text: String,
    },
    /// A number is followed by something that is not a unit.
    #[error("time: unknown unit {} in duration {}", quote(.unit.as_bytes()), quote(.text.as_bytes()))]
    UnknownUnit {
        /// The text in the place of the unit.
        unit: String,
        /// The text that was to be read.
        text: String,
    },
    /// The duration is well-formed but below zero, where only zero and more make sense.
    #[error("duration {text} is negative")]
    Negative {
        /// The text that was to be read.
        text: String,
    },
}

/// Reads a duration of zero or more.
///
/// # Errors
/// When the text is not a duration, or is one below zero.
pub fn parse(text: &str) -> Result<Duration, Error> {
    let nanos = parse_nanos(text)?;
    u64::try_from(nanos)
        .map(Duration::from_nanos)
        .map_err(|_| Error::Negative { text: text.to_owned() })
}

/// Reads a duration in nanoseconds, for the places where a negative one (`-1ns`) has a meaning.
///
/// # Errors
/// When the text is not a duration.
pub fn parse_nanos(text: &str) -> Result<i64, Error> {
    let invalid = || Error::Invalid { text: text.to_owned() };
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    // The magnitude: one more than i64::MAX is only right with a minus sign.
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (part, tail) = parse_part(rest, text)?;
        total = total.checked_add(part).filter(|sum| *sum <= NANOS_END).ok_or_else(invalid)?;
        rest = tail;
    }
    if negative {
        0i64.checked_sub_unsigned(total).ok_or_else(invalid)
    } else {
        i64::try_from(total).map_err(|_| invalid())
    }
}

/// The magnitude of the most negative duration.
const NANOS_END: u64 = 1 << 63;

/// Reads one number with its unit from the front of `rest`; returns nanoseconds and the rest.
fn parse_part<'a>(rest: &'a str, text: &str) -> Result<(u64, &'a str), Error> {
    let invalid = || Error::Invalid { text: text.to_owned() };
    let (whole, rest) = split_digits(rest);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), split_digits);
    if whole.is_empty() && fraction.is_empty() {
        return Err(invalid());
    }
    let end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    if unit.is_empty() {
        return Err(Error::MissingUnit { text: text.to_owned() });
    }
    let unit_nanos = unit_nanos(unit)
        .ok_or_else(|| Error::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() })?;
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
    let nanos = whole
        .checked_mul(unit_nanos)
        .and_then(|nanos| nanos.checked_add(fraction_nanos(fraction, unit_nanos)))
        .filter(|nanos| *nanos <= NANOS_END)
        .ok_or_else(invalid)?;
    Ok((nanos, rest))
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn unit_nanos(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => MICROSECOND,
        "ms" => MILLISECOND,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3600 * SECOND,
        _ => return None,
    })
}

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// The digits after a decimal point as nanoseconds. Floating point, because `0.333…h` is meant as 20 minutes
/// and not one nanosecond less; digits that do not fit into 63 bits change nothing.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a fraction of an hour in nanoseconds fits, and is never negative"
)]
fn fraction_nanos(digits: &str, unit_nanos: u64) -> u64 {
    let (mut fraction, mut scale) = (0i64, 1.0);
    for digit in digits.bytes() {
        let shifted = fraction.checked_mul(10);
        let Some(more) = shifted.and_then(|n| n.checked_add(i64::from(digit - b'0'))) else {
            break;
        };
        fraction = more;
        scale *= 10.0;
    }
    (fraction as f64 * (unit_nanos as f64 / scale)) as u64
}

/// Writes a duration: `1m30s`, `250ms`, `1.5µs`, `0s`. Durations past NSQ's largest are written as that one.
pub fn format(duration: Duration) -> String {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    magnitude(nanos.min(NANOS_END - 1))
}

/// Writes a duration that may be negative, in nanoseconds.
pub fn format_nanos(nanos: i64) -> String {
    let text = magnitude(nanos.unsigned_abs());
    if nanos < 0 { format!("-{text}") } else { text }
}

fn magnitude(nanos: u64) -> String {
    match nanos {
        0 => "0s".to_owned(),
        1..MICROSECOND => format!("{nanos}ns"),
        MICROSECOND..MILLISECOND => format!("{}µs", decimal(nanos, MICROSECOND)),
        MILLISECOND..SECOND => format!("{}ms", decimal(nanos, MILLISECOND)),
        _ => {
            let (minutes, rest) = (nanos / (60 * SECOND), nanos % (60 * SECOND));
            let seconds = decimal(rest, SECOND);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// `nanos / unit` with as many decimals as it takes; `unit` is a power of ten.
fn decimal(nanos: u64, unit: u64) -> String {
    let (whole, rest) = (nanos / unit, nanos % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let fraction = format!("{rest:0width$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_nsq_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("-0", 0),
            ("0s", 0),
            ("5s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("-1ns", -1),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("300ms", 300_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1us", 1_000),
            ("1\u{b5}s", 1_000),
            ("1\u{3bc}s", 1_000),
            ("39h9m14.425s", 140_954_425_000_000),
            ("1s1h", 3_601_000_000_000),
            ("0.3333333333333333333h", 1_200_000_000_000),
            ("0.100000000000000000000h", 360_000_000_000),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("9007199254740993ns", 9_007_199_254_740_993),
        ] {
            assert_eq!(parse_nanos(text), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused_with_the_known_texts() {
        for (text, error) in [
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            ("5", "time: missing unit in duration \"5\""),
            ("1m5", "time: missing unit in duration \"1m5\""),
            ("00", "time: missing unit in duration \"00\""),
            ("s", "time: invalid duration \"s\""),
            (".s", "time: invalid duration \".s\""),
            ("1x", "time: unknown unit \"x\" in duration \"1x\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
            ("1S", "time: unknown unit \"S\" in duration \"1S\""),
            ("1 s", "time: unknown unit \" s\" in duration \"1 s\""),
            ("1m-1s", "time: unknown unit \"m-\" in duration \"1m-1s\""),
            ("3000000h", "time: invalid duration \"3000000h\""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
            ("-9223372036854775809ns", "time: invalid duration \"-9223372036854775809ns\""),
            ("99999999999999999999s", "time: invalid duration \"99999999999999999999s\""),
        ] {
            assert_eq!(parse_nanos(text).unwrap_err().to_string(), error, "{text}");
        }
        assert_eq!(parse("-1s").unwrap_err().to_string(), "duration -1s is negative");
    }

    #[test]
    fn durations_are_written_as_nsq_writes_them() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (1_100_000, "1.1ms"),
            (250_000_000, "250ms"),
            (1_000_000_000, "1s"),
            (90_000_000_000, "1m30s"),
            (60_000_000_000, "1m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (245_000_250_000_000, "68h3m20.25s"),
            (-1_500_000_000, "-1.5s"),
            (1_000_000_001, "1.000000001s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(format_nanos(nanos), text);
            assert_eq!(parse_nanos(text), Ok(nanos));
        }
        assert_eq!(format(Duration::from_millis(1500)), "1.5s");
        assert_eq!(format(Duration::MAX), "2562047h47m16.854775807s");
    }
}
