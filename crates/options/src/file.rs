//! The configuration file: values for options that the command line does not give.

use std::{io, path::PathBuf};

use toml::{Table as Toml, Value as TomlValue};

use super::{
    def::OptionDef,
    duration,
    parsed::{Parsed, Source},
    table::Table,
    value::{Kind, Value},
};

/// The option that names the file.
const CONFIG: &str = "config";

/// The reason why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file cannot be read.
    #[error("failed to load config file {} - {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason that the operating system gives.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("failed to load config file {} - line {line}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line of the mistake, counted from 1.
        line: usize,
        /// The mistake in that line.
        reason: String,
    },
    /// An option that has a form of its own has another value.
    #[error("failed parsing {key} {value} - {reason}")]
    Form {
        /// The key in the file.
        key: String,
        /// Its value as TOML shows it.
        value: String,
        /// The reason why it is not a value.
        reason: String,
    },
    /// A value cannot be converted to the kind of its option.
    #[error("failed to coerce value {value} for {key} - {reason}")]
    Coerce {
        /// The key in the file.
        key: String,
        /// Its value as TOML shows it.
        value: String,
        /// The reason why it is not a value.
        reason: String,
    },
}

impl<T: 'static> OptionDef<T> {
    /// The option `-config`, the path of a TOML file, for [`Table::load_file`].
    pub fn config_file() -> Self {
        let help = "path of a configuration file in TOML";
        Self::without_effect(CONFIG, String::new(), help).not_in_file()
    }
}

impl<T> Table<T> {
    /// Takes the values of the file that `-config` names, if it names one, for all options that the command line
    /// does not give. Returns the keys that no option has, sorted: they have no effect.
    ///
    /// Keys are those of [`OptionDef::key`]. A duration is a text such as `"1m30s"` or a number of milliseconds, a
    /// list is an array or a text with commas, and a number or truth value may stand in a text.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, or has a value that its option cannot take. `parsed` may have some of
    /// its values by then.
    ///
    /// # Panics
    /// When [`OptionDef::config_file`] is not among the options.
    pub fn load_file(&self, parsed: &mut Parsed) -> Result<Vec<String>, FileError> {
        let path = match parsed.value(CONFIG) {
            Value::Text(path) if !path.is_empty() => PathBuf::from(path),
            _ => return Ok(Vec::new()),
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(FileError::Read { path, source }),
        };
        let table: Toml = text.parse().map_err(|error: toml::de::Error| {
            let end = error.span().map_or(0, |span| span.start).min(text.len());
            let line = 1 + text.as_bytes()[..end].iter().filter(|byte| **byte == b'\n').count();
            // The message may have several lines: the text found, and the texts expected.
            let reason = error.message().lines().collect::<Vec<_>>().join(", ");
            FileError::Syntax { path, line, reason }
        })?;
        self.apply(&table, parsed)
    }

    fn apply(&self, table: &Toml, parsed: &mut Parsed) -> Result<Vec<String>, FileError> {
        let mut unknown = Vec::new();
        for (key, toml) in table {
            let Some(def) = self.find_key(key) else {
                unknown.push(key.clone());
                continue;
            };
            // A value that the command line overrides is checked all the same, so that a file is good or bad
            // whatever it is used with.
            let value = coerce(def, toml).map_err(|reason| {
                let (key, value) = (key.clone(), show(toml));
                match def.kind() {
                    Kind::Custom | Kind::CustomSwitch => FileError::Form { key, value, reason },
                    _ => FileError::Coerce { key, value, reason },
                }
            })?;
            if !parsed.is_set(def.name()) {
                parsed.set(def.name(), value, Source::File);
            }
        }
        unknown.sort();
        Ok(unknown)
    }
}

/// The value of `def` that `toml` stands for.
fn coerce<T>(def: &OptionDef<T>, toml: &TomlValue) -> Result<Value, String> {
    let text = match (def.kind(), toml) {
        (Kind::List, TomlValue::String(text)) => {
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            return read_list(def, words.map(str::to_owned));
        }
        (Kind::List, TomlValue::Array(values)) => {
            let words: Result<Vec<_>, _> = values.iter().map(|value| word(def, value)).collect();
            return read_list(def, words?);
        }
        // A number alone is a number of milliseconds here, where the command line demands a unit.
        (Kind::Duration, TomlValue::Integer(ms)) => format!("{ms}ms"),
        (Kind::Int | Kind::Bytes | Kind::Float, TomlValue::Integer(value)) => value.to_string(),
        // Decimal, as in NSQ: the command line would take a leading zero for the octal base.
        (Kind::Int | Kind::Bytes, TomlValue::String(text)) => decimal(text)?,
        (Kind::Float, TomlValue::Float(value)) => value.to_string(),
        (Kind::Bool | Kind::CustomSwitch, TomlValue::Boolean(value)) => value.to_string(),
        // For a plain switch NSQ takes 1 for false and 0 for true, so there a number is refused as ambiguous.
        (Kind::CustomSwitch, TomlValue::Integer(value @ (0 | 1))) => (*value == 1).to_string(),
        (kind, TomlValue::String(text)) if kind != Kind::List => text.clone(),
        (kind, _) => return Err(format!("{} is expected", expected(kind))),
    };
    if def.kind() == Kind::Duration {
        // The words of the command line would not say that a unit is missing.
        duration::parse(&text).map_err(|error| error.to_string())?;
    }
    def.read(&text)
}

/// The decimal integer in `text`, as the command line would write it.
fn decimal(text: &str) -> Result<String, String> {
    let value: i128 = text.parse().map_err(|_| "an integer is expected".to_owned())?;
    Ok(value.to_string())
}

fn read_list<T>(
    def: &OptionDef<T>,
    words: impl IntoIterator<Item = String>,
) -> Result<Value, String> {
    let mut list = Vec::new();
    for word in words {
        if let Value::List(words) = def.read(&word)? {
            list.extend(words);
        }
    }
    Ok(Value::List(list))
}

/// One word of a list. Numbers are for lists of numbers, which have a check.
fn word<T>(def: &OptionDef<T>, toml: &TomlValue) -> Result<String, String> {
    match toml {
        TomlValue::String(text) => Ok(text.clone()),
        TomlValue::Integer(value) if def.has_check() => Ok(value.to_string()),
        TomlValue::Float(value) if def.has_check() => Ok(value.to_string()),
        _ => Err(format!("{} is expected", expected(Kind::List))),
    }
}

fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool | Kind::CustomSwitch => "true or false",
        Kind::Int | Kind::Bytes => "an integer",
        Kind::Float => "a number",
        Kind::Duration => "a duration such as \"1m30s\" or a number of milliseconds",
        Kind::String | Kind::Custom => "a string",
        Kind::List => "an array of strings or a string with commas",
    }
}

/// The value as an error shows it: texts bare, tables and arrays by their kind.
fn show(toml: &TomlValue) -> String {
    match toml {
        TomlValue::String(text) => text.clone(),
        TomlValue::Integer(value) => value.to_string(),
        TomlValue::Float(value) => value.to_string(),
        TomlValue::Boolean(value) => value.to_string(),
        TomlValue::Datetime(value) => value.to_string(),
        TomlValue::Array(values) => {
            format!("[{}]", values.iter().map(show).collect::<Vec<_>>().join(", "))
        }
        TomlValue::Table(_) => "{…}".to_owned(),
    }
}

#[cfg(test)]
mod tests;
