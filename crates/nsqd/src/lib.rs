//! nsqd, the daemon that receives, stores and delivers NSQ messages.
//!
//! The daemon is thin: it moves bytes between sockets, the log ([`nsq_log`]) and the broker ([`nsq_broker`]) and
//! holds no queue rules of its own. A connection is one task ([`protocol_v2`](self)) that decodes what a read
//! brought, appends its publishes as one batch, tells the broker, and writes what the broker hands out.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use nsq_daemon::log::{Level, Logger};
//! use nsqd::{Nsqd, Options};
//!
//! let options = Options { data_path: "/var/lib/nsq".into(), ..Options::default() };
//! let nsqd = Nsqd::start(options, Logger::new("[nsqd] ", Level::Info)).await?;
//! println!("publish to {}", nsqd.tcp_address());
//! nsqd.run(async { /* until this resolves */ }).await?;
//! # Ok(())
//! # }
//! ```

mod adopt;
mod channel;
mod cli;
mod client;
mod clock;
mod cold;
mod daemon;
mod deadlines;
mod health;
mod http;
mod identify;
mod journal;
mod keeper;
mod lock;
mod lookup;
mod lookup_peer;
mod mender;
mod metadata;
mod node;
mod options;
mod output;
mod protocol_v2;
mod services;
mod stats;
mod syncer;
mod tcp;
mod topic;
mod workers;

pub use crate::{
    cli::main,
    daemon::{Nsqd, RunError, StartError},
    node::OpenError,
    options::{InvalidOption, Options},
};

/// The version of NSQ whose behaviour this nsqd has, as clients and tools see it.
pub const VERSION: &str = "1.3.0";

/// The line that `--version` prints.
pub fn version_line() -> String {
    format!("nsqd v{VERSION} (built w/rust {})", env!("CARGO_PKG_VERSION"))
}
