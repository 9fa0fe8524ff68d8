//! The configuration of consumers and producers, with NSQ's names and defaults.

mod option;
mod secret;
mod table;

use std::{net::SocketAddr, time::Duration};

use nsq_options::duration;

use self::table::OPTIONS;
pub use self::{
    option::{ConfigOption, OptionValue},
    secret::Secret,
};
use crate::{
    backoff::Backoff,
    tls::{TlsConfig, TlsConfigError, TlsMode},
};

/// The configuration of a [`Consumer`](crate::Consumer) or [`Producer`](crate::Producer).
///
/// Set fields directly, or by their NSQ names with [`Config::set`]. The configuration is checked and copied when a
/// consumer or producer is built; later changes have no effect on it.
///
/// ```
/// use nsq_client::Config;
///
/// let mut config = Config { max_in_flight: 200, ..Config::default() };
/// config.set("msg-timeout", "90s")?;
/// assert!(config.set("sample_rate", "100").is_err());
/// # Ok::<(), nsq_client::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The time limit for a TCP connect, including name resolution; zero for no limit. Default 1 s.
    pub dial_timeout: Duration,
    /// The time limit for the handshake after dialing, from IDENTIFY to the answer to SUB. Default 10 s.
    pub handshake_timeout: Duration,
    /// A connection counts as lost if nothing is received for this long, not even a heartbeat. Default 60 s.
    pub read_timeout: Duration,
    /// A connection counts as lost if nothing can be written to it for this long. Default 1 s.
    pub write_timeout: Duration,
    /// The local address to dial from; `None`, the default, leaves it to the system.
    pub local_addr: Option<SocketAddr>,
    /// How often nsqlookupds are asked for the topic's nsqds. Default 60 s.
    ///
    /// Also the longest delay between attempts to reconnect to an nsqd. The first attempt follows after 100 ms; each
    /// delay is twice the one before.
    pub lookupd_poll_interval: Duration,
    /// The first poll is delayed by a random part of this fraction of `lookupd_poll_interval`, so that many consumers
    /// do not ask at the same moment. From 0 to 1, default 0.3.
    pub lookupd_poll_jitter: f64,
    /// The time limit for a request to an nsqlookupd; zero for no limit. Connecting is also limited by `dial_timeout`.
    /// Default 60 s.
    pub lookupd_poll_timeout: Duration,
    /// The longest delay of an automatic requeue. Default 15 min.
    pub max_requeue_delay: Duration,
    /// The delay of an automatic requeue, multiplied by the number of attempts. Default 90 s.
    pub default_requeue_delay: Duration,
    /// The growth of the pauses of backing off. Default [`Backoff::Exponential`].
    ///
    /// After a message fails, all connections pause; then a single message is tried, whose outcome makes the next pause
    /// longer or shorter.
    pub backoff_strategy: Backoff,
    /// The longest pause of backing off; zero disables backing off. Default 2 min.
    pub max_backoff_duration: Duration,
    /// The unit of the backoff strategy. Unless the strategy is custom, the first pause is twice as long. Default 1 s.
    pub backoff_multiplier: Duration,
    /// A message with more attempts than this is given up; 0 for no limit. Default 5.
    pub max_attempts: u16,
    /// With more connections than `max_in_flight`, the connections take turns; a connection that has received nothing
    /// for this long ends its turn. Default 10 s.
    pub low_rdy_idle_timeout: Duration,
    /// With more connections than `max_in_flight`, a connection ends its turn after this long even if it receives
    /// messages. Default 30 s.
    ///
    /// If `max_in_flight` cannot be divided evenly, this is also how often the remainder moves to other connections.
    pub low_rdy_timeout: Duration,
    /// With more connections than `max_in_flight`, how often turns are checked for their end. Default 5 s.
    pub rdy_redistribute_interval: Duration,
    /// The name of this client in nsqd's statistics. Defaults to the first label of the host name.
    pub client_id: String,
    /// The host name sent to nsqd. Defaults to that of the system.
    pub hostname: String,
    /// The description of the program sent to nsqd. Defaults to this crate and its version.
    pub user_agent: String,
    /// The region of this client, for nsqds that prefer nearby consumers. Default empty.
    pub topology_region: String,
    /// The zone of this client within its region. Default empty.
    pub topology_zone: String,
    /// How often nsqd sends a heartbeat; `None`, which only producers may use, for never. Default 30 s.
    pub heartbeat_interval: Option<Duration>,
    /// The percentage of the channel's messages to receive; 0, the default, for all.
    pub sample_rate: u8,
    /// Request TLS, and continue without it, with a warning, if nsqd does not offer it. Off by default.
    ///
    /// TLS is required, not just requested, if anything is set in `tls_config`.
    pub tls_v1: bool,
    /// The use of TLS, overriding `tls_v1` and `tls_config`; `None` by default. See [`Config::tls_mode`].
    pub tls: Option<TlsMode>,
    /// The configuration of TLS.
    pub tls_config: TlsConfig,
    /// Request compression with deflate. Cannot be combined with `snappy`. Off by default.
    pub deflate: bool,
    /// The level of deflate in both directions, from 1 to 9; nsqd may have a lower limit. Default 6.
    pub deflate_level: u8,
    /// Request compression with snappy. Cannot be combined with `deflate`. Off by default.
    pub snappy: bool,
    /// The secret for authorization, sent to nsqds that ask for it.
    pub auth_secret: Secret,
    /// Send `auth_secret` to nsqlookupds too, as a bearer token. On by default.
    ///
    /// NSQ's name for this option, `skip_lookupd_authorization`, says the opposite of its effect: true sends the
    /// secret.
    pub lookupd_authorization: bool,
    /// The size of nsqd's write buffer for this client, in bytes; -1 for none, 0 for nsqd's default. Default 16 KiB.
    pub output_buffer_size: i64,
    /// How long nsqd may buffer a message before it flushes; zero for nsqd's default, `None` to flush only full
    /// buffers. Default 250 ms.
    pub output_buffer_timeout: Option<Duration>,
    /// The number of messages that may be in flight over all connections; 0 pauses the consumer. Default 1.
    pub max_in_flight: u32,
    /// How long nsqd waits for a message to be answered before it delivers the message again; zero, the default, for
    /// nsqd's setting.
    pub msg_timeout: Duration,
    /// The largest frame to accept, in bytes; 0, the default, for 16 MiB.
    pub max_msg_size: u32,
    /// The most publishes that a producer has in flight; further ones wait. Default 10,000.
    pub max_outstanding: u32,
    /// The most bytes of messages that a producer has in flight; further publishes wait. Default 16 MiB.
    pub max_outstanding_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dial_timeout: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(1),
            local_addr: None,
            lookupd_poll_interval: Duration::from_secs(60),
            lookupd_poll_jitter: 0.3,
            lookupd_poll_timeout: Duration::from_secs(60),
            max_requeue_delay: Duration::from_secs(15 * 60),
            default_requeue_delay: Duration::from_secs(90),
            backoff_strategy: Backoff::Exponential,
            max_backoff_duration: Duration::from_secs(2 * 60),
            backoff_multiplier: Duration::from_secs(1),
            max_attempts: 5,
            low_rdy_idle_timeout: Duration::from_secs(10),
            low_rdy_timeout: Duration::from_secs(30),
            rdy_redistribute_interval: Duration::from_secs(5),
            client_id: String::new(),
            hostname: String::new(),
            user_agent: String::new(),
            topology_region: String::new(),
            topology_zone: String::new(),
            heartbeat_interval: Some(Duration::from_secs(30)),
            sample_rate: 0,
            tls_v1: false,
            tls: None,
            tls_config: TlsConfig::default(),
            deflate: false,
            deflate_level: 6,
            snappy: false,
            auth_secret: Secret::default(),
            lookupd_authorization: true,
            output_buffer_size: 16 * 1024,
            output_buffer_timeout: Some(Duration::from_millis(250)),
            max_in_flight: 1,
            msg_timeout: Duration::ZERO,
            max_msg_size: 0,
            max_outstanding: 10_000,
            max_outstanding_bytes: 16 << 20,
        }
    }
}

