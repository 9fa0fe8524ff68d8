//! This project's nsqd on a disk whose flushes take longer, for the rows of `nsq-bench` about slow
//! disks. Takes the options of nsqd, and `--flush-delay`.

mod slow_disk;

use std::{env, process::ExitCode, sync::Arc, time::Duration};

use nsq_daemon::{cli, signals};
use nsq_options::{Table, option};
use nsqd::{Nsqd, World};

use crate::slow_disk::SlowDisk;

/// The options of nsqd, with that of its disk.
#[derive(Default)]
struct Options {
    flush_delay: Duration,
    nsqd: nsqd::Options,
}

fn table() -> Table<Options> {
    let help = "time that each flush of a file or directory takes in addition";
    Table::new("nsqd", vec![option!(Options.flush_delay, help)])
        .and(nsqd::Options::table().nested(|line: &Options| &line.nsqd, |line| &mut line.nsqd))
}

fn main() -> ExitCode {
    cli::run("nsqd", table(), env::args_os().skip(1), async |options, logger| {
        let stop = signals::stop_requested()?;
        let disk = Arc::new(SlowDisk::new(options.flush_delay));
        let world = World { disk, ..World::default() };
        let nsqd = Nsqd::start_in(world, options.nsqd, logger).await?;
        nsqd.run(async {
            stop.await;
        })
        .await?;
        Ok(())
    })
}
