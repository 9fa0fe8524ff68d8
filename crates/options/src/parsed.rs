//! The outcome of command line and configuration file.

use std::{collections::HashMap, fmt::Debug};

use super::value::Value;

/// The origin of a value, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Source {
    /// The option was not given.
    Default,
    /// The configuration file.
    File,
    /// The command line.
    Flag,
}

/// The value of every option and its origin, bounds not checked yet.
///
/// The methods panic when the program asks for an option that it did not declare.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    given: HashMap<String, Given>,
    pub(super) rest: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
struct Given {
    value: Value,
    source: Source,
}

impl Parsed {
    pub(super) fn new(values: impl Iterator<Item = (String, Value)>, source: Source) -> Self {
        let given = values.map(|(name, value)| (name, Given { value, source })).collect();
        Self { given, rest: Vec::new() }
    }

    /// Takes a value. A list of the same origin grows, everything else is replaced.
    pub(super) fn set(&mut self, name: &str, value: Value, source: Source) {
        let given = self.given.get_mut(name).expect("only declared options are set");
        match (&mut given.value, value) {
            (Value::List(list), Value::List(more)) if given.source == source => list.extend(more),
            (_, value) => given.value = value,
        }
        given.source = source;
    }

    /// The value of an option.
    pub fn value(&self, name: &str) -> &Value {
        &self.given(name).value
    }

    /// Returns whether a switch is on.
    pub fn is_on(&self, name: &str) -> bool {
        *self.value(name) == Value::Bool(true)
    }

    /// The origin of an option's value.
    pub fn source(&self, name: &str) -> Source {
        self.given(name).source
    }

    /// Returns whether the option was given a value, even if it is the default.
    pub fn is_set(&self, name: &str) -> bool {
        self.source(name) != Source::Default
    }

    /// The words after the options.
    pub fn rest(&self) -> &[String] {
        &self.rest
    }

    fn given(&self, name: &str) -> &Given {
        self.given.get(name).unwrap_or_else(|| panic!("option -{name} is not declared"))
    }
}
