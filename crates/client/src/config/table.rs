//! The options by name: how each is read from a value, and between which bounds it may be.

use std::{fmt::Display, time::Duration};

use nsq_options::duration::format as format_duration;

use super::{
    Config, ConfigError,
    option::{OptionValue, wrong_kind},
};
use crate::{
    backoff::Backoff,
    tls::{TlsConfigError, TlsMode},
};

/// An option that can be set by name.
pub(super) struct OptionDef {
    /// Its NSQ name.
    pub(super) name: &'static str,
    kind: Kind,
}

/// Where an option lies in the configuration, and its bounds, both inclusive.
enum Kind {
    Duration(fn(&mut Config) -> &mut Duration, Duration, Duration),
    /// Negative for never.
    MaybeDuration(fn(&mut Config) -> &mut Option<Duration>),
    Text(fn(&mut Config) -> &mut String),
    Number {
        get: fn(&Config) -> i64,
        /// Called with a number within the bounds.
        set: fn(&mut Config, i64),
        min: i64,
        max: i64,
    },
    /// With a fraction.
    Float(fn(&mut Config) -> &mut f64, f64, f64),
    Address,
    Switch(fn(&mut Config) -> &mut bool),
    /// Read by a function that returns the mistake in the value.
    Special(fn(&mut Config, &OptionValue) -> Result<(), String>),
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const MINUTE: u64 = 60_000;
const UNBOUNDED: Duration = Duration::MAX;

macro_rules! duration {
    ($name:ident, $min:expr, $max:expr) => {
        OptionDef {
            name: stringify!($name),
            kind: Kind::Duration(|config| &mut config.$name, $min, $max),
        }
    };
}

macro_rules! maybe_duration {
    ($name:ident) => {
        OptionDef { name: stringify!($name), kind: Kind::MaybeDuration(|c| &mut c.$name) }
    };
}

macro_rules! text {
    ($name:ident) => {
        OptionDef { name: stringify!($name), kind: Kind::Text(|config| &mut config.$name) }
    };
}

macro_rules! switch {
    ($name:ident) => {
        OptionDef { name: stringify!($name), kind: Kind::Switch(|config| &mut config.$name) }
    };
}

macro_rules! special {
    ($name:ident, $set:expr) => {
        OptionDef { name: stringify!($name), kind: Kind::Special($set) }
    };
}

macro_rules! number {
    ($name:ident: $type:ty, $min:expr, $max:expr) => {
        OptionDef {
            name: stringify!($name),
            kind: Kind::Number {
                get: |config| i64::try_from(config.$name).unwrap_or(i64::MAX),
                set: |config, number| {
                    config.$name = <$type>::try_from(number).unwrap_or(config.$name);
                },
                min: $min,
                max: $max,
            },
        }
    };
}

pub(super) static OPTIONS: &[OptionDef] = &[
    duration!(dial_timeout, Duration::ZERO, UNBOUNDED),
    duration!(handshake_timeout, ms(1), UNBOUNDED),
    duration!(read_timeout, ms(100), ms(5 * MINUTE)),
    duration!(write_timeout, ms(100), ms(5 * MINUTE)),
    OptionDef { name: "local_addr", kind: Kind::Address },
    duration!(lookupd_poll_interval, ms(10), ms(5 * MINUTE)),
    OptionDef {
        name: "lookupd_poll_jitter",
        kind: Kind::Float(|config| &mut config.lookupd_poll_jitter, 0.0, 1.0),
    },
    duration!(lookupd_poll_timeout, Duration::ZERO, UNBOUNDED),
    duration!(max_requeue_delay, Duration::ZERO, ms(60 * MINUTE)),
    duration!(default_requeue_delay, Duration::ZERO, ms(60 * MINUTE)),
    special!(backoff_strategy, |config, value| {
        config.backoff_strategy = match value.to_string().as_str() {
            "" | "exponential" => Backoff::Exponential,
            "full_jitter" => Backoff::FullJitter,
            _ => return Err("not exponential or full_jitter".to_owned()),
        };
        Ok(())
    }),
    duration!(max_backoff_duration, Duration::ZERO, ms(60 * MINUTE)),
    duration!(backoff_multiplier, Duration::ZERO, ms(60 * MINUTE)),
    number!(max_attempts: u16, 0, 65_535),
    duration!(low_rdy_idle_timeout, ms(1000), ms(5 * MINUTE)),
    duration!(low_rdy_timeout, ms(1000), ms(5 * MINUTE)),
    duration!(rdy_redistribute_interval, ms(1), ms(5000)),
    text!(client_id),
    text!(hostname),
    text!(user_agent),
    text!(topology_region),
    text!(topology_zone),
    maybe_duration!(heartbeat_interval),
    number!(sample_rate: u8, 0, 99),
    switch!(tls_v1),
    special!(tls, |config, value| {
        config.tls = Some(match value.to_string().as_str() {
            "off" => TlsMode::Off,
            "preferred" => TlsMode::Preferred,
            "required" => TlsMode::Required,
            _ => return Err("not off, preferred or required".to_owned()),
        });
        Ok(())
    }),
    special!(tls_config, |config, value| {
        let OptionValue::Tls(tls_config) = value else { return Err("not a TlsConfig".to_owned()) };
        config.tls_config = (**tls_config).clone();
        Ok(())
    }),
    special!(tls_root_ca_file, |config, value| {
        config.tls_config.set_root_ca_file(&value.to_string()).map_err(text_of)
    }),
    special!(tls_cert, |config, value| {
        config.tls_config.set_certificate_file(&value.to_string()).map_err(text_of)
    }),
    special!(tls_key, |config, value| {
        config.tls_config.set_key_file(&value.to_string()).map_err(text_of)
    }),
    special!(tls_insecure_skip_verify, |config, value| {
        config.tls_config.set_insecure_skip_verify(value.switch()?);
        Ok(())
    }),
    special!(tls_min_version, |config, value| {
        config.tls_config.set_min_version(&value.to_string()).map_err(text_of)
    }),
    switch!(deflate),
    number!(deflate_level: u8, 1, 9),
    switch!(snappy),
    special!(auth_secret, |config, value| {
        config.auth_secret = value.to_string().into();
        Ok(())
    }),
    special!(skip_lookupd_authorization, |config, value| {
        config.lookupd_authorization = value.switch()?;
        Ok(())
    }),
    number!(output_buffer_size: i64, i64::MIN, i64::MAX),
    maybe_duration!(output_buffer_timeout),
    number!(max_in_flight: u32, 0, u32::MAX as i64),
    duration!(msg_timeout, Duration::ZERO, UNBOUNDED),
    number!(max_msg_size: u32, 0, i32::MAX as i64),
    number!(max_outstanding: u32, 1, 1 << 24),
    number!(max_outstanding_bytes: usize, 1, i64::MAX),
];

fn text_of(error: TlsConfigError) -> String {
    error.to_string()
}

impl OptionDef {
    /// Reads `value` into the option; bounds that the field's type cannot hold are checked here already.
    pub(super) fn set(&self, config: &mut Config, value: &OptionValue) -> Result<(), ConfigError> {
        let wrong = |reason| wrong_kind(self.name, value, reason);
        match self.kind {
            Kind::Duration(field, min, _) => {
                let ns = value.nanoseconds().map_err(wrong)?;
                *field(config) = u64::try_from(ns)
                    .map(Duration::from_nanos)
                    .map_err(|_| self.too_small(value, format_duration(min)))?;
            }
            Kind::MaybeDuration(field) => {
                let ns = value.nanoseconds().map_err(wrong)?;
                *field(config) = u64::try_from(ns).map(Duration::from_nanos).ok();
            }
            Kind::Text(field) => *field(config) = value.to_string(),
            Kind::Number { set, min, max, .. } => {
                let number = value.number().map_err(wrong)?;
                self.check_number(number, min, max)?;
                set(config, number);
            }
            Kind::Float(field, ..) => *field(config) = value.fraction().map_err(wrong)?,
            Kind::Switch(field) => *field(config) = value.switch().map_err(wrong)?,
            Kind::Special(set) => set(config, value).map_err(wrong)?,
            Kind::Address => {
                let text = value.to_string();
                let address = text.parse().map_err(|_| wrong("not an ip:port".to_owned()))?;
                config.local_addr = Some(address);
            }
        }
        Ok(())
    }

