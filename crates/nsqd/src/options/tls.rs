//! The options of TLS.

use nsq_daemon::tls::MinVersion;
use nsq_options::{Kind, Setting, Value, read_bool};

/// The clients that have to use TLS.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TlsRequired {
    /// None.
    No,
    /// Clients of the TCP port; plain HTTP stays open.
    ExceptHttp,
    /// Clients of the TCP port and of HTTP.
    Yes,
}

impl TlsRequired {
    /// The number that `/config` shows.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::No => 0,
            Self::ExceptHttp => 1,
            Self::Yes => 2,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.to_lowercase();
        if text == "tcp-https" {
            return Some(Self::ExceptHttp);
        }
        Some(if read_bool(&text)? { Self::Yes } else { Self::No })
    }
}

impl Setting for TlsRequired {
    const KIND: Kind = Kind::CustomSwitch;

    fn check(text: &str) -> Result<(), String> {
        let problem = || format!("invalid TLS policy '{text}' (true, false, tcp-https)");
        Self::parse(text).map(drop).ok_or_else(problem)
    }

    fn into_value(self) -> Value {
        let word = match self {
            Self::No => "false",
            Self::ExceptHttp => "tcp-https",
            Self::Yes => "true",
        };
        Value::Text(word.to_owned())
    }

    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Text(text) => Self::parse(&text),
            _ => None,
        }
    }
}

/// The oldest version of TLS that clients may use.
///
/// TLS 1.0 and 1.1 can be named, as scripts for NSQ do, but are not spoken: RFC 8996 deprecates them.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TlsMinVersion {
    /// `tls1.0`
    Tls10,
    /// `tls1.1`
    Tls11,
    /// `tls1.2`
    Tls12,
    /// `tls1.3`
    Tls13,
}

impl TlsMinVersion {
    const WORDS: [(&str, Self); 4] = [
        ("tls1.0", Self::Tls10),
        ("tls1.1", Self::Tls11),
        ("tls1.2", Self::Tls12),
        ("tls1.3", Self::Tls13),
    ];

    /// The number of the version in the TLS protocol, as `/config` shows it.
    pub(crate) fn number(self) -> u16 {
        0x0301 + self as u16
    }

    /// The oldest version that is spoken.
    pub(crate) fn spoken(self) -> MinVersion {
        match self {
            Self::Tls10 | Self::Tls11 | Self::Tls12 => MinVersion::Tls12,
            Self::Tls13 => MinVersion::Tls13,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::Tls10);
        }
        let text = text.to_lowercase();
        Self::WORDS.into_iter().find(|(word, _)| *word == text).map(|(_, version)| version)
    }
}

impl Setting for TlsMinVersion {
    const KIND: Kind = Kind::Custom;

    fn check(text: &str) -> Result<(), String> {
        let problem = || format!("unknown TLS version '{text}' (tls1.0, tls1.1, tls1.2, tls1.3)");
        Self::parse(text).map(drop).ok_or_else(problem)
    }

    fn into_value(self) -> Value {
        let word = Self::WORDS.into_iter().find(|(_, version)| *version == self);
        Value::Text(word.map_or("", |(word, _)| word).to_owned())
    }

    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Text(text) => Self::parse(&text),
            _ => None,
        }
    }
}

/// The options of TLS. Paths are empty when they are not given.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// `--tls-cert`: the file with the certificate chain, in PEM.
    pub cert: String,
    /// `--tls-key`: the file with the private key, in PEM.
    pub key: String,
    /// `--tls-client-auth-policy`: `require`, `require-verify` or empty.
    pub client_auth_policy: String,
    /// `--tls-root-ca-file`: the authorities that client certificates are verified against, in PEM; empty for those of
    /// the system.
    pub root_ca_file: String,
    /// `--tls-required`.
    pub required: TlsRequired,
    /// `--tls-min-version`.
    pub min_version: TlsMinVersion,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            cert: String::new(),
            key: String::new(),
            client_auth_policy: String::new(),
            root_ca_file: String::new(),
            required: TlsRequired::No,
            min_version: TlsMinVersion::Tls10,
        }
    }
}
