//! The command line of the `nsqd` binary.

use std::{ffi::OsString, io::Write, process::ExitCode};

use nsq_daemon::{
    limits,
    log::{Level, Logger},
    signals,
};

use crate::{InvalidOption, Nsqd, Options, version_line};

/// What lines about a failed start begin with, whatever the options say: they may be what is wrong.
const PREFIX: &str = "[nsqd] ";

/// Runs nsqd as its binary does: `args` are the words after the program's name.
///
/// The exit code is 0 after a clean stop, 1 when nsqd cannot start or go on, and 2 when the command line is wrong.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let definitions = nsq_daemon::options::Options::new("nsqd", Options::definitions());
    let mut parsed = match definitions.parse(args) {
        Ok(parsed) => parsed,
        Err(error) => return error.report(),
    };
    if parsed.bool("version") {
        // Whoever closed stdout does not want to know.
        let _ = writeln!(std::io::stdout(), "{}", version_line());
        return ExitCode::SUCCESS;
    }
    let unknown = match definitions.load_config(&mut parsed) {
        Ok(unknown) => unknown,
        Err(error) => return fatal(&error),
    };
    let level: Level = match parsed.string("log-level").parse() {
        Ok(level) => level,
        Err(error) => return fatal(&error),
    };
    let options: Result<Options, InvalidOption> = Options::from_parsed(&parsed);
    let options = match options {
        Ok(options) => options,
        Err(error) => return fatal(&format_args!("failed to instantiate nsqd - {error}")),
    };
    let logger = Logger::new(parsed.string("log-prefix"), level);
    for key in unknown {
        logger.warn(format_args!("config file: {key} is not an option, it has no effect"));
    }
    if let Err(error) = limits::raise_file_limit() {
        logger.warn(format_args!("cannot raise the limit of open files - {error}"));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fatal(&error),
    };
    match runtime.block_on(run(options, logger)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fatal(&error),
    }
}

async fn run(options: Options, logger: Logger) -> Result<(), Box<dyn std::error::Error>> {
    let stop = signals::stop_requested()?;
    let nsqd = Nsqd::start(options, logger).await?;
    nsqd.run(async {
        stop.await;
    })
    .await?;
    Ok(())
}

fn fatal(error: &dyn std::fmt::Display) -> ExitCode {
    Logger::new(PREFIX, Level::Fatal).fatal(format_args!("{error}"));
    ExitCode::FAILURE
}
