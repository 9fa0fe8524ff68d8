//! The bounds of values.

use std::fmt;

use super::value::Value;

/// A value that an option cannot take.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("--{name} {misfit}")]
#[non_exhaustive]
pub struct InvalidOption {
    /// The option's name, without dashes.
    pub name: String,
    /// The reason, with the value.
    pub misfit: Misfit,
}

/// The reason why a value does not fit its option.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Misfit {
    /// The number is outside of its bounds.
    #[error("must {}", bounds(*.value, *.min, *.max, *.shown))]
    OutOfRange {
        /// The number.
        value: i64,
        /// The smallest number allowed.
        min: i64,
        /// The largest number allowed.
        max: i64,
        /// The bounds in NSQ's words, if it has some.
        shown: Option<&'static str>,
    },
    /// The duration is zero.
    #[error("must be positive")]
    Zero,
    /// The text is none of those that the option knows.
    #[error("must be {}, not {value:?}", Choices(.choices))]
    NotAChoice {
        /// The text.
        value: String,
        /// The texts that the option knows.
        choices: Vec<&'static str>,
    },
    /// The value is not of the option's kind.
    #[error("cannot be {0:?}")]
    WrongKind(Value),
}

/// The words for the bounds of a number, and the number that is outside.
fn bounds(value: i64, min: i64, max: i64, shown: Option<&str>) -> String {
    match (shown, min, max) {
        (Some(shown), ..) => format!("be {shown}"),
        (None, 0, i64::MAX) => format!("not be negative: {value}"),
        (None, ..) => format!("be from {min} to {max}: {value}"),
    }
}

/// Words as in `a, b or c`.
struct Choices<'a>(&'a [&'static str]);

impl fmt::Display for Choices<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [first @ .., last] if !first.is_empty() => {
                write!(f, "{} or {last}", first.join(", "))
            }
            words => f.write_str(&words.join(", ")),
        }
    }
}
