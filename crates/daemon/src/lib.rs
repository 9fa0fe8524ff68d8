//! The parts that the NSQ daemons and tools share: `main`, logging, HTTP, tasks and shutdown.
//!
//! - [`cli`]: the `main` of every daemon, from its command line to its exit code.
//! - [`log`]: the daemon logger, whose level can be changed while it runs.
//! - [`net`]: listeners, and the one loop that accepts connections.
//! - [`http`]: a small HTTP/1.1 server with a route table and NSQ's conventions for answers.
//! - [`pprof`]: the paths of Go's profiler.
//! - [`tls`]: the certificate of a server, and the listener of HTTPS.
//! - [`http_client`]: the few requests that daemons send to each other.
//! - [`tasks`], [`signals`]: start and stop.
//! - [`limits`], [`process`]: the limits and the status of the process.
//! - [`metrics`]: the text format of Prometheus.
//! - [`service`], [`systemd`]: the life of a daemon under a service manager.
//! - [`version`]: the line that every program prints for `-version`.
//! - [`json`]: the escaping that NSQ's JSON answers have.
//! - [`text`]: text from strangers, made fit to be shown.
//!
//! Nothing here knows topics, channels or messages, and nothing here ends the process: the binaries decide that.

pub mod cli;
pub mod http;
pub mod http_client;
pub mod json;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod net;
pub mod pprof;
pub mod process;
pub mod service;
pub mod signals;
pub mod systemd;
pub mod tasks;
pub mod text;
pub mod tls;
pub mod version;

mod panics;
