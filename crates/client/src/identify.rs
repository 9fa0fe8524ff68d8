//! IDENTIFY: the description of the client, and nsqd's answer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{config::Config, tls::TlsMode};

/// The highest RDY count that nsqd accepts if it does not say.
const RDY_COUNT_MAX_DEFAULT: u32 = 2500;

/// The body of IDENTIFY, with NSQ's keys. All of them are always sent.
#[derive(Serialize)]
struct Identify<'a> {
    client_id: &'a str,
    deflate: bool,
    deflate_level: u8,
    feature_negotiation: bool,
    heartbeat_interval: i64,
    hostname: &'a str,
    long_id: &'a str,
    msg_timeout: i64,
    output_buffer_size: i64,
    output_buffer_timeout: i64,
    sample_rate: u8,
    short_id: &'a str,
    snappy: bool,
    tls_v1: bool,
    topology_region: &'a str,
    topology_zone: &'a str,
    user_agent: &'a str,
}

/// The features that nsqd is asked to enable.
#[derive(Copy, Clone)]
pub(crate) struct Wanted {
    tls_v1: bool,
    deflate: bool,
    snappy: bool,
}

impl Wanted {
    pub(crate) fn from_config(config: &Config) -> Self {
        let tls_v1 = config.tls_mode() != TlsMode::Off;
        Self { tls_v1, deflate: config.deflate, snappy: config.snappy }
    }
}

/// Encodes the body of IDENTIFY for `config`.
pub(crate) fn identify_body(config: &Config, wanted: Wanted) -> Vec<u8> {
    let uname = rustix::system::uname();
    let system_name = uname.nodename().to_string_lossy();
    let hostname = or(&config.hostname, &system_name);
    let client_id = or(&config.client_id, system_name.split('.').next().unwrap_or_default());
    let identify = Identify {
        client_id,
        deflate: wanted.deflate,
        deflate_level: config.deflate_level,
        feature_negotiation: true,
        heartbeat_interval: config.heartbeat_interval.map_or(-1, whole_ms),
        hostname,
        long_id: hostname,
        msg_timeout: whole_ms(config.msg_timeout),
        output_buffer_size: config.output_buffer_size,
        output_buffer_timeout: config.output_buffer_timeout.map_or(-1, whole_ms),
        sample_rate: config.sample_rate,
        short_id: client_id,
        snappy: wanted.snappy,
        tls_v1: wanted.tls_v1,
        topology_region: &config.topology_region,
        topology_zone: &config.topology_zone,
        user_agent: or(
            &config.user_agent,
            concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")),
        ),
    };
    serde_json::to_vec(&identify).expect("text and numbers always serialize")
}

fn or<'a>(chosen: &'a str, default: &'a str) -> &'a str {
    if chosen.is_empty() { default } else { chosen }
}

fn whole_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// nsqd's answer to IDENTIFY. Fields that it did not send have their defaults.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct IdentifyResponse {
    /// The highest RDY count that nsqd accepts: the most messages it sends ahead on one connection.
    pub max_rdy_count: u32,
    /// nsqd's version; empty if it did not send it.
    pub version: String,
    /// The longest time that a message can be kept by touching it, in milliseconds.
    pub max_msg_timeout: u64,
    /// How long nsqd waits for a message to be answered, in milliseconds.
    pub msg_timeout: u64,
    /// Whether the connection is upgraded to TLS.
    pub tls_v1: bool,
    /// Whether the connection is compressed with deflate.
    pub deflate: bool,
    /// The compression level that nsqd uses.
    pub deflate_level: u32,
    /// The highest compression level that nsqd allows.
    pub max_deflate_level: u32,
    /// Whether the connection is compressed with snappy.
    pub snappy: bool,
    /// The percentage of messages that nsqd sends; 0 for all.
    pub sample_rate: u32,
    /// Whether nsqd requires AUTH.
    pub auth_required: bool,
    /// The size of nsqd's write buffer for this connection, in bytes.
    pub output_buffer_size: i64,
    /// How long nsqd may buffer a message, in milliseconds.
    pub output_buffer_timeout: i64,
    /// nsqd's region.
    pub topology_region: String,
    /// nsqd's zone.
    pub topology_zone: String,
    /// nsqd's answer to AUTH, if it required that.
    #[serde(skip)]
    pub auth: Option<AuthResponse>,
}

/// nsqd's answer to AUTH. Fields that it did not send have their defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct AuthResponse {
    /// The identity that the authorization server associates with the secret.
    pub identity: String,
    /// A URL with information about the identity.
    pub identity_url: String,
    /// The number of permissions that the identity has.
    pub permission_count: u64,
}

impl Default for IdentifyResponse {
    fn default() -> Self {
        Self {
            max_rdy_count: RDY_COUNT_MAX_DEFAULT,
            version: String::new(),
            max_msg_timeout: 0,
            msg_timeout: 0,
            tls_v1: false,
            deflate: false,
            deflate_level: 0,
            max_deflate_level: 0,
            snappy: false,
            sample_rate: 0,
            auth_required: false,
            output_buffer_size: 0,
            output_buffer_timeout: 0,
            topology_region: String::new(),
            topology_zone: String::new(),
            auth: None,
        }
    }
}

impl IdentifyResponse {
    /// Parses the answer: a JSON object, or anything else from an nsqd that does not negotiate features.
    pub(crate) fn parse(data: &[u8]) -> Result<Self, String> {
        match data.first() {
            None => Err("it is empty".to_owned()),
            Some(b'{') => serde_json::from_slice(data).map_err(|error| error.to_string()),
            Some(_) => Ok(Self::default()),
        }
    }

    /// Returns a feature that nsqd enabled without being asked, if any.
    pub(crate) fn unrequested_feature(&self, wanted: Wanted) -> Option<&'static str> {
        self.features(wanted).find_map(|(name, wanted, on)| (on && !wanted).then_some(name))
    }

    /// Returns the features that nsqd was asked to enable and did not.
    pub(crate) fn refused_features(&self, wanted: Wanted) -> impl Iterator<Item = &'static str> {
        self.features(wanted).filter_map(|(name, wanted, on)| (wanted && !on).then_some(name))
    }

    /// Returns the name of each feature, whether it was requested, and whether nsqd enabled it.
    fn features(&self, wanted: Wanted) -> impl Iterator<Item = (&'static str, bool, bool)> {
        [
            ("tls_v1", wanted.tls_v1, self.tls_v1),
            ("deflate", wanted.deflate, self.deflate),
            ("snappy", wanted.snappy, self.snappy),
        ]
        .into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_are_missing_or_unknown_do_no_harm() {
        let parsed = IdentifyResponse::parse(br#"{"version":"1.3.0","novel":[1]}"#).unwrap();
        let expected = IdentifyResponse { version: "1.3.0".to_owned(), ..Default::default() };
        assert_eq!(parsed, expected);
        assert_eq!(parsed.max_rdy_count, 2500);
        assert_eq!(IdentifyResponse::parse(b"OK"), Ok(IdentifyResponse::default()));
    }

    #[test]
    fn an_empty_or_broken_answer_is_an_error() {
        assert!(IdentifyResponse::parse(b"").is_err());
        assert!(IdentifyResponse::parse(b"{").is_err());
    }
}