impl Config {
    /// Sets an option by its NSQ name, in which `-` and `_` are equivalent.
    ///
    /// A duration is text with units (`1m30s`) or a number of milliseconds.
    ///
    /// # Errors
    /// Returns [`ConfigError`], leaving the configuration unchanged, for an unknown option and for a value of the wrong
    /// type or out of bounds.
    pub fn set(&mut self, name: &str, value: impl Into<OptionValue>) -> Result<(), ConfigError> {
        let (name, value) = (name.replace('-', "_"), value.into());
        let Some(option) = OPTIONS.iter().find(|option| option.name == name) else {
            return Err(ConfigError::Unknown(name));
        };
        let mut changed = self.clone();
        option.set(&mut changed, &value)?;
        option.check(&changed)?;
        changed.check_features()?;
        *self = changed;
        Ok(())
    }

    /// Sets an option given on a command line.
    ///
    /// # Errors
    /// Returns the same errors as [`Config::set`].
    pub fn apply(&mut self, option: &ConfigOption) -> Result<(), ConfigError> {
        self.set(&option.name, option.value.clone())
    }

    /// Checks the bounds of every option and that the options are consistent.
    ///
    /// # Errors
    /// Returns [`ConfigError::TooSmall`] or [`ConfigError::TooBig`] for the first option out of bounds, or
    /// [`ConfigError::HeartbeatTooLong`], [`ConfigError::TwoCompressions`], [`ConfigError::MissingFeature`], or
    /// [`ConfigError::Tls`] if the files for TLS cannot be used.
    pub fn validate(&self) -> Result<(), ConfigError> {
        OPTIONS.iter().try_for_each(|option| option.check(self))?;
        self.check_features()?;
        if self.deflate && self.snappy {
            return Err(ConfigError::TwoCompressions);
        }
        self.tls_config.check(self.tls_mode() != TlsMode::Off)?;
        match self.heartbeat_interval {
            Some(heartbeat) if heartbeat > self.read_timeout => {
                Err(ConfigError::HeartbeatTooLong { heartbeat, read_timeout: self.read_timeout })
            }
            _ => Ok(()),
        }
    }

