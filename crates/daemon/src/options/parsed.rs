//! What command line and configuration file came to.

use std::collections::HashMap;
use std::time::Duration;

use super::def::OptionDef;
use super::value::Value;

/// Where a value comes from, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Source {
    /// Nobody gave one.
    Default,
    /// The configuration file.
    Config,
    /// The command line.
    Flag,
}

/// The value of every option, and where it comes from.
///
/// The getters panic when the program asks for an option that it did not declare, or declared with another kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    settings: HashMap<&'static str, Setting>,
    pub(super) rest: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
struct Setting {
    value: Value,
    source: Source,
}

impl Parsed {
    pub(super) fn of_defaults(defs: &[OptionDef]) -> Self {
        let setting =
            |def: &OptionDef| Setting { value: def.default_value(), source: Source::Default };
        Self {
            settings: defs.iter().map(|def| (def.name, setting(def))).collect(),
            rest: Vec::new(),
        }
    }

    pub(super) fn set(&mut self, name: &str, value: Value, source: Source) {
        let setting = self.settings.get_mut(name).expect("only declared options are set");
        setting.value.take(value);
        setting.source = source;
    }

    /// The value of a `bool` option.
    pub fn bool(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Bool(value) => *value,
            other => wrong_kind(name, other),
        }
    }

    /// The value of an `int` option.
    pub fn int(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Int(value) => *value,
            other => wrong_kind(name, other),
        }
    }

    /// The value of a `bytes` option.
    pub fn bytes(&self, name: &str) -> u64 {
        match self.value(name) {
            Value::Bytes(value) => *value,
            other => wrong_kind(name, other),
        }
    }

    /// The value of a `float` option.
    pub fn float(&self, name: &str) -> f64 {
        match self.value(name) {
            Value::Float(value) => *value,
            other => wrong_kind(name, other),
        }
    }

    /// The value of a `duration` option.
    pub fn duration(&self, name: &str) -> Duration {
        match self.value(name) {
            Value::Duration(value) => *value,
            other => wrong_kind(name, other),
        }
    }

    /// The value of a `string`, `address`, `custom` or `custom_switch` option.
    pub fn string(&self, name: &str) -> &str {
        match self.value(name) {
            Value::Text(value) => value,
            other => wrong_kind(name, other),
        }
    }

    /// The values of a `list` option, in the order they were given.
    pub fn list(&self, name: &str) -> &[String] {
        match self.value(name) {
            Value::List(values) => values,
            other => wrong_kind(name, other),
        }
    }

    /// Where the value of an option comes from.
    pub fn source(&self, name: &str) -> Source {
        self.setting(name).source
    }

    /// Whether somebody gave the option a value, be it the same as the default.
    pub fn is_set(&self, name: &str) -> bool {
        self.source(name) != Source::Default
    }

    /// The words after the options.
    pub fn rest(&self) -> &[String] {
        &self.rest
    }

    fn value(&self, name: &str) -> &Value {
        &self.setting(name).value
    }

    fn setting(&self, name: &str) -> &Setting {
        self.settings.get(name).unwrap_or_else(|| panic!("option -{name} is not declared"))
    }
}

fn wrong_kind(name: &str, value: &Value) -> ! {
    panic!("option -{name} is declared with another kind: {value:?}")
}
