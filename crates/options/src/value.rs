//! Values of options, and how each kind is read from text.

use std::{num::IntErrorKind, time::Duration};

use super::duration;

/// How the values of an option are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A switch: `-name`, `-name=false`.
    Bool,
    /// A 64-bit integer; `0x`, `0o`, `0b`, a leading `0` (octal) and `_` between digits are understood.
    Int,
    /// A number of bytes: an integer that is not negative.
    Bytes,
    /// A floating-point number.
    Float,
    /// A duration that is not negative, see [`duration`].
    Duration,
    /// Any text.
    String,
    /// Texts, one for each time the option is given.
    List,
    /// A text in a form of its own.
    Custom,
    /// A text in a form of its own that may be left out, which means `true`.
    CustomSwitch,
}

/// A value of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of a switch.
    Bool(bool),
    /// Of an integer or a number of bytes.
    Int(i64),
    /// Of a floating-point number.
    Float(f64),
    /// Of a duration.
    Duration(Duration),
    /// Of a text, in a form of its own or not.
    Text(String),
    /// Of a list.
    List(Vec<String>),
}

const NOT_OF_THE_KIND: &str = "parse error";
const OUT_OF_RANGE: &str = "value out of range";

impl Value {
    /// Reads one value; for a list, a list of one.
    pub(super) fn read(kind: Kind, text: &str) -> Result<Self, String> {
        Ok(match kind {
            Kind::Bool => Self::Bool(read_bool(text).ok_or(NOT_OF_THE_KIND)?),
            Kind::Int => Self::Int(read_int(text)?),
            Kind::Bytes => match read_int(text)? {
                value if value < 0 => return Err(OUT_OF_RANGE.to_owned()),
                value => Self::Int(value),
            },
            Kind::Float => Self::Float(read_float(text)?),
            Kind::Duration => {
                Self::Duration(duration::parse(text).map_err(|error| match error {
                    duration::Error::Negative { .. } => OUT_OF_RANGE,
                    _ => NOT_OF_THE_KIND,
                })?)
            }
            Kind::String | Kind::Custom | Kind::CustomSwitch => Self::Text(text.to_owned()),
            Kind::List => Self::List(vec![text.to_owned()]),
        })
    }
}

/// Reads a truth value as a switch does: `1`, `t`, `true`, `0`, `f` or `false`, in the cases that NSQ knows.
pub fn read_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Reads an integer with an optional sign, base prefix and underscores between digits (or after the prefix).
fn read_int(text: &str) -> Result<i64, &'static str> {
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = split_radix(unsigned);
    // An underscore may stand where a digit stands before it, or a prefix, and a digit after it.
    let prefixed = digits.len() < unsigned.len();
    let misplaced =
        digits.contains("__") || digits.ends_with('_') || (digits.starts_with('_') && !prefixed);
    let digits = digits.replace('_', "");
    if misplaced || digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(NOT_OF_THE_KIND);
    }
    let signed = if negative { format!("-{digits}") } else { digits };
    i64::from_str_radix(&signed, radix).map_err(|error| match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => OUT_OF_RANGE,
        _ => NOT_OF_THE_KIND,
    })
}

/// The base that a prefix names, and the digits after the prefix.
fn split_radix(unsigned: &str) -> (u32, &str) {
    match unsigned.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &unsigned[2..]),
        [b'0', b'o' | b'O', ..] => (8, &unsigned[2..]),
        [b'0', b'b' | b'B', ..] => (2, &unsigned[2..]),
        [b'0', _, ..] => (8, &unsigned[1..]),
        _ => (10, unsigned),
    }
}

fn read_float(text: &str) -> Result<f64, &'static str> {
    let value: f64 = text.parse().map_err(|_| NOT_OF_THE_KIND)?;
    let spelled_out = text.trim_start_matches(['+', '-']).starts_with(['i', 'I']);
    if value.is_infinite() && !spelled_out { Err(OUT_OF_RANGE) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_in_every_base() {
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("42", 42),
            ("+42", 42),
            ("0x1F", 31),
            ("0X1f", 31),
            ("0o17", 15),
            ("017", 15),
            ("0b101", 5),
            ("1_000_000", 1_000_000),
            ("0x_ff", 255),
            ("0_7", 7),
            ("-0x10", -16),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(read_int(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_not_an_integer_is_refused() {
        for text in [
            "", "-", "x", "1.5", "1e3", "08", "0x", "0b2", "_1", "1_", "1__0", "0x_", "--1", "+-1",
            " 1",
        ] {
            assert_eq!(read_int(text), Err(NOT_OF_THE_KIND), "{text}");
        }
        for text in ["9223372036854775808", "-9223372036854775809", "0xffffffffffffffffff"] {
            assert_eq!(read_int(text), Err(OUT_OF_RANGE), "{text}");
        }
    }

    #[test]
    fn floats_are_read_and_held_to_their_range() {
        assert_eq!(read_float("0.25"), Ok(0.25));
        assert_eq!(read_float("1e-3"), Ok(0.001));
        assert_eq!(read_float("+Inf"), Ok(f64::INFINITY));
        assert_eq!(read_float("1e400"), Err(OUT_OF_RANGE));
        assert_eq!(read_float("x"), Err(NOT_OF_THE_KIND));
        assert_eq!(read_float(""), Err(NOT_OF_THE_KIND));
    }
}
