//! Option values as they come from command lines and from code.

use std::{convert::Infallible, fmt, str::FromStr, time::Duration};

use nsq_options::duration;

use super::ConfigError;
use crate::tls::TlsConfig;

/// A value for [`Config::set`](super::Config::set), converted to the option's kind there.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum OptionValue {
    /// Text, as on a command line; every option takes it.
    Text(String),
    /// A number; milliseconds for a duration.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// A switch.
    Bool(bool),
    /// A duration.
    Duration(Duration),
    /// How TLS is done.
    Tls(Box<TlsConfig>),
}

impl From<&str> for OptionValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for OptionValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for OptionValue {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<f64> for OptionValue {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<bool> for OptionValue {
    fn from(switch: bool) -> Self {
        Self::Bool(switch)
    }
}

impl From<Duration> for OptionValue {
    fn from(duration: Duration) -> Self {
        Self::Duration(duration)
    }
}

impl From<TlsConfig> for OptionValue {
    fn from(config: TlsConfig) -> Self {
        Self::Tls(Box::new(config))
    }
}

impl fmt::Display for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Int(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
            Self::Bool(switch) => switch.fmt(f),
            Self::Duration(value) => f.write_str(&duration::format(*value)),
            Self::Tls(_) => f.write_str("TlsConfig"),
        }
    }
}

impl OptionValue {
    /// The value in nanoseconds.
    pub(super) fn nanoseconds(&self) -> Result<i64, String> {
        match self {
            Self::Text(text) => duration::parse_nanos(text).map_err(|error| error.to_string()),
            Self::Int(ms) => ms.checked_mul(1_000_000).ok_or_else(|| "too long".to_owned()),
            Self::Duration(duration) => {
                i64::try_from(duration.as_nanos()).map_err(|_| "too long".to_owned())
            }
            Self::Bool(_) | Self::Float(_) | Self::Tls(_) => Err("not a duration".to_owned()),
        }
    }

    /// The value as a whole number.
    pub(super) fn number(&self) -> Result<i64, String> {
        match self {
            Self::Text(text) => text.parse().map_err(|_| format!("invalid number {text:?}")),
            Self::Int(number) => Ok(*number),
            Self::Bool(_) | Self::Duration(_) | Self::Float(_) | Self::Tls(_) => {
                Err("not a whole number".to_owned())
            }
        }
    }

    /// The value as a number with a fraction.
    pub(super) fn fraction(&self) -> Result<f64, String> {
        match self {
            Self::Text(text) => text.parse().map_err(|_| format!("invalid number {text:?}")),
            #[expect(clippy::cast_precision_loss, reason = "no bound is that large")]
            Self::Int(number) => Ok(*number as f64),
            Self::Float(number) => Ok(*number),
            Self::Bool(_) | Self::Duration(_) | Self::Tls(_) => Err("not a number".to_owned()),
        }
    }

    /// The value as a switch.
    pub(super) fn switch(&self) -> Result<bool, String> {
        match self {
            Self::Text(text) => match text.as_str() {
                "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
                "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
                _ => Err(format!("invalid switch {text:?}")),
            },
            Self::Int(number) => Ok(*number != 0),
            Self::Bool(switch) => Ok(*switch),
            Self::Duration(_) | Self::Float(_) | Self::Tls(_) => Err("not a switch".to_owned()),
        }
    }
}

/// An option as a command line gives it: `key,value`, split at the first comma, or a bare `key` for true.
///
/// ```
/// use nsq_client::{Config, ConfigOption};
///
/// let option: ConfigOption = "max_in_flight,200".parse().unwrap();
/// let mut config = Config::default();
/// config.apply(&option)?;
/// assert_eq!(config.max_in_flight, 200);
/// # Ok::<(), nsq_client::ConfigError>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct ConfigOption {
    /// The option's name, not checked yet.
    pub name: String,
    /// Its value.
    pub value: OptionValue,
}

impl fmt::Debug for ConfigOption {
    /// Shows all but secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ConfigOption");
        shown.field("name", &self.name);
        if self.name.replace('-', "_") == "auth_secret" {
            return shown.finish_non_exhaustive();
        }
        shown.field("value", &self.value).finish()
    }
}

impl FromStr for ConfigOption {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.split_once(',') {
            Some((name, value)) => Self { name: name.to_owned(), value: value.into() },
            None => Self { name: text.to_owned(), value: OptionValue::Bool(true) },
        })
    }
}

/// A value that is not of an option's kind.
pub(super) fn wrong_kind(option: &'static str, value: &OptionValue, reason: String) -> ConfigError {
    ConfigError::WrongKind { option, value: value.to_string(), reason }
}
