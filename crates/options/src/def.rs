//! The declaration of one option.

use std::{borrow::Cow, fmt, ops::RangeInclusive, sync::Arc};

use super::{
    bounds::{InvalidOption, Misfit},
    setting::Setting,
    value::{Kind, Value},
};

/// Declares an option of the name of a field, with dashes for underscores: `option!(Options.msg_timeout, "help")`.
#[macro_export]
macro_rules! option {
    ($options:ident . $($field:ident).+, $help:expr $(,)?) => {
        $crate::OptionDef::<$options>::new(
            stringify!($($field).+),
            |options| options.$($field).+.clone(),
            |options, value| options.$($field).+ = value,
            $help,
        )
    };
}

type Get<T> = Arc<dyn Fn(&T) -> Value + Send + Sync>;
type Set<T> = Arc<dyn Fn(&mut T, Value) -> Result<(), Misfit> + Send + Sync>;
type Check = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// An option of a program whose options are a `T`: name, field, bounds and meaning, declared once.
pub struct OptionDef<T> {
    name: String,
    kind: Kind,
    help: Cow<'static, str>,
    default: Option<Value>,
    default_label: Option<&'static str>,
    key: Key,
    bounds: Bounds,
    check: Option<Check>,
    field: Option<(Get<T>, Set<T>)>,
}

/// How a configuration file spells an option.
#[derive(Debug, Clone, Copy)]
enum Key {
    /// The name with underscores for dashes.
    Name,
    Own(&'static str),
    Absent,
}

#[derive(Debug, Clone, Copy)]
enum Bounds {
    None,
    Number { min: i64, max: i64, shown: Option<&'static str> },
    Positive,
}

impl<T: 'static> OptionDef<T> {
    /// An option that is read by `get` and set by `set`. See [`option!`](crate::option).
    pub fn new<F: Setting>(
        field: &str,
        get: fn(&T) -> F,
        set: fn(&mut T, F),
        help: impl Into<Cow<'static, str>>,
    ) -> Self {
        let write = move |options: &mut T, value: Value| {
            let value = F::from_value(value.clone()).ok_or(Misfit::WrongKind(value))?;
            set(options, value);
            Ok(())
        };
        let (min, max) = F::range();
        let checked = matches!(F::KIND, Kind::Custom | Kind::CustomSwitch);
        Self {
            bounds: match F::KIND {
                Kind::Int => Bounds::Number { min, max, shown: None },
                _ => Bounds::None,
            },
            check: checked.then(|| Arc::new(F::check) as Check),
            field: Some((Arc::new(move |options| get(options).into_value()), Arc::new(write))),
            ..Self::bare(field, F::KIND, help)
        }
    }

    /// An option whose value is one of some words.
    pub fn choice<F: Copy + PartialEq + Send + Sync + 'static>(
        field: &str,
        get: fn(&T) -> F,
        set: fn(&mut T, F),
        choices: &'static [(&'static str, F)],
        help: impl Into<Cow<'static, str>>,
    ) -> Self {
        let read = move |options: &T| {
            let word = choices.iter().find(|(_, choice)| *choice == get(options));
            Value::Text(word.map_or("", |(word, _)| *word).to_owned())
        };
        let write = move |options: &mut T, value: Value| {
            let Value::Text(text) = value else { return Err(Misfit::WrongKind(value)) };
            let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text) else {
                let choices = choices.iter().map(|(word, _)| *word).collect();
                return Err(Misfit::NotAChoice { value: text, choices });
            };
            set(options, *choice);
            Ok(())
        };
        let field_access: (Get<T>, Set<T>) = (Arc::new(read), Arc::new(write));
        Self { field: Some(field_access), ..Self::bare(field, Kind::String, help) }
    }

    /// An option that is accepted and changes nothing.
    pub fn without_effect<F: Setting>(
        name: &str,
        default: F,
        help: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { default: Some(default.into_value()), ..Self::bare(name, F::KIND, help) }
    }

    fn bare(field: &str, kind: Kind, help: impl Into<Cow<'static, str>>) -> Self {
        let name = field.rsplit('.').next().unwrap_or(field).trim().replace('_', "-");
        Self {
            name,
            kind,
            help: help.into(),
            default: None,
            default_label: None,
            key: Key::Name,
            bounds: Bounds::None,
            check: None,
            field: None,
        }
    }

    /// The same option of a program whose options contain those of this one.
    pub(super) fn nested<U: 'static>(
        self,
        get: fn(&U) -> &T,
        get_mut: fn(&mut U) -> &mut T,
    ) -> OptionDef<U> {
        let field = self.field.map(|(read, write)| {
            let read: Get<U> = Arc::new(move |outer| read(get(outer)));
            let write: Set<U> = Arc::new(move |outer, value| write(get_mut(outer), value));
            (read, write)
        });
        OptionDef {
            name: self.name,
            kind: self.kind,
            help: self.help,
            default: self.default,
            default_label: self.default_label,
            key: self.key,
            bounds: self.bounds,
            check: self.check,
            field,
        }
    }
}

