//! What nsqlookupd can be told on its command line and in its configuration file.

use std::time::Duration;

use nsq_daemon::{
    log::Level,
    options::{OptionDef, Parsed},
};

/// The options of nsqlookupd, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `--tcp-address`: where nsqd announces itself.
    pub tcp_address: String,
    /// `--http-address`: where consumers and tools ask.
    pub http_address: String,
    /// `--broadcast-address`: told to nsqd, which asks there for the channels of a new topic.
    pub broadcast_address: String,
    /// `--inactive-producer-timeout`: a producer that has been silent for longer is hidden.
    pub inactive_producer_timeout: Duration,
    /// `--tombstone-lifetime`: how long a tombstone hides a producer.
    pub tombstone_lifetime: Duration,
}

impl Options {
    /// Every option nsqlookupd knows.
    pub fn definitions() -> Vec<OptionDef> {
        vec![
            OptionDef::config_file(),
            OptionDef::bool("version", false, "print the version and exit").not_in_config(),
            OptionDef::custom("log-level", "info", "debug, info, warn, error or fatal")
                .checked(|text| text.parse::<Level>().map(drop).map_err(|error| error.to_string())),
            OptionDef::string(
                "log-prefix",
                "[nsqlookupd] ",
                "what every line of the log begins with",
            ),
            OptionDef::bool("verbose", false, "accepted for old start scripts, without effect")
                .not_in_config(),
            OptionDef::address(
                "tcp-address",
                "0.0.0.0:4160",
                "address to listen on for nsqd to announce itself",
            ),
            OptionDef::address(
                "http-address",
                "0.0.0.0:4161",
                "address to listen on for HTTP clients",
            ),
            OptionDef::string(
                "broadcast-address",
                host_name(),
                "address that this nsqlookupd is known by to others",
            )
            .default_shown_as("the host name"),
            OptionDef::duration(
                "inactive-producer-timeout",
                "5m",
                "time without a sign of life after which a producer is hidden",
            ),
            OptionDef::duration(
                "tombstone-lifetime",
                "45s",
                "time for which a tombstone hides a producer of a topic",
            ),
        ]
    }

    /// The options from a parsed command line.
    pub fn from_parsed(parsed: &Parsed) -> Self {
        Self {
            tcp_address: parsed.string("tcp-address").to_owned(),
            http_address: parsed.string("http-address").to_owned(),
            broadcast_address: parsed.string("broadcast-address").to_owned(),
            inactive_producer_timeout: parsed.duration("inactive-producer-timeout"),
            tombstone_lifetime: parsed.duration("tombstone-lifetime"),
        }
    }
}

impl Default for Options {
    /// What nsqlookupd does without any option.
    ///
    /// # Panics
    /// Never: no argument is no mistake.
    fn default() -> Self {
        let options = nsq_daemon::options::Options::new("nsqlookupd", Self::definitions());
        let parsed = options.parse(Vec::<String>::new()).expect("no argument is no mistake");
        Self::from_parsed(&parsed)
    }
}

/// The name the operating system gives this host.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
