//! Options of every kind, for the tests.
#![expect(clippy::unwrap_used, reason = "a test helper that fails fails the test")]

use std::time::Duration;

use super::{Kind, OptionDef, Parsed, Setting, Table, Value, option};

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    pub(super) deflate: bool,
    pub(super) verbose: bool,
    pub(super) v: bool,
    pub(super) max_rdy_count: i64,
    pub(super) node_id: u16,
    pub(super) max_msg_size: u64,
    pub(super) sample: f64,
    pub(super) msg_timeout: Duration,
    pub(super) idle: Duration,
    pub(super) log_prefix: String,
    pub(super) tcp_address: String,
    pub(super) durability: u8,
    pub(super) lookupd_tcp_address: Vec<String>,
    pub(super) percentile: Vec<String>,
    pub(super) log_level: Level,
    pub(super) consumer_opt: Vec<String>,
    pub(super) tls_required: Policy,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Level(pub(super) &'static str);

impl Setting for Level {
    const KIND: Kind = Kind::Custom;

    fn check(text: &str) -> Result<(), String> {
        let level = Self::from_value(Value::Text(text.to_owned()));
        level.map(drop).ok_or_else(|| format!("invalid log level '{text}'"))
    }

    fn into_value(self) -> Value {
        Value::Text(self.0.to_owned())
    }

    fn from_value(value: Value) -> Option<Self> {
        ["debug", "info"]
            .into_iter()
            .find(|name| value == Value::Text((*name).to_owned()))
            .map(Self)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Policy(pub(super) &'static str);

impl Setting for Policy {
    const KIND: Kind = Kind::CustomSwitch;

    fn check(text: &str) -> Result<(), String> {
        let policy = Self::from_value(Value::Text(text.to_owned()));
        policy.map(drop).ok_or_else(|| "unknown policy".to_owned())
    }

    fn into_value(self) -> Value {
        Value::Text(self.0.to_owned())
    }

    fn from_value(value: Value) -> Option<Self> {
        let names = ["true", "false", "tcp-https"];
        names.into_iter().find(|name| value == Value::Text((*name).to_owned())).map(Self)
    }
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            deflate: true,
            verbose: false,
            v: false,
            max_rdy_count: 2500,
            node_id: 0,
            max_msg_size: 1 << 20,
            sample: 1.0,
            msg_timeout: Duration::from_secs(60),
            idle: Duration::ZERO,
            log_prefix: "[nsqd] ".to_owned(),
            tcp_address: "0.0.0.0:4150".to_owned(),
            durability: 1,
            lookupd_tcp_address: Vec::new(),
            percentile: Vec::new(),
            log_level: Level("info"),
            consumer_opt: Vec::new(),
            tls_required: Policy("false"),
        }
    }
}

const DURABILITIES: [(&str, u8); 3] = [("memory", 0), ("log", 1), ("fsync", 2)];

pub(super) fn table() -> Table<Sample> {
    Table::new(
        "nsqd",
        vec![
            OptionDef::config_file(),
            option!(Sample.deflate, "enable deflate"),
            option!(Sample.verbose, "has no effect").not_in_file(),
            option!(Sample.v, "short"),
            option!(Sample.max_rdy_count, "maximum RDY count"),
            option!(Sample.node_id, "unique part")
                .file_key("id")
                .within_shown(0..=1023, "[0,1024)"),
            option!(Sample.max_msg_size, "maximum size").in_bytes().within(1..=i64::MAX),
            option!(Sample.sample, "share of messages"),
            option!(Sample.msg_timeout, "time to finish").positive(),
            option!(Sample.idle, "no default"),
            option!(Sample.log_prefix, "log message prefix"),
            option!(Sample.tcp_address, "address to listen on"),
            OptionDef::choice(
                "durability",
                |sample: &Sample| sample.durability,
                |sample, value| sample.durability = value,
                &DURABILITIES,
                "what OK means",
            ),
            option!(Sample.lookupd_tcp_address, "lookupd TCP address\n(repeatable)")
                .file_key("nsqlookupd_tcp_addresses"),
            option!(Sample.percentile, "share of latencies")
                .checked(|text| text.parse::<f64>().map(drop).map_err(|error| error.to_string())),
            option!(Sample.log_level, "verbosity").default_shown_as("INFO"),
            option!(Sample.consumer_opt, "option to pass").checked(|text| {
                if text.contains(',') { Ok(()) } else { Err(format!("invalid option {text}")) }
            }),
            option!(Sample.tls_required, "require TLS").default_shown_as(""),
            OptionDef::without_effect("worker-id", false, "has no effect").not_in_file(),
        ],
    )
}

pub(super) fn resolve(parsed: &Parsed) -> Sample {
    table().resolve(parsed).unwrap()
}
