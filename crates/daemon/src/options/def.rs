//! The declaration of one option.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::value::Value;

/// What an option's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A switch: `-name`, `-name=false`.
    Bool,
    /// A 64-bit integer; `0x`, `0o`, `0b`, a leading `0` (octal) and `_` between digits are understood.
    Int,
    /// A number of bytes: an integer that is not negative.
    Bytes,
    /// A floating-point number.
    Float,
    /// A duration that is not negative, see [`go_duration`](crate::go_duration).
    Duration,
    /// Any text.
    String,
    /// `host:port`, or the path of a unix socket where the option allows for it.
    Address,
    /// Texts, one for each time the option is given.
    List,
    /// A text in a form of its own, held to it by [`OptionDef::checked`].
    Custom,
    /// A text in a form of its own that may be left out, which means `true`.
    CustomSwitch,
}

type Check = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// One option: name, kind, default and meaning, declared once.
#[derive(Clone)]
pub struct OptionDef {
    /// The name on the command line, without dashes.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// The default as it would be typed.
    pub default: Cow<'static, str>,
    /// What it does, for the usage text.
    pub doc: Cow<'static, str>,
    pub(super) default_label: Option<Cow<'static, str>>,
    key: Key,
    check: Option<Check>,
}

/// How a configuration file spells an option.
#[derive(Debug, Clone, Copy)]
enum Key {
    /// The name with underscores for dashes.
    Name,
    Own(&'static str),
    Absent,
}

impl OptionDef {
    fn new(
        name: &'static str,
        kind: Kind,
        default: impl Into<Cow<'static, str>>,
        doc: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            name,
            kind,
            default: default.into(),
            doc: doc.into(),
            default_label: None,
            key: Key::Name,
            check: None,
        }
    }

    /// A [`Kind::Bool`] option.
    pub fn bool(name: &'static str, default: bool, doc: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, Kind::Bool, default.to_string(), doc)
    }

    /// A [`Kind::Int`] option.
    pub fn int(name: &'static str, default: i64, doc: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, Kind::Int, default.to_string(), doc)
    }

    /// A [`Kind::Bytes`] option.
    pub fn bytes(name: &'static str, default: u64, doc: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, Kind::Bytes, default.to_string(), doc)
    }

    /// A [`Kind::Float`] option.
    pub fn float(name: &'static str, default: f64, doc: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, Kind::Float, default.to_string(), doc)
    }

    /// A [`Kind::Duration`] option; the default is spelled as on the command line.
    pub fn duration(
        name: &'static str,
        default: impl Into<Cow<'static, str>>,
        doc: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(name, Kind::Duration, default, doc)
    }

    /// A [`Kind::String`] option.
    pub fn string(
        name: &'static str,
        default: impl Into<Cow<'static, str>>,
        doc: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(name, Kind::String, default, doc)
    }

    /// A [`Kind::Address`] option.
    pub fn address(
        name: &'static str,
        default: impl Into<Cow<'static, str>>,
        doc: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(name, Kind::Address, default, doc)
    }

    /// A [`Kind::List`] option; its default is the empty list.
    pub fn list(name: &'static str, doc: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, Kind::List, "", doc)
    }

    /// A [`Kind::Custom`] option.
    pub fn custom(
        name: &'static str,
        default: impl Into<Cow<'static, str>>,
        doc: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(name, Kind::Custom, default, doc)
    }

    /// A [`Kind::CustomSwitch`] option.
    pub fn custom_switch(
        name: &'static str,
        default: impl Into<Cow<'static, str>>,
        doc: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(name, Kind::CustomSwitch, default, doc)
    }

    /// Holds every value that is given (each word of a list, never the default) to `check`, after it was found to
    /// be of its kind. The error text is shown after `invalid value "x" for flag -name: `.
    #[must_use]
    pub fn checked(
        mut self,
        check: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.check = Some(Arc::new(check));
        self
    }

    /// The default as the usage text shows it, where that differs from what would be typed; empty: not at all.
    #[must_use]
    pub fn default_shown_as(mut self, label: impl Into<Cow<'static, str>>) -> Self {
        self.default_label = Some(label.into());
        self
    }

    /// The key in configuration files, where it is not the name with underscores.
    #[must_use]
    pub fn config_key(mut self, key: &'static str) -> Self {
        self.key = Key::Own(key);
        self
    }

    /// Keeps the option out of configuration files.
    #[must_use]
    pub fn not_in_config(mut self) -> Self {
        self.key = Key::Absent;
        self
    }

    /// The key in configuration files, if the option may stand there.
    pub fn key(&self) -> Option<String> {
        match self.key {
            Key::Name => Some(self.name.replace('-', "_")),
            Key::Own(key) => Some(key.to_owned()),
            Key::Absent => None,
        }
    }

    /// Whether the option may be given without a value.
    pub(super) fn is_switch(&self) -> bool {
        matches!(self.kind, Kind::Bool | Kind::CustomSwitch)
    }

    pub(super) fn has_check(&self) -> bool {
        self.check.is_some()
    }

    /// The value that `text` stands for.
    pub(super) fn read(&self, text: &str) -> Result<Value, String> {
        let value = Value::read(self.kind, text)?;
        if let Some(check) = &self.check {
            check(text)?;
        }
        Ok(value)
    }

    pub(super) fn default_value(&self) -> Value {
        if self.kind == Kind::List {
            assert!(self.default.is_empty(), "-{}: a list starts empty", self.name);
            return Value::List(Vec::new());
        }
        Value::read(self.kind, &self.default)
            .unwrap_or_else(|error| panic!("-{}: default {:?}: {error}", self.name, self.default))
    }
}

impl fmt::Debug for OptionDef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OptionDef")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("default", &self.default)
            .field("key", &self.key())
            .finish_non_exhaustive()
    }
}
