//! The levels of log lines.

use std::{fmt, str::FromStr};

use nsq_options::{Kind, Setting, Value};

/// How much a line matters. A logger writes lines at its own level and above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// For those who look for a fault.
    Debug = 1,
    /// Normal operation.
    Info = 2,
    /// Unexpected, and the daemon goes on.
    Warn = 3,
    /// Needs a look.
    Error = 4,
    /// The daemon ends.
    Fatal = 5,
}

impl Level {
    /// The number that NSQ gives the level in its `/config` answers: 1 (debug) to 5 (fatal).
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The name by which options call the level.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    pub(super) fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Debug,
            2 => Self::Info,
            3 => Self::Warn,
            4 => Self::Error,
            _ => Self::Fatal,
        }
    }
}

/// As in log lines: `DEBUG`, `INFO`, `WARNING`, `ERROR`, `FATAL`.
impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARNING",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        })
    }
}

/// A text that names no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid log level '{0}' (debug, info, warn, error, fatal)")]
pub struct InvalidLevel(pub String);

/// Reads `debug`, `info`, `warn`, `error` or `fatal` in any case. `warning` is none of them.
impl FromStr for Level {
    type Err = InvalidLevel;

    fn from_str(text: &str) -> Result<Self, InvalidLevel> {
        Ok(match text.to_lowercase().as_str() {
            "debug" => Self::Debug,
            "info" => Self::Info,
            "warn" => Self::Warn,
            "error" => Self::Error,
            "fatal" => Self::Fatal,
            _ => return Err(InvalidLevel(text.to_owned())),
        })
    }
}

impl Setting for Level {
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
