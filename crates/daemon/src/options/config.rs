//! The configuration file: values for options that the command line does not give.

use std::io;
use std::path::PathBuf;

use toml::{Table, Value as Toml};

use super::Options;
use super::def::{Kind, OptionDef};
use super::parsed::{Parsed, Source};
use super::value::Value;
use crate::go_duration;

/// The option that names the file.
const CONFIG: &str = "config";

/// Why the configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("failed to load config file {} - {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("failed to load config file {} - line {line}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line in question, counted from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// An option that has a form of its own has another value.
    #[error("failed parsing {key} {value} - {reason}")]
    Form {
        /// The key in the file.
        key: String,
        /// Its value as TOML shows it.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A value cannot be made into what its option is.
    #[error("failed to coerce value {value} for {key} - {reason}")]
    Coerce {
        /// The key in the file.
        key: String,
        /// Its value as TOML shows it.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl OptionDef {
    /// The option `-config`, the path of a TOML file, for [`Options::load_config`].
    pub fn config_file() -> Self {
        Self::string(CONFIG, "", "path of a configuration file in TOML").not_in_config()
    }
}

impl Options {
    /// Takes the values of the file that `-config` names, if it names one, for all options that the command line
    /// does not give. Returns the keys that no option has, sorted: they have no effect.
    ///
    /// Keys are those of [`OptionDef::key`]. A duration is a text such as `"1m30s"` or a number of milliseconds, a
    /// list is an array or a text with commas, and a number or truth value may stand in a text.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, or has a value that its option cannot take. `parsed` may have
    /// some of its values by then.
    ///
    /// # Panics
    /// When [`OptionDef::config_file`] is not among the options.
    pub fn load_config(&self, parsed: &mut Parsed) -> Result<Vec<String>, ConfigError> {
        let path = PathBuf::from(parsed.string(CONFIG));
        if path.as_os_str().is_empty() {
            return Ok(Vec::new());
        }
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let end = error.span().map_or(0, |span| span.start).min(text.len());
            let line = 1 + text.as_bytes()[..end].iter().filter(|byte| **byte == b'\n').count();
            // The message may have several lines: what was found, and what was expected.
            let reason = error.message().lines().collect::<Vec<_>>().join(", ");
            ConfigError::Syntax { path, line, reason }
        })?;
        self.apply(&table, parsed)
    }

    fn apply(&self, table: &Table, parsed: &mut Parsed) -> Result<Vec<String>, ConfigError> {
        let mut unknown = Vec::new();
        for (key, toml) in table {
            let Some(def) = self.defs.iter().find(|def| def.key().as_ref() == Some(key)) else {
                unknown.push(key.clone());
                continue;
            };
            // A value that the command line overrides is checked all the same, so that a file is good or bad
            // whatever it is used with.
            let value = coerce(def, toml).map_err(|reason| {
                let (key, value) = (key.clone(), show(toml));
                match def.kind {
                    Kind::Custom | Kind::CustomSwitch => ConfigError::Form { key, value, reason },
                    _ => ConfigError::Coerce { key, value, reason },
                }
            })?;
            if !parsed.is_set(def.name) {
                parsed.set(def.name, value, Source::Config);
            }
        }
        unknown.sort();
        Ok(unknown)
    }
}

/// The value of `def` that `toml` stands for.
fn coerce(def: &OptionDef, toml: &Toml) -> Result<Value, String> {
    let text = match (def.kind, toml) {
        (Kind::List, Toml::String(text)) => {
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            return read_list(def, words.map(str::to_owned));
        }
        (Kind::List, Toml::Array(values)) => {
            let words: Result<Vec<_>, _> = values.iter().map(|value| word(def, value)).collect();
            return read_list(def, words?);
        }
        // What stands alone is a number of milliseconds here, where the command line demands a unit.
        (Kind::Duration, Toml::Integer(ms)) => format!("{ms}ms"),
        (Kind::Int | Kind::Bytes | Kind::Float, Toml::Integer(value)) => value.to_string(),
        (Kind::Float, Toml::Float(value)) => value.to_string(),
        (Kind::Bool | Kind::CustomSwitch, Toml::Boolean(value)) => value.to_string(),
        (kind, Toml::String(text)) if kind != Kind::List => text.clone(),
        (kind, _) => return Err(format!("{} is expected", expected(kind))),
    };
    if def.kind == Kind::Duration {
        // The words of the command line would not say that a unit is missing.
        go_duration::parse(&text).map_err(|error| error.to_string())?;
    }
    def.read(&text)
}

fn read_list(def: &OptionDef, words: impl IntoIterator<Item = String>) -> Result<Value, String> {
    let mut list = Value::List(Vec::new());
    for word in words {
        list.take(def.read(&word)?);
    }
    Ok(list)
}

/// One word of a list. Numbers are for lists of numbers, which have a check.
fn word(def: &OptionDef, toml: &Toml) -> Result<String, String> {
    match toml {
        Toml::String(text) => Ok(text.clone()),
        Toml::Integer(value) if def.has_check() => Ok(value.to_string()),
        Toml::Float(value) if def.has_check() => Ok(value.to_string()),
        _ => Err(format!("{} is expected", expected(Kind::List))),
    }
}

fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool | Kind::CustomSwitch => "true or false",
        Kind::Int | Kind::Bytes => "an integer",
        Kind::Float => "a number",
        Kind::Duration => "a duration such as \"1m30s\" or a number of milliseconds",
        Kind::String | Kind::Address | Kind::Custom => "a string",
        Kind::List => "an array of strings or a string with commas",
    }
}

/// The value as an error shows it: texts bare, tables and arrays by their kind.
fn show(toml: &Toml) -> String {
    match toml {
        Toml::String(text) => text.clone(),
        Toml::Integer(value) => value.to_string(),
        Toml::Float(value) => value.to_string(),
        Toml::Boolean(value) => value.to_string(),
        Toml::Datetime(value) => value.to_string(),
        Toml::Array(values) => {
            format!("[{}]", values.iter().map(show).collect::<Vec<_>>().join(", "))
        }
        Toml::Table(_) => "{…}".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    fn options() -> Options {
        Options::new(
            "nsqd",
            vec![
                OptionDef::config_file(),
                OptionDef::bool("verbose", false, "").not_in_config(),
                OptionDef::bool("deflate", true, ""),
                OptionDef::int("node-id", 0, "").config_key("id"),
                OptionDef::bytes("max-msg-size", 1 << 20, ""),
                OptionDef::float("sample", 1.0, ""),
                OptionDef::duration("msg-timeout", "60s", ""),
                OptionDef::string("log-prefix", "[nsqd] ", ""),
                OptionDef::address("tcp-address", "0.0.0.0:4150", ""),
                OptionDef::list("lookupd-tcp-address", "").config_key("nsqlookupd_tcp_addresses"),
                OptionDef::list("percentile", "").checked(|text| {
                    text.parse::<f64>().map(drop).map_err(|error| error.to_string())
                }),
                OptionDef::custom("log-level", "info", "").checked(|text| match text {
                    "info" | "debug" => Ok(()),
                    _ => Err("no level".to_owned()),
                }),
                OptionDef::custom_switch("tls-required", "false", ""),
            ],
        )
    }

    fn load_with(args: &[&str], toml: &str) -> Result<(Parsed, Vec<String>), ConfigError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(toml.as_bytes()).unwrap();
        let mut all = vec!["-config", file.path().to_str().unwrap()];
        all.extend(args);
        let mut parsed = options().parse(all).unwrap();
        options().load_config(&mut parsed).map(|unknown| (parsed, unknown))
    }

    fn load(toml: &str) -> Parsed {
        load_with(&[], toml).unwrap().0
    }

    fn refusal(toml: &str) -> String {
        load_with(&[], toml).unwrap_err().to_string()
    }

    #[test]
    fn without_the_option_nothing_is_read() {
        let mut parsed = options().parse([] as [&str; 0]).unwrap();
        let defaults = parsed.clone();
        assert!(options().load_config(&mut parsed).unwrap().is_empty());
        assert_eq!(parsed, defaults);
    }

    #[test]
    fn the_command_line_is_stronger_than_the_file_and_the_file_than_the_default() {
        let toml = "msg_timeout = '2s'\nid = 7\nnsqlookupd_tcp_addresses = ['c']";
        let args =
            ["-msg-timeout=1m", "-lookupd-tcp-address=a", "-lookupd-tcp-address=b", "-deflate"];
        let (parsed, _) = load_with(&args, toml).unwrap();
        assert_eq!(parsed.duration("msg-timeout"), Duration::from_secs(60));
        assert_eq!(parsed.list("lookupd-tcp-address"), ["a", "b"]);
        assert_eq!((parsed.int("node-id"), parsed.bytes("max-msg-size")), (7, 1 << 20));
        let sources = ["deflate", "node-id", "max-msg-size"].map(|name| parsed.source(name));
        assert_eq!(sources, [Source::Flag, Source::Config, Source::Default]);
    }

    #[test]
    fn every_kind_is_read_from_its_own_type_and_from_a_text() {
        for (toml, id, bytes, timeout_ms, deflate, sample) in [
            (
                "id = 1_6\nmax_msg_size = 5\nmsg_timeout = 1500\ndeflate = false\nsample = 0.5",
                16,
                5,
                1500,
                false,
                0.5,
            ),
            (
                "id = '16'\nmax_msg_size = '5'\nmsg_timeout = '1.5s'\ndeflate = 'F'\nsample = '0.5'",
                16,
                5,
                1500,
                false,
                0.5,
            ),
            (
                "id = -1\nmax_msg_size = 0\nmsg_timeout = 0\ndeflate = true\nsample = 1",
                -1,
                0,
                0,
                true,
                1.0,
            ),
        ] {
            let parsed = load(toml);
            assert_eq!(parsed.int("node-id"), id);
            assert_eq!(parsed.bytes("max-msg-size"), bytes);
            assert_eq!(parsed.duration("msg-timeout"), Duration::from_millis(timeout_ms));
            assert_eq!(parsed.bool("deflate"), deflate);
            assert_eq!(parsed.float("sample"), sample);
        }
        let parsed = load("log_prefix = 'x '\ntcp_address = ':1'\nlog_level = 'debug'");
        assert_eq!(parsed.string("log-prefix"), "x ");
        assert_eq!(parsed.string("tcp-address"), ":1");
        assert_eq!(parsed.string("log-level"), "debug");
    }

    #[test]
    fn a_list_is_an_array_or_a_text_with_commas() {
        for toml in ["['a:1', 'b:2']", "'a:1,b:2'", "' a:1, b:2,'"] {
            let parsed = load(&format!("nsqlookupd_tcp_addresses = {toml}"));
            assert_eq!(parsed.list("lookupd-tcp-address"), ["a:1", "b:2"]);
        }
        let empty = load("nsqlookupd_tcp_addresses = []");
        assert_eq!(empty.list("lookupd-tcp-address"), [] as [&str; 0]);
        assert!(empty.is_set("lookupd-tcp-address"));
        for toml in ["[0.5, 1]", "['0.5', '1']", "'0.5,1'"] {
            assert_eq!(load(&format!("percentile = {toml}")).list("percentile"), ["0.5", "1"]);
        }
    }

    #[test]
    fn a_switch_with_a_form_of_its_own_takes_truth_values_and_texts() {
        assert_eq!(load("tls_required = true").string("tls-required"), "true");
        assert_eq!(load("tls_required = 'tcp-https'").string("tls-required"), "tcp-https");
    }

    #[test]
    fn keys_that_no_option_has_are_named_and_passed_over() {
        let toml = "nope = 1\nverbose = true\nconfig = 'x'\nnode_id = 3\n[deflate2]\nx = 1";
        let (parsed, unknown) = load_with(&[], toml).unwrap();
        assert_eq!(unknown, ["config", "deflate2", "node_id", "nope", "verbose"]);
        assert!(!parsed.bool("verbose"));
        assert_eq!(parsed.int("node-id"), 0);
    }

    #[test]
    fn values_that_do_not_fit_are_refused_with_their_key() {
        let duration = "a duration such as \"1m30s\" or a number of milliseconds is expected";
        let list = "an array of strings or a string with commas is expected";
        for (toml, text) in [
            (
                "msg_timeout = 'xx'",
                "failed to coerce value xx for msg_timeout - time: invalid duration \"xx\"",
            ),
            (
                "msg_timeout = '5'",
                "failed to coerce value 5 for msg_timeout - time: missing unit in duration \"5\"",
            ),
            (
                "msg_timeout = -5",
                "failed to coerce value -5 for msg_timeout - duration -5ms is negative",
            ),
            (
                "msg_timeout = 1.5",
                &format!("failed to coerce value 1.5 for msg_timeout - {duration}"),
            ),
            ("id = 1.5", "failed to coerce value 1.5 for id - an integer is expected"),
            ("id = ''", "failed to coerce value  for id - parse error"),
            (
                "max_msg_size = -1",
                "failed to coerce value -1 for max_msg_size - value out of range",
            ),
            ("deflate = 1", "failed to coerce value 1 for deflate - true or false is expected"),
            ("log_prefix = 5", "failed to coerce value 5 for log_prefix - a string is expected"),
            (
                "tcp_address = true",
                "failed to coerce value true for tcp_address - a string is expected",
            ),
            (
                "nsqlookupd_tcp_addresses = ['a', 1]",
                &format!("failed to coerce value [a, 1] for nsqlookupd_tcp_addresses - {list}"),
            ),
            (
                "[nsqlookupd_tcp_addresses]\nx = 1",
                &format!("failed to coerce value {{…}} for nsqlookupd_tcp_addresses - {list}"),
            ),
            ("log_level = 'warning'", "failed parsing log_level warning - no level"),
            ("log_level = 1", "failed parsing log_level 1 - a string is expected"),
            ("tls_required = 1", "failed parsing tls_required 1 - true or false is expected"),
        ] {
            assert_eq!(refusal(toml), text, "{toml}");
        }
    }

    #[test]
    fn a_bad_value_is_refused_even_when_the_command_line_gives_another() {
        assert!(load_with(&["-node-id=1"], "id = 'x'").is_err());
    }

    #[test]
    fn a_file_that_is_missing_or_no_toml_is_refused_with_its_path() {
        let mut parsed = options().parse(["-config", "/nonexistent/nsqd.cfg"]).unwrap();
        let text = options().load_config(&mut parsed).unwrap_err().to_string();
        assert!(text.starts_with("failed to load config file /nonexistent/nsqd.cfg - "), "{text}");
        assert!(text.contains("No such file"), "{text}");

        let text = refusal("id = 1\n\nid = = 2\n");
        assert!(text.starts_with("failed to load config file /"), "{text}");
        assert!(text.contains(" - line 3: ") && !text.contains('\n'), "{text}");
    }
}
