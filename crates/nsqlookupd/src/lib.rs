//! nsqlookupd, the daemon that tells NSQ consumers which nsqd has a topic.
//!
//! Every nsqd keeps a connection to every nsqlookupd and announces its topics and channels on it; consumers and
//! tools query over HTTP. All state is in memory, in a [`Registry`](nsq_broker::registry::Registry) that a session per
//! connection writes and the HTTP handlers read. Instances do not know of each other; clients merge their answers.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use nsq_daemon::log::{Level, Logger};
//! use nsqlookupd::{Nsqlookupd, Options};
//!
//! let logger = Logger::new("[nsqlookupd] ", Level::Info);
//! let nsqlookupd = Nsqlookupd::start(Options::default(), logger).await?;
//! println!("announce to {:?}", nsqlookupd.tcp_address());
//! nsqlookupd.run(async { /* until this resolves */ }).await?;
//! # Ok(())
//! # }
//! ```

mod cli;
mod client;
mod clock;
mod daemon;
mod directory;
mod http;
mod identify;
mod limit;
mod metrics;
mod options;
mod protocol_v1;
mod tcp;

pub use crate::{
    cli::main,
    daemon::{Nsqlookupd, RunError, StartError},
    options::Options,
};

/// The version of NSQ whose behaviour this nsqlookupd has, as clients and tools see it.
pub const VERSION: &str = nsq_daemon::version::NSQ_VERSION;

/// The line that `--version` prints.
pub fn version_line() -> String {
    nsq_daemon::version::line("nsqlookupd")
}
