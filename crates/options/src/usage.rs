//! The usage text, and the error that carries it.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use nsq_protocol::quote;

use super::{
    def::OptionDef,
    duration,
    table::Table,
    value::{Kind, Value},
};

/// A command line with which the program does not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// The usage was asked for.
    #[error("{}", .usage.trim_end())]
    Help {
        /// The usage text, with a newline at its end.
        usage: String,
    },
    /// Something in the command line is wrong.
    #[error("{message}")]
    Wrong {
        /// The mistake, in one line.
        message: String,
        /// The usage text, with a newline at its end.
        usage: String,
    },
}

impl UsageError {
    /// The code to exit with: 0 for help, 2 for a mistake.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Help { .. } => 0,
            Self::Wrong { .. } => 2,
        }
    }

    /// The text to print: the mistake, if any, and the usage.
    pub fn text(&self) -> String {
        match self {
            Self::Help { usage } => usage.clone(),
            Self::Wrong { message, usage } => format!("{message}\n{usage}"),
        }
    }

    /// Prints the text on stderr and returns the exit code for `main`.
    pub fn report(&self) -> ExitCode {
        // A closed stderr leaves no way to tell.
        let _ = io::stderr().write_all(self.text().as_bytes());
        ExitCode::from(self.exit_code())
    }
}

impl<T> Table<T> {
    /// The usage text: every option with its kind, meaning and default, sorted by name.
    pub fn usage(&self) -> String {
        let mut text = format!("Usage of {}:\n", self.program);
        for def in &self.defs {
            push_option(def, &mut text);
        }
        text
    }
}

fn push_option<T>(def: &OptionDef<T>, text: &mut String) {
    text.push_str("  -");
    text.push_str(def.name());
    let word = value_word(def.kind());
    if !word.is_empty() {
        text.push(' ');
        text.push_str(word);
    }
    // A switch of one letter leaves room for its meaning on the same line.
    text.push_str(if word.is_empty() && def.name().len() == 1 { "\t" } else { "\n    \t" });
    text.push_str(&def.help().replace('\n', "\n    \t"));
    let default = default_label(def);
    if !default.is_empty() {
        text.push_str(" (default ");
        text.push_str(&default);
        text.push(')');
    }
    text.push('\n');
}

fn value_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool | Kind::CustomSwitch => "",
        Kind::Int | Kind::Bytes => "int",
        Kind::Float => "float",
        Kind::Duration => "duration",
        Kind::String => "string",
        Kind::List | Kind::Custom => "value",
    }
}

/// The default as the usage shows it; empty for zero, false and the empty text.
fn default_label<T>(def: &OptionDef<T>) -> String {
    if let Some(label) = def.default_label() {
        return label.to_owned();
    }
    match def.default() {
        Value::Bool(false) | Value::Int(0) => String::new(),
        Value::Bool(true) => "true".to_owned(),
        Value::Int(value) => value.to_string(),
        Value::Float(0.0) => String::new(),
        Value::Float(value) => value.to_string(),
        Value::Duration(value) if value.is_zero() => String::new(),
        Value::Duration(value) => duration::format(*value),
        Value::Text(value) if value.is_empty() => String::new(),
        Value::Text(value) => match def.kind() {
            Kind::String => quote(value.as_bytes()),
            _ => value.clone(),
        },
        Value::List(values) => values.join(", "),
    }
}
