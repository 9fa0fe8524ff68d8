//! The command line of the `nsqlookupd` binary.

use std::{ffi::OsString, process::ExitCode};

use nsq_daemon::{cli, service::Service};

use crate::{Nsqlookupd, Options};

/// Runs nsqlookupd as its binary does: `args` are the words after the program's name.
///
/// The exit code is 0 after a clean stop, 1 when nsqlookupd cannot start or go on, and 2 when the command line is
/// wrong.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    cli::run("nsqlookupd", Options::table(), args, async |options, logger| {
        let mut service = Service::new(logger.clone())?;
        let start = Nsqlookupd::start_on(service.take_sockets(), options, logger);
        let Some(nsqlookupd) = service.start("Starting", start).await else { return Ok(()) };
        let nsqlookupd = nsqlookupd?;
        service.run(nsqlookupd.control(), |stop| nsqlookupd.run(stop)).await?;
        Ok(())
    })
}