    /// Returns whether connections use TLS: the value of `tls` if set; otherwise required if anything is set in
    /// `tls_config`, preferred if `tls_v1` is set, and off if neither is.
    pub fn tls_mode(&self) -> TlsMode {
        match self.tls {
            Some(mode) => mode,
            None if self.tls_config != TlsConfig::default() => TlsMode::Required,
            None if self.tls_v1 => TlsMode::Preferred,
            None => TlsMode::Off,
        }
    }

    /// Checks that this build of the crate has the cargo features that the configuration needs.
    fn check_features(&self) -> Result<(), ConfigError> {
        if !cfg!(feature = "tls") && self.tls_mode() != TlsMode::Off {
            return Err(ConfigError::MissingFeature("tls"));
        }
        if !cfg!(feature = "compression") && (self.deflate || self.snappy) {
            return Err(ConfigError::MissingFeature("compression"));
        }
        Ok(())
    }
}

/// The reason why a configuration is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no option of this name.
    #[error("invalid option {0}")]
    Unknown(String),
    /// The value has the wrong type for the option.
    #[error("failed to coerce option {option} ({value}) - {reason}")]
    WrongKind {
        /// The option's name.
        option: &'static str,
        /// The value, as text.
        value: String,
        /// The mistake.
        reason: String,
    },
    /// The value is below the option's lower bound.
    #[error("invalid {option} ! {value} < {min}")]
    TooSmall {
        /// The option's name.
        option: &'static str,
        /// The value.
        value: String,
        /// The smallest value allowed.
        min: String,
    },
    /// The value is above the option's upper bound.
    #[error("invalid {option} ! {value} > {max}")]
    TooBig {
        /// The option's name.
        option: &'static str,
        /// The value.
        value: String,
        /// The largest value allowed.
        max: String,
    },
    /// Heartbeats would be so rare that a healthy connection counts as lost.
    #[error(
        "HeartbeatInterval {} must be less than ReadTimeout {}",
        duration::format(*.heartbeat),
        duration::format(*.read_timeout)
    )]
    HeartbeatTooLong {
        /// `heartbeat_interval`.
        heartbeat: Duration,
        /// `read_timeout`.
        read_timeout: Duration,
    },
    /// Both `deflate` and `snappy` are set.
    #[error("deflate and snappy cannot both be used")]
    TwoCompressions,
    /// The configuration needs this cargo feature, which the crate was built without.
    #[error("nsq-client was built without its feature {0:?}")]
    MissingFeature(&'static str),
    /// The TLS configuration is invalid.
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
    /// A topic or channel name is invalid.
    #[error(transparent)]
    Name(#[from] nsq_protocol::InvalidName),
}
