//! One workload against a server that is already running, for profiling.

use std::{net::SocketAddr, path::PathBuf};

use nix::unistd::Pid;

use crate::{
    failure::Failure,
    limit::Limit,
    output::print,
    report, server,
    target::{Kind, Target},
    workload::{Run, Scale, Work, Workload},
};

/// How a running server is loaded.
#[derive(Debug)]
pub(crate) struct Load {
    /// What is done to it.
    pub(crate) workload: &'static Workload,
    /// Where it speaks protocol V2.
    pub(crate) address: SocketAddr,
    /// Where its HTTP API is.
    pub(crate) http: Option<SocketAddr>,
    /// Its process.
    pub(crate) pid: Option<Pid>,
    /// Its data directory.
    pub(crate) data: Option<PathBuf>,
    /// Messages, topics or connections.
    pub(crate) size: usize,
    /// How long it may take.
    pub(crate) limit_seconds: u64,
}

/// Runs one workload against a server that is running already and prints its numbers.
///
/// # Errors
/// What the run met.
pub(crate) fn load(load: &Load) -> Result<(), Failure> {
    server::raise_open_files()?;
    let limit = Limit::start(load.limit_seconds);
    let target = Target {
        kind: Kind::Nsqd,
        address: load.address,
        http: load.http,
        pid: load.pid,
        data: load.data.clone(),
    };
    let Work::Load(run) = load.workload.work else {
        let name = load.workload.name;
        return Err(Failure::Usage(format!("{name} needs a server that it can kill")));
    };
    let sample = run(&Run { target: &target, limit: &limit, size: load.size, scale: Scale::Full })?;
    print(&report::list(&sample))
}
