//! Parsing and checking of IDENTIFY.

mod fields;

use std::time::Duration;

use nsq_broker::Distance;
use nsq_protocol::{ClientError, Code};

use self::fields::Fields;
use crate::{options::Options, topic::client::About};

/// The bytes that are kept of a client's id, host name, user agent, region and zone. NSQ takes longer ones, so they are
/// cut, not refused.
const SHOWN_BYTES_MAX: usize = 256;

/// A value that a client may set, leave alone, or switch off.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Setting<T> {
    /// 0 or absent: the value stays as it is.
    Default,
    /// -1: switched off.
    Off,
    /// A new value.
    Value(T),
}

impl<T> Setting<T> {
    /// Applies the setting to `current`, where `None` means switched off.
    pub(crate) fn over(self, current: Option<T>) -> Option<T> {
        match self {
            Self::Default => current,
            Self::Off => None,
            Self::Value(value) => Some(value),
        }
    }
}

/// A checked IDENTIFY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identify {
    pub(crate) client_id: String,
    pub(crate) hostname: String,
    pub(crate) user_agent: String,
    pub(crate) topology_region: String,
    pub(crate) topology_zone: String,
    pub(crate) feature_negotiation: bool,
    pub(crate) heartbeat_interval: Setting<Duration>,
    pub(crate) output_buffer_bytes: Setting<i64>,
    pub(crate) output_buffer_timeout: Setting<Duration>,
    pub(crate) sample_rate: i32,
    pub(crate) msg_timeout: Option<Duration>,
    pub(crate) wanted: Wanted,
}

/// The features that a client asks for. They count only if it negotiates.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) tls: bool,
    pub(crate) snappy: bool,
    pub(crate) deflate: bool,
    pub(crate) deflate_level: i64,
}

impl Identify {
    /// Parses the body of an IDENTIFY and checks it against nsqd's limits, in NSQ's order.
    ///
    /// # Errors
    /// When the body is no JSON object of the right types, or a value is out of range.
    pub(crate) fn parse(body: &[u8], options: &Options) -> Result<Self, ClientError> {
        let undecodable = || ClientError::new(Code::BadBody, "IDENTIFY failed to decode JSON body");
        let fields = Fields::parse(body).ok_or_else(undecodable)?;
        let heartbeat_interval = interval(
            fields.heartbeat_interval,
            Duration::from_secs(1)..=options.max_heartbeat_interval,
            "heartbeat interval",
        )?;
        let output_buffer_timeout = interval(
            fields.output_buffer_timeout,
            options.min_output_buffer_timeout..=options.max_output_buffer_timeout,
            "output buffer timeout",
        )?;
        let output_buffer_bytes = match fields.output_buffer_size {
            0 => Setting::Default,
            -1 => Setting::Off,
            size if (64..=options.max_output_buffer_size).contains(&size) => Setting::Value(size),
            size => return Err(out_of_range("output buffer size", size)),
        };
        let sample_rate = match fields.sample_rate {
            rate @ 0..=99 => rate,
            rate => return Err(out_of_range("sample rate", rate.into())),
        };
        let msg_timeout = match interval(
            fields.msg_timeout,
            Duration::from_secs(1)..=options.max_msg_timeout,
            "msg timeout",
        )? {
            Setting::Default => None,
            Setting::Value(timeout) => Some(timeout),
            Setting::Off => return Err(out_of_range("msg timeout", -1)),
        };
        Ok(Self {
            client_id: fields.client_id,
            hostname: fields.hostname,
            user_agent: fields.user_agent,
            topology_region: fields.topology_region,
            topology_zone: fields.topology_zone,
            feature_negotiation: fields.feature_negotiation,
            heartbeat_interval,
            output_buffer_bytes,
            output_buffer_timeout,
            sample_rate,
            msg_timeout,
            wanted: fields.wanted,
        })
    }
}