    /// Checks the option's bounds.
    pub(super) fn check(&self, config: &Config) -> Result<(), ConfigError> {
        match self.kind {
            Kind::Duration(field, min, max) => {
                let value = *field(&mut config.clone());
                if value < min {
                    return Err(self.too_small(format_duration(value), format_duration(min)));
                }
                if value > max {
                    return Err(self.too_big(format_duration(value), format_duration(max)));
                }
                Ok(())
            }
            Kind::Number { get, min, max, .. } => self.check_number(get(config), min, max),
            Kind::Float(field, min, max) => {
                let value = *field(&mut config.clone());
                if value < min {
                    return Err(self.too_small(value, min));
                }
                // NaN is within no bounds.
                if value > max || value.is_nan() {
                    return Err(self.too_big(value, max));
                }
                Ok(())
            }
            Kind::MaybeDuration(_)
            | Kind::Text(_)
            | Kind::Address
            | Kind::Switch(_)
            | Kind::Special(_) => Ok(()),
        }
    }

    fn check_number(&self, number: i64, min: i64, max: i64) -> Result<(), ConfigError> {
        if number < min {
            return Err(self.too_small(number, min));
        }
        if number > max {
            return Err(self.too_big(number, max));
        }
        Ok(())
    }

    fn too_small(&self, value: impl Display, min: impl Display) -> ConfigError {
        ConfigError::TooSmall { option: self.name, value: value.to_string(), min: min.to_string() }
    }

    fn too_big(&self, value: impl Display, max: impl Display) -> ConfigError {
        ConfigError::TooBig { option: self.name, value: value.to_string(), max: max.to_string() }
    }
}
