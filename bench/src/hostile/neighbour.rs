//! A hostile neighbour: what it needs of the server, and what it does to it.

use std::net::SocketAddr;

use crate::{
    failure::Failure,
    hostile::{lookupd::Manner, raid::Raid},
    workload::{Run, Scale},
};

/// One hostile neighbour.
#[derive(Debug)]
pub(crate) struct Neighbour {
    /// Its name for `--only`.
    pub(crate) name: &'static str,
    /// A description of what it sends, and how much.
    pub(crate) title: &'static str,
    /// The server that it finds.
    pub(super) server: Setup,
    /// Creates what must exist before the quiet time.
    pub(super) prepare: fn(&Run<'_>, SocketAddr) -> Result<(), Failure>,
    /// The number of threads that are hostile.
    pub(super) workers: usize,
    /// The work of one of them, which ends with the raid.
    pub(super) work: fn(&Raid<'_>, usize),
}

/// How a server is started.
#[derive(Debug)]
pub(super) struct Setup {
    /// The files that it may open, if not as many as the system allows.
    pub(super) open_files: Option<u64>,
    /// Flags, each given only to a server that knows it.
    pub(super) flags: &'static [&'static str],
    /// Its nsqlookupds.
    pub(super) lookupds: &'static [Manner],
}

/// A server as it comes.
pub(super) const PLAIN: Setup = Setup { open_files: None, flags: &[], lookupds: &[] };

/// Prepares nothing.
pub(super) fn nothing(_: &Run<'_>, _: SocketAddr) -> Result<(), Failure> {
    Ok(())
}

/// Returns how many of `number` things a run prepares.
pub(super) fn scaled(run: &Run<'_>, number: usize) -> usize {
    if run.scale == Scale::Quick { number.div_ceil(100) } else { number }
}