impl Identify {
    /// Returns how far the client is from this nsqd; [`Distance::Global`] unless places matter. No place at all is a
    /// place too.
    pub(crate) fn distance(&self, options: &Options) -> Distance {
        if !options.is_topology_aware() {
            Distance::Global
        } else if self.topology_zone == options.topology_zone {
            Distance::Zone
        } else if self.topology_region == options.topology_region {
            Distance::Region
        } else {
            Distance::Global
        }
    }

    /// Copies the fields that `/stats` shows. Strings are cut to [`SHOWN_BYTES_MAX`].
    pub(crate) fn describe(self, about: &mut About) {
        about.client_id = shown(self.client_id);
        about.hostname = shown(self.hostname);
        about.user_agent = shown(self.user_agent);
        about.sample_rate = self.sample_rate;
        about.topology_region = shown(self.topology_region);
        about.topology_zone = shown(self.topology_zone);
    }
}

/// Cuts a string to [`SHOWN_BYTES_MAX`], at a character boundary.
fn shown(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(SHOWN_BYTES_MAX));
    text.shrink_to_fit();
    text
}

fn interval(
    ms: i64,
    range: std::ops::RangeInclusive<Duration>,
    what: &str,
) -> Result<Setting<Duration>, ClientError> {
    match u64::try_from(ms).map(Duration::from_millis) {
        Ok(Duration::ZERO) => Ok(Setting::Default),
        Ok(interval) if range.contains(&interval) => Ok(Setting::Value(interval)),
        Err(_) if ms == -1 => Ok(Setting::Off),
        _ => Err(out_of_range(what, ms)),
    }
}

fn out_of_range(what: &str, value: i64) -> ClientError {
    ClientError::new(Code::BadBody, format!("IDENTIFY {what} ({value}) is invalid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> String {
        Identify::parse(body.as_bytes(), &Options::default()).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_object_and_null_mean_the_defaults() {
        for body in ["{}", "null", r#"{"short_id":"x","heartbeat_interval":null}"#] {
            let identify = Identify::parse(body.as_bytes(), &Options::default()).unwrap();
            assert_eq!(identify.heartbeat_interval, Setting::Default);
            assert_eq!((identify.client_id.as_str(), identify.feature_negotiation), ("", false));
        }
    }

    #[test]
    fn what_is_not_an_object_of_the_right_types_does_not_decode() {
        let bodies =
            ["[]", "\"x\"", "{", "{} {}", r#"{"client_id":1}"#, r#"{"msg_timeout":1000.0}"#];
        for body in
            bodies.into_iter().chain([r#"{"msg_timeout":"1000"}"#, r#"{"sample_rate":4294967296}"#])
        {
            assert_eq!(refusal(body), "E_BAD_BODY IDENTIFY failed to decode JSON body", "{body}");
        }
    }

    #[test]
    fn values_out_of_range_are_named() {
        for (field, values, text) in [
            ("heartbeat_interval", [999, 60_001, -2], "heartbeat interval"),
            ("output_buffer_timeout", [24, 30_001, -2], "output buffer timeout"),
            ("output_buffer_size", [63, 65_537, -2], "output buffer size"),
            ("sample_rate", [-1, 100, 1000], "sample rate"),
            ("msg_timeout", [999, 900_001, -1], "msg timeout"),
        ] {
            for value in values {
                let body = format!("{{\"{field}\":{value}}}");
                assert_eq!(
                    refusal(&body),
                    format!("E_BAD_BODY IDENTIFY {text} ({value}) is invalid")
                );
            }
        }
    }

    #[test]
    fn keys_match_in_any_case_and_minus_one_switches_off() {
        let body = br#"{"Heartbeat_Interval":-1,"OUTPUT_BUFFER_SIZE":-1,"output_buffer_timeout":25,"Msg_Timeout":900000}"#;
        let identify = Identify::parse(body, &Options::default()).unwrap();
        assert_eq!(identify.heartbeat_interval, Setting::Off);
        assert_eq!(identify.output_buffer_bytes, Setting::Off);
        assert_eq!(identify.output_buffer_timeout, Setting::Value(Duration::from_millis(25)));
        assert_eq!(identify.msg_timeout, Some(Duration::from_secs(900)));
    }
}
