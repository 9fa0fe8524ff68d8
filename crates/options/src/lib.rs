//! One table of options makes the command-line parser, the usage text, the reader of the configuration file and the
//! values that `/config` shows.
//!
//! An option is declared once: the field it sets, its help, its bounds and its key in the file. Its default is the
//! field's value in [`Default`].
//!
//! The syntax is NSQ's: `-name` equals `--name`, a value follows after `=` or as the next word, a switch takes
//! a value only after `=`, and parsing stops at the first word that is not an option, or after `--`. Options that are
//! not on the command line may be in a TOML file, see `Table::load_file` (feature `file`).
//!
//! ```
//! use std::time::Duration;
//!
//! use nsq_options::{OptionDef, Table, option};
//!
//! struct Options {
//!     max_rdy_count: u64,
//!     msg_timeout: Duration,
//!     lookupd_tcp_address: Vec<String>,
//! }
//!
//! impl Default for Options {
//!     fn default() -> Self {
//!         let msg_timeout = Duration::from_secs(60);
//!         Self { max_rdy_count: 2500, msg_timeout, lookupd_tcp_address: Vec::new() }
//!     }
//! }
//!
//! let table = Table::new("nsqd", vec![
//!     option!(Options.max_rdy_count, "maximum RDY count for a client"),
//!     option!(Options.msg_timeout, "time before a message is requeued").positive(),
//!     option!(Options.lookupd_tcp_address, "nsqlookupd to announce to"),
//! ]);
//! let parsed = table.parse(["--msg-timeout=1m30s", "-max-rdy-count", "0x10"]).expect("is valid");
//! let options = table.resolve(&parsed).expect("is within bounds");
//! assert_eq!(options.max_rdy_count, 16);
//! assert_eq!(options.msg_timeout.as_secs(), 90);
//! assert!(options.lookupd_tcp_address.is_empty());
//! ```

mod bounds;
mod command_line;
mod def;
pub mod duration;
#[cfg(feature = "file")]
mod file;
mod parsed;
mod setting;
mod table;
mod usage;
mod value;

#[cfg(all(test, feature = "file"))]
mod sample;
#[cfg(all(test, feature = "file"))]
mod tests;

#[cfg(feature = "file")]
pub use self::file::FileError;
pub use self::{
    bounds::{InvalidOption, Misfit},
    def::OptionDef,
    parsed::{Parsed, Source},
    setting::Setting,
    table::Table,
    usage::UsageError,
    value::{Kind, Value, read_bool},
};
