//! The command line of the `nsqlookupd` binary.

use std::{ffi::OsString, process::ExitCode};

use nsq_daemon::{cli, signals};

use crate::{Nsqlookupd, Options};

/// Runs nsqlookupd as its binary does: `args` are the words after the program's name.
///
/// The exit code is 0 after a clean stop, 1 when nsqlookupd cannot start or go on, and 2 when the command line is
/// wrong.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    cli::run("nsqlookupd", Options::table(), args, async |options, logger| {
        let stop = signals::stop_requested()?;
        let nsqlookupd = Nsqlookupd::start(options, logger).await?;
        nsqlookupd
            .run(async {
                stop.await;
            })
            .await?;
        Ok(())
    })
}