impl<T> OptionDef<T> {
    /// Gives the option another name than its field has.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// Makes the number a number of bytes: a negative one is a mistake in the command line.
    #[must_use]
    pub fn in_bytes(mut self) -> Self {
        self.kind = Kind::Bytes;
        self
    }

    /// Bounds a number.
    #[must_use]
    pub fn within(mut self, range: RangeInclusive<i64>) -> Self {
        self.bounds = Bounds::Number { min: *range.start(), max: *range.end(), shown: None };
        self
    }

    /// Bounds a number, with bounds that errors write in NSQ's words.
    #[must_use]
    pub fn within_shown(mut self, range: RangeInclusive<i64>, shown: &'static str) -> Self {
        self.bounds = Bounds::Number { min: *range.start(), max: *range.end(), shown: Some(shown) };
        self
    }

    /// Refuses a duration of zero.
    #[must_use]
    pub fn positive(mut self) -> Self {
        self.bounds = Bounds::Positive;
        self
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

    /// Gives the option another default than its field has.
    #[must_use]
    pub fn default_to(mut self, value: impl Setting) -> Self {
        self.default = Some(value.into_value());
        self
    }

    /// Shows another default in the usage text; none if `label` is empty.
    #[must_use]
    pub fn default_shown_as(mut self, label: &'static str) -> Self {
        self.default_label = Some(label);
        self
    }

    /// The key in configuration files, where it is not the name with underscores.
    #[must_use]
    pub fn file_key(mut self, key: &'static str) -> Self {
        self.key = Key::Own(key);
        self
    }

    /// Keeps the option out of configuration files.
    #[must_use]
    pub fn not_in_file(mut self) -> Self {
        self.key = Key::Absent;
        self
    }

    /// The name on the command line, without dashes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kind of its values.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The help for the usage text.
    pub fn help(&self) -> &str {
        &self.help
    }

    /// The key in configuration files, if the option may stand there.
    pub fn key(&self) -> Option<String> {
        match self.key {
            Key::Name => Some(self.name.replace('-', "_")),
            Key::Own(key) => Some(key.to_owned()),
            Key::Absent => None,
        }
    }

    /// The value in `options`; `None` for an option without effect.
    pub fn value(&self, options: &T) -> Option<Value> {
        self.field.as_ref().map(|(get, _)| get(options))
    }

    /// Sets the option's field.
    ///
    /// # Errors
    /// When the value is out of bounds.
    pub(super) fn set(&self, options: &mut T, value: &Value) -> Result<(), InvalidOption> {
        let invalid = |misfit| InvalidOption { name: self.name.clone(), misfit };
        self.check_bounds(value).map_err(invalid)?;
        match &self.field {
            Some((_, set)) => set(options, value.clone()).map_err(invalid),
            None => Ok(()),
        }
    }

    fn check_bounds(&self, value: &Value) -> Result<(), Misfit> {
        match (self.bounds, value) {
            (Bounds::Number { min, max, shown }, &Value::Int(value))
                if !(min..=max).contains(&value) =>
            {
                Err(Misfit::OutOfRange { value, min, max, shown })
            }
            (Bounds::Positive, Value::Duration(value)) if value.is_zero() => Err(Misfit::Zero),
            _ => Ok(()),
        }
    }

    /// Returns whether the option may be given without a value.
    pub(super) fn is_switch(&self) -> bool {
        matches!(self.kind, Kind::Bool | Kind::CustomSwitch)
    }

    #[cfg(feature = "file")]
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

    /// Takes the default from `defaults`, unless the option has one of its own.
    pub(super) fn take_default(&mut self, defaults: &T) {
        if self.default.is_none() {
            self.default = self.value(defaults);
        }
    }

    /// The default.
    pub(super) fn default(&self) -> &Value {
        self.default.as_ref().expect("a table gives its options their defaults")
    }

    pub(super) fn default_label(&self) -> Option<&'static str> {
        self.default_label
    }
}

impl<T> fmt::Debug for OptionDef<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OptionDef")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("default", &self.default)
            .field("key", &self.key())
            .finish_non_exhaustive()
    }
}
