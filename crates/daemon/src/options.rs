//! One table of options makes the command-line parser, the usage text and the reader of the configuration file.
//!
//! The syntax is NSQ's: `-name` equals `--name`, a value follows after `=` or as the next word, a switch takes
//! a value only after `=`, and parsing stops at the first word that is not an option, or after `--`.
//!
//! What the command line leaves open may stand in a TOML file, see [`Options::load_config`].
//!
//! ```
//! use nsq_daemon::options::{OptionDef, Options};
//!
//! let options = Options::new("nsqd", vec![
//!     OptionDef::int("max-rdy-count", 2500, "maximum RDY count for a client"),
//!     OptionDef::duration("msg-timeout", "1m", "time before a message is requeued"),
//!     OptionDef::list("lookupd-tcp-address", "nsqlookupd to announce to"),
//! ]);
//! let parsed = options.parse(["--msg-timeout=1m30s", "-max-rdy-count", "0x10"]).expect("is valid");
//! assert_eq!(parsed.int("max-rdy-count"), 16);
//! assert_eq!(parsed.duration("msg-timeout").as_secs(), 90);
//! assert!(parsed.list("lookupd-tcp-address").is_empty());
//! ```

mod config;
mod def;
mod parse;
mod parsed;
mod usage;
mod value;

pub use self::{
    config::ConfigError,
    def::{Kind, OptionDef},
    parsed::{Parsed, Source},
    usage::UsageError,
};

/// The options of one program.
#[derive(Debug, Clone)]
pub struct Options {
    program: String,
    /// Sorted by name, as the usage text lists them.
    defs: Vec<OptionDef>,
}

impl Options {
    /// The options of the program that calls itself `program`.
    ///
    /// # Panics
    ///
    /// When two options share a name or a configuration key, or a default is not of its option's kind.
    pub fn new(program: impl Into<String>, mut defs: Vec<OptionDef>) -> Self {
        defs.sort_by_key(|def| def.name);
        for pair in defs.windows(2) {
            assert_ne!(pair[0].name, pair[1].name, "an option is declared twice");
        }
        let mut keys: Vec<String> = defs.iter().filter_map(OptionDef::key).collect();
        keys.sort();
        for pair in keys.windows(2) {
            assert_ne!(pair[0], pair[1], "a configuration key is declared twice");
        }
        for def in &defs {
            def.default_value();
        }
        Self { program: program.into(), defs }
    }

    /// All options, sorted by name.
    pub fn defs(&self) -> &[OptionDef] {
        &self.defs
    }

    /// The option of this name, without dashes.
    pub fn find(&self, name: &str) -> Option<&OptionDef> {
        self.defs.iter().find(|def| def.name == name)
    }
}

#[cfg(test)]
mod tests;
