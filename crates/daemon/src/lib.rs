//! What the NSQ daemons and tools share: options, logging, HTTP, tasks and shutdown.
//!
//! - [`options`]: one table declares every option and yields the command-line parser, the usage text and the
//!   configuration keys. [`go_duration`] reads and writes durations the way NSQ spells them.
//! - [`log`]: the daemon logger, whose level can be changed while it runs.
//! - [`http`]: a small HTTP/1.1 server with a route table and NSQ's conventions for answers.
//! - [`http_client`]: the few requests that daemons send to each other.
//! - [`tasks`], [`signals`], [`limits`]: start, stop and what the process may use.
//! - [`version`]: the line that every program prints for `-version`.
//! - [`json`]: the escaping that NSQ's JSON answers have.
//!
//! Nothing here knows topics, channels or messages, and nothing here ends the process: the binaries decide that.

pub mod go_duration;
pub mod http;
pub mod http_client;
pub mod json;
pub mod limits;
pub mod log;
pub mod options;
pub mod signals;
pub mod tasks;
pub mod version;

mod panics;
