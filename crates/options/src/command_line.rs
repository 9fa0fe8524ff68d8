//! The command line: from words to values.

use std::ffi::OsString;

use nsq_protocol::quote;

use super::{
    def::OptionDef,
    parsed::{Parsed, Source},
    table::Table,
    usage::UsageError,
};

impl<T> Table<T> {
    /// Reads the command line, without the program's own name.
    ///
    /// A repeated option: the last value wins, lists grow. Words after the options are kept as
    /// [`Parsed::rest`].
    ///
    /// # Errors
    /// When a word is no option of this program, a value is missing or of the wrong kind, or the usage was asked
    /// for by `-h` or `-help`.
    pub fn parse<I>(&self, args: I) -> Result<Parsed, UsageError>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        let mut words = Vec::new();
        for word in args {
            words.push(word.into().into_string().map_err(|word| {
                self.wrong(format!("argument is not valid UTF-8: {}", word.to_string_lossy()))
            })?);
        }
        let mut words = words.into_iter().peekable();
        let mut parsed = self.defaults();
        while let Some(word) = words.next_if(|word| word.len() > 1 && word.starts_with('-')) {
            if word == "--" {
                break;
            }
            let stripped = &word[if word.starts_with("--") { 2 } else { 1 }..];
            if stripped.starts_with(['-', '=']) {
                return Err(self.wrong(format!("bad flag syntax: {word}")));
            }
            let (name, value) = match stripped.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (stripped, None),
            };
            let def = self.find(name).ok_or_else(|| self.unknown(name))?;
            let value = match value {
                None if !def.is_switch() => Some(
                    words
                        .next()
                        .ok_or_else(|| self.wrong(format!("flag needs an argument: -{name}")))?,
                ),
                value => value,
            };
            self.set(&mut parsed, def, value.as_deref().unwrap_or("true"))?;
        }
        parsed.rest = words.collect();
        Ok(parsed)
    }

    fn set(&self, parsed: &mut Parsed, def: &OptionDef<T>, text: &str) -> Result<(), UsageError> {
        let value = def.read(text).map_err(|error| {
            let (name, quoted) = (def.name(), quote(text.as_bytes()));
            self.wrong(if def.is_switch() {
                format!("invalid boolean value {quoted} for -{name}: {error}")
            } else {
                format!("invalid value {quoted} for flag -{name}: {error}")
            })
        })?;
        parsed.set(def.name(), value, Source::Flag);
        Ok(())
    }

    fn unknown(&self, name: &str) -> UsageError {
        match name {
            "h" | "help" => UsageError::Help { usage: self.usage() },
            _ => self.wrong(format!("flag provided but not defined: -{name}")),
        }
    }

    fn wrong(&self, message: String) -> UsageError {
        UsageError::Wrong { message, usage: self.usage() }
    }
}
