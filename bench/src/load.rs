//! One workload against a server that is already running, for profiling.

use std::{net::SocketAddr, path::PathBuf};

use nix::unistd::Pid;

use crate::{
    failure::Failure,
    layer::Endpoint,
    limit::Limit,
    output::print,
    report, server,
    target::{Kind, Target},
    workload::{Run, Scale, Work, Workload},
};

/// The options of a load on a running server.
#[derive(Debug)]
pub(crate) struct Load {
    /// The workload.
    pub(crate) workload: &'static Workload,
    /// Its address for protocol V2.
    pub(crate) address: SocketAddr,
    /// Its address for HTTP.
    pub(crate) http: Option<SocketAddr>,
    /// Its process.
    pub(crate) pid: Option<Pid>,
    /// Its data directory.
    pub(crate) data: Option<PathBuf>,
    /// Messages, topics or connections.
    pub(crate) size: usize,
    /// The time limit.
    pub(crate) limit_seconds: u64,
}

/// Runs one workload against a running server and prints its numbers.
///
/// # Errors
/// Returns the error of the run.
pub(crate) fn load(load: &Load) -> Result<(), Failure> {
    server::raise_open_files()?;
    let limit = Limit::start(load.limit_seconds);
    let target = Target {
        kind: Kind::Nsqd,
        endpoint: Endpoint { address: load.address, layer: load.workload.layer },
        http: load.http,
        pid: load.pid,
        data: load.data.clone(),
    };
    let run = match load.workload.work {
        Work::Load(run) | Work::SlowDisk(_, run) => run,
        Work::Restart(_) => {
            let name = load.workload.name;
            return Err(Failure::Usage(format!("{name} needs a server that it can kill")));
        }
    };
    let sample = run(&Run { target: &target, limit: &limit, size: load.size, scale: Scale::Full })?;
    print(&report::list(&sample))
}
