//! The command line of the `nsqd` binary.

use std::{ffi::OsString, process::ExitCode};

use nsq_daemon::{cli, signals};

use crate::{Nsqd, Options};

/// Runs nsqd as its binary does: `args` are the words after the program's name.
///
/// The exit code is 0 after a clean stop, 1 when nsqd cannot start or go on, and 2 when the command line is wrong.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    cli::run("nsqd", Options::table(), args, async |options, logger| {
        let stop = signals::stop_requested()?;
        let nsqd = Nsqd::start(options, logger).await?;
        nsqd.run(async {
            stop.await;
        })
        .await?;
        Ok(())
    })
}
