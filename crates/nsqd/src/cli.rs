//! The command line of the `nsqd` binary.

use std::{ffi::OsString, process::ExitCode};

use nsq_daemon::{cli, service::Service};

use crate::{Nsqd, Options};

/// Runs nsqd as its binary does: `args` are the words after the program's name.
///
/// The exit code is 0 after a clean stop, 1 when nsqd cannot start or go on, and 2 when the command line is wrong.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    cli::run("nsqd", Options::table(), args, async |options, logger| {
        let mut service = Service::new(logger.clone())?;
        let start = Nsqd::start_on(service.take_sockets(), options, logger);
        let Some(nsqd) = service.start("Recovering topics", start).await else { return Ok(()) };
        let nsqd = nsqd?;
        service.run(nsqd.control(), |stop| nsqd.run(stop)).await?;
        Ok(())
    })
}
