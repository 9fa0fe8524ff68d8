//! IDENTIFY: what nsqd is told about the client, and what it answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{config::Config, tls::TlsMode};

/// The most messages that may be ready on a connection when nsqd does not say.
const RDY_COUNT_MAX_DEFAULT: u32 = 2500;

/// The body of IDENTIFY; the keys are those of NSQ, all always there.
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

/// The features that nsqd is asked to switch on.
#[derive(Copy, Clone)]
pub(crate) struct Wanted {
    tls_v1: bool,
    deflate: bool,
    snappy: bool,
}

impl Wanted {
    /// What `config` asks for.
    pub(crate) fn of(config: &Config) -> Self {
        let tls_v1 = config.tls_mode() != TlsMode::Off;
        Self { tls_v1, deflate: config.deflate, snappy: config.snappy }
    }
}

/// The body of IDENTIFY for `config`.
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

/// What nsqd answered to IDENTIFY. Fields it did not send have their defaults.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct IdentifyResponse {
    /// The most messages that nsqd sends ahead on one connection.
    pub max_rdy_count: u32,
    /// nsqd's version, empty when it did not say.
    pub version: String,
    /// The longest a message can be kept by touching it, in milliseconds.
    pub max_msg_timeout: u64,
    /// How long nsqd waits for an answer to a message, in milliseconds.
    pub msg_timeout: u64,
    /// Whether the connection goes on in TLS.
    pub tls_v1: bool,
    /// Whether the connection goes on deflated.
    pub deflate: bool,
    /// The compression level nsqd uses.
    pub deflate_level: u32,
    /// The highest compression level nsqd allows.
    pub max_deflate_level: u32,
    /// Whether the connection goes on in snappy framing.
    pub snappy: bool,
    /// The percentage of messages nsqd sends; 0 for all.
    pub sample_rate: u32,
    /// Whether nsqd wants AUTH before anything else.
    pub auth_required: bool,
    /// Bytes of nsqd's write buffer for this connection.
    pub output_buffer_size: i64,
    /// How long nsqd may hold a message back, in milliseconds.
    pub output_buffer_timeout: i64,
    /// nsqd's region.
    pub topology_region: String,
    /// nsqd's zone.
    pub topology_zone: String,
    /// Who the client is to nsqd, when it wanted AUTH.
    #[serde(skip)]
    pub auth: Option<AuthResponse>,
}

/// What nsqd answered to AUTH. Fields it did not send have their defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct AuthResponse {
    /// Whom the secret belongs to, as the authorization server calls them.
    pub identity: String,
    /// Where to read about them.
    pub identity_url: String,
    /// How many permissions they have.
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
    /// Reads the answer: a JSON object, or anything else from an nsqd that does not negotiate.
    pub(crate) fn parse(data: &[u8]) -> Result<Self, String> {
        match data.first() {
            None => Err("it is empty".to_owned()),
            Some(b'{') => serde_json::from_slice(data).map_err(|error| error.to_string()),
            Some(_) => Ok(Self::default()),
        }
    }

    /// A feature that nsqd switched on without having been asked.
    pub(crate) fn unrequested_feature(&self, wanted: Wanted) -> Option<&'static str> {
        self.features(wanted).find_map(|(name, wanted, on)| (on && !wanted).then_some(name))
    }

    /// The features that nsqd was asked for and did not switch on.
    pub(crate) fn refused_features(&self, wanted: Wanted) -> impl Iterator<Item = &'static str> {
        self.features(wanted).filter_map(|(name, wanted, on)| (wanted && !on).then_some(name))
    }

    /// Each feature, whether it was asked for, and whether nsqd switched it on.
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
