//! nsqd, the daemon that receives, stores and delivers NSQ messages.
//!
//! The daemon is thin: it moves bytes between sockets, the log ([`nsq_log`]) and the broker ([`nsq_broker`]) and
//! holds no queue rules of its own. A connection is one task ([`session`](self)) that decodes what a read
//! brought, appends its publishes as one batch, tells the broker, and writes what the broker hands out.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use nsq_daemon::log::{Level, Logger};
//! use nsqd::{Nsqd, Options};
//!
//! let options = Options { data_path: "/var/lib/nsq".into(), ..Options::default() };
//! let nsqd = Nsqd::start(options, Logger::new("[nsqd] ", Level::Info)).await?;
//! println!("publish to {:?}", nsqd.tcp_address());
//! nsqd.run(async { /* until this resolves */ }).await?;
//! # Ok(())
//! # }
//! ```

mod auth;
mod birth;
mod chores;
mod cli;
mod clock;
mod daemon;
mod http;
mod latency;
mod lock;
mod lookup;
mod memory;
mod meters;
mod node;
mod options;
mod session;
mod statsd;
mod tls;
mod topic;
mod world;

pub use nsq_options::InvalidOption;

pub use crate::{
    cli::main,
    clock::{Clocks, SystemClocks},
    daemon::{Nsqd, RunError, StartError},
    node::{
        MetadataError, OpenError,
        export::{ExportError, export},
    },
    options::{
        AuthMethod, HttpConfig, MetricsOptions, Options, PerTopic, Percentiles, ShareOptions,
        StatsdOptions, TlsMinVersion, TlsOptions, TlsRequired,
    },
    tls::TlsStartError,
    world::World,
};

/// The version of NSQ whose behaviour this nsqd has, as clients and tools see it.
pub const VERSION: &str = nsq_daemon::version::NSQ_VERSION;

/// The line that `--version` prints.
pub fn version_line() -> String {
    nsq_daemon::version::line("nsqd")
}
