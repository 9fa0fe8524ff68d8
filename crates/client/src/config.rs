//! What an application can choose, with NSQ's names and defaults.

mod duration;
mod option;
mod secret;
mod table;

use std::{net::SocketAddr, time::Duration};

pub(crate) use self::duration::format_duration;
use self::table::OPTIONS;
pub use self::{
    option::{ConfigOption, OptionValue},
    secret::Secret,
};
use crate::{
    backoff::Backoff,
    tls::{TlsConfig, TlsConfigError, TlsMode},
};

/// The options of a [`Consumer`](crate::Consumer) or [`Producer`](crate::Producer).
///
/// Set fields directly or by their NSQ names with [`Config::set`]; either way the bounds are checked again when a
/// consumer or producer is built, and the configuration is copied then, so that later changes have no effect.
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
    /// The longest that one TCP connect may take, name resolution included; zero for no limit.
    pub dial_timeout: Duration,
    /// The longest that dialing is followed by IDENTIFY and SUB until both are answered.
    pub handshake_timeout: Duration,
    /// How long nsqd may be silent, heartbeats included, before the connection counts as lost.
    pub read_timeout: Duration,
    /// How long nsqd may take nothing of what is written to it before the connection counts as lost.
    pub write_timeout: Duration,
    /// The local address to dial from; `None` leaves it to the system.
    pub local_addr: Option<SocketAddr>,
    /// How often nsqlookupds are asked for the topic's nsqds. Also the longest pause between two attempts to reconnect
    /// to an nsqd; the first follows after 100 ms, each later one after twice the pause before.
    pub lookupd_poll_interval: Duration,
    /// Polling nsqlookupds starts after a random part of this fraction of `lookupd_poll_interval`, so that many
    /// consumers do not ask at the same moment; from 0 to 1.
    pub lookupd_poll_jitter: f64,
    /// The longest that one request to an nsqlookupd may take; zero for no limit. Connecting to it is limited by
    /// `dial_timeout` besides.
    pub lookupd_poll_timeout: Duration,
    /// The longest delay of an automatic requeue.
    pub max_requeue_delay: Duration,
    /// The delay of an automatic requeue for each attempt made.
    pub default_requeue_delay: Duration,
    /// How the pauses of backing off grow: after a handler fails, all connections pause, then a single message is tried,
    /// and its outcome makes the next pause longer or shorter.
    pub backoff_strategy: Backoff,
    /// The longest pause of backing off; zero for never backing off.
    pub max_backoff_duration: Duration,
    /// The unit of the backoff strategy: the first pause is twice as long, unless the strategy says otherwise.
    pub backoff_multiplier: Duration,
    /// Give up on a message when its attempts exceed this; 0 never gives up.
    pub max_attempts: u16,
    /// With more connections than `max_in_flight`, only some of them may have a message in flight at a time: one that
    /// has received none for this long lets another one have its turn.
    pub low_rdy_idle_timeout: Duration,
    /// With more connections than `max_in_flight`, a connection lets another one have its turn after this long, even if
    /// it receives messages. Also how often the connections change that have one message more than others because
    /// `max_in_flight` cannot be divided evenly.
    pub low_rdy_timeout: Duration,
    /// With more connections than `max_in_flight`, how often is looked whose turn is over.
    pub rdy_redistribute_interval: Duration,
    /// What nsqd calls this client in its statistics; the first label of the host name when empty.
    pub client_id: String,
    /// The host name nsqd is told; that of the system when empty.
    pub hostname: String,
    /// What nsqd is told about the program; this crate and its version when empty.
    pub user_agent: String,
    /// The region this client is in, for nsqds that prefer consumers close by.
    pub topology_region: String,
    /// The zone within the region this client is in.
    pub topology_zone: String,
    /// How often nsqd sends a heartbeat; `None` for never, which only a producer may ask for.
    pub heartbeat_interval: Option<Duration>,
    /// The percentage of a channel's messages to receive; 0 for all.
    pub sample_rate: u8,
    /// Ask nsqd for TLS, and go on without it, with a warning, if it has none. TLS is required instead when anything
    /// is set in `tls_config`.
    pub tls_v1: bool,
    /// Whether to use TLS, whatever `tls_v1` and `tls_config` imply; `None` leaves it to them.
    pub tls: Option<TlsMode>,
    /// How TLS is done.
    pub tls_config: TlsConfig,
    /// Ask nsqd to compress with deflate; not together with `snappy`.
    pub deflate: bool,
    /// How hard deflate tries, from 1 to 9, both here and in nsqd, which may have a lower limit.
    pub deflate_level: u8,
    /// Ask nsqd to compress with snappy; not together with `deflate`.
    pub snappy: bool,
    /// The secret to authorize with, sent to those nsqds that ask for it.
    pub auth_secret: Secret,
    /// Whether nsqlookupds get `auth_secret` too, as a bearer token. NSQ's name for this option,
    /// `skip_lookupd_authorization`, says the opposite of what it does: true sends the secret.
    pub lookupd_authorization: bool,
    /// Bytes of nsqd's write buffer for this client; -1 for none, 0 for nsqd's default.
    pub output_buffer_size: i64,
    /// How long nsqd may hold a message back to fill its write buffer; zero for nsqd's default, `None` for never
    /// flushing by time.
    pub output_buffer_timeout: Option<Duration>,
    /// How many messages may be in flight over all connections together; 0 for none until it is raised.
    pub max_in_flight: u32,
    /// How long nsqd waits for an answer to a message before it is delivered again; zero for nsqd's default.
    pub msg_timeout: Duration,
    /// The largest frame to accept, in bytes; 0 for 256 MiB.
    pub max_msg_size: u32,
    /// How many publishes a producer has waiting for their answers before further ones wait for their turn.
    pub max_outstanding: u32,
    /// How many bytes of messages a producer has waiting for their answers before further ones wait.
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
    /// Sets an option by its NSQ name, in which `-` and `_` are the same.
    ///
    /// Durations are text with units (`1m30s`) or a number of milliseconds.
    ///
    /// # Errors
    /// [`ConfigError`] for a name that is no option, and for a value of the wrong kind or out of bounds; the
    /// configuration is unchanged then.
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

    /// Sets the option that a command line names.
    ///
    /// # Errors
    /// As [`Config::set`].
    pub fn apply(&mut self, option: &ConfigOption) -> Result<(), ConfigError> {
        self.set(&option.name, option.value.clone())
    }

    /// Checks the bounds of every option and that the options fit each other.
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`] or [`ConfigError::TooBig`] for the first option out of bounds,
    /// [`ConfigError::HeartbeatTooLong`], [`ConfigError::TwoCompressions`], [`ConfigError::MissingFeature`], and
    /// [`ConfigError::Tls`] when the files for TLS cannot be used.
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

    /// Whether connections use TLS: `tls`, or else required when anything is set in `tls_config`, or else preferred
    /// when `tls_v1` is set.
    pub fn tls_mode(&self) -> TlsMode {
        match self.tls {
            Some(mode) => mode,
            None if self.tls_config != TlsConfig::default() => TlsMode::Required,
            None if self.tls_v1 => TlsMode::Preferred,
            None => TlsMode::Off,
        }
    }

    /// Checks that this build of the crate can do what is asked of it.
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

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no option of this name.
    #[error("invalid option {0}")]
    Unknown(String),
    /// The value is not of the option's kind.
    #[error("failed to coerce option {option} ({value}) - {reason}")]
    WrongKind {
        /// The option's name.
        option: &'static str,
        /// The value, as text.
        value: String,
        /// What is wrong with it.
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
    /// Heartbeats would come so seldom that a healthy connection counts as lost.
    #[error(
        "HeartbeatInterval {} must be less than ReadTimeout {}",
        format_duration(*.heartbeat),
        format_duration(*.read_timeout)
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
    /// The configuration needs a cargo feature that this crate was built without; holds the feature.
    #[error("nsq-client was built without its feature {0:?}")]
    MissingFeature(&'static str),
    /// TLS cannot be used as configured.
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
    /// A topic or channel name breaks the rules for names.
    #[error(transparent)]
    Name(#[from] nsq_protocol::InvalidName),
}
