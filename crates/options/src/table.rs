//! The table of a program's options.

use super::{
    bounds::InvalidOption,
    def::OptionDef,
    parsed::{Parsed, Source},
    value::Value,
};

/// The options of one program, which are the fields of a `T`.
#[derive(Debug)]
pub struct Table<T> {
    pub(super) program: String,
    /// Sorted by name, as the usage text lists them.
    pub(super) defs: Vec<OptionDef<T>>,
}

impl<T: Default + 'static> Table<T> {
    /// The options of the program that calls itself `program`.
    ///
    /// # Panics
    /// When two options share a name or a configuration key.
    pub fn new(program: impl Into<String>, mut defs: Vec<OptionDef<T>>) -> Self {
        let defaults = T::default();
        for def in &mut defs {
            def.take_default(&defaults);
        }
        Self { program: program.into(), defs }.sorted()
    }

    /// The options that a parsed command line and file come to.
    ///
    /// # Errors
    /// When a value is out of its bounds.
    pub fn resolve(&self, parsed: &Parsed) -> Result<T, InvalidOption> {
        let mut options = T::default();
        for def in &self.defs {
            def.set(&mut options, parsed.value(def.name()))?;
        }
        Ok(options)
    }
}

impl<T: 'static> Table<T> {
    /// Gives the program another name.
    #[must_use]
    pub fn of_program(mut self, program: impl Into<String>) -> Self {
        self.program = program.into();
        self
    }

    /// The table of a program whose options contain these.
    #[must_use]
    pub fn nested<U: 'static>(self, get: fn(&U) -> &T, get_mut: fn(&mut U) -> &mut T) -> Table<U> {
        let Self { program, defs } = self;
        let defs = defs.into_iter().map(|def| def.nested(get, get_mut)).collect();
        Table { program, defs }
    }

    /// Adds the options of another table.
    ///
    /// # Panics
    /// When two options share a name or a configuration key.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.defs.extend(other.defs);
        self.sorted()
    }

    fn sorted(mut self) -> Self {
        self.defs.sort_by(|a, b| a.name().cmp(b.name()));
        for pair in self.defs.windows(2) {
            assert_ne!(pair[0].name(), pair[1].name(), "an option is declared twice");
        }
        let mut keys: Vec<_> = self.defs.iter().filter_map(OptionDef::key).collect();
        keys.sort();
        for pair in keys.windows(2) {
            assert_ne!(pair[0], pair[1], "a configuration key is declared twice");
        }
        self
    }
}

impl<T> Table<T> {
    /// The name of the program.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// All options, sorted by name.
    pub fn defs(&self) -> &[OptionDef<T>] {
        &self.defs
    }

    /// The option of this name, without dashes.
    pub fn find(&self, name: &str) -> Option<&OptionDef<T>> {
        self.defs.iter().find(|def| def.name() == name)
    }

    /// The option of this key in configuration files.
    pub fn find_key(&self, key: &str) -> Option<&OptionDef<T>> {
        self.defs.iter().find(|def| def.key().as_deref() == Some(key))
    }

    /// The value in `options` of the option of this key; `None` when there is none, or it has no effect.
    pub fn value(&self, options: &T, key: &str) -> Option<Value> {
        self.find_key(key)?.value(options)
    }

    pub(super) fn defaults(&self) -> Parsed {
        let values = self.defs.iter().map(|def| (def.name().to_owned(), def.default().clone()));
        Parsed::new(values, Source::Default)
    }
}
