//! The types of fields that options can set.

use std::{path::PathBuf, time::Duration};

use super::value::{Kind, Value};

/// The type of a field that an option sets.
pub trait Setting: Sized + 'static {
    /// How its values are written.
    const KIND: Kind;

    /// The smallest and the largest value, for numbers.
    fn range() -> (i64, i64) {
        (i64::MIN, i64::MAX)
    }

    /// Checks a text of [`Kind::Custom`].
    ///
    /// # Errors
    /// When the text is not a value. The reason is shown after `invalid value "x" for flag -name: `.
    fn check(_text: &str) -> Result<(), String> {
        Ok(())
    }

    /// Converts into a value of the kind.
    fn into_value(self) -> Value;

    /// Converts from a value; `None` when it is not of the kind, out of range or does not pass the check.
    fn from_value(value: Value) -> Option<Self>;
}

macro_rules! settings {
    ($($type:ty: $kind:ident as $variant:ident;)*) => {$(
        impl Setting for $type {
            const KIND: Kind = Kind::$kind;

            fn into_value(self) -> Value {
                Value::$variant(self)
            }

            fn from_value(value: Value) -> Option<Self> {
                match value {
                    Value::$variant(value) => Some(value),
                    _ => None,
                }
            }
        }
    )*};
}

settings! {
    bool: Bool as Bool;
    f64: Float as Float;
    Duration: Duration as Duration;
    String: String as Text;
    Vec<String>: List as List;
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            const KIND: Kind = Kind::Int;

            fn range() -> (i64, i64) {
                let limit = |value, otherwise| i64::try_from(value).unwrap_or(otherwise);
                (limit(<$type>::MIN, i64::MIN), limit(<$type>::MAX, i64::MAX))
            }

            fn into_value(self) -> Value {
                Value::Int(i64::try_from(self).unwrap_or(i64::MAX))
            }

            fn from_value(value: Value) -> Option<Self> {
                match value {
                    Value::Int(value) => Self::try_from(value).ok(),
                    _ => None,
                }
            }
        }
    )*};
}

numbers!(u8, u16, u32, u64, usize, i64);

/// A path; an empty one is the current folder.
impl Setting for PathBuf {
    const KIND: Kind = Kind::String;

    fn into_value(self) -> Value {
        Value::Text(self.to_string_lossy().into_owned())
    }

    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Text(path) if path.is_empty() => Some(".".into()),
            Value::Text(path) => Some(path.into()),
            _ => None,
        }
    }
}
