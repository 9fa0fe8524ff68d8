//! The formats of log lines.

use std::str::FromStr;

use nsq_options::{Kind, Setting, Value};

/// The format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// As NSQ writes them, in local time, for people.
    #[default]
    Text,
    /// One JSON object per line, in UTC, for programs.
    Json,
}

impl Format {
    /// The name by which options call the format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// A text that names no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid log format '{0}' (text, json)")]
pub struct InvalidFormat(pub String);

impl FromStr for Format {
    type Err = InvalidFormat;

    fn from_str(text: &str) -> Result<Self, InvalidFormat> {
        match text.to_lowercase().as_str() {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(InvalidFormat(text.to_owned())),
        }
    }
}

impl Setting for Format {
    const KIND: Kind = Kind::Custom;

    fn check(text: &str) -> Result<(), String> {
        text.parse::<Self>().map(drop).map_err(|error| error.to_string())
    }

    fn into_value(self) -> Value {
        Value::Text(self.name().to_owned())
    }

    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Text(text) => text.parse().ok(),
            _ => None,
        }
    }
}
