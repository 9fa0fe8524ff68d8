//! The `main` of a daemon: command line, configuration file, log, runtime, exit code.

use std::{error::Error, ffi::OsString, fmt::Display, io::Write, process::ExitCode};

use nsq_options::{InvalidOption, OptionDef, Parsed, Table, option};

pub use crate::panics::log_panics;
use crate::{
    limits,
    log::{self, FlushGuard, Format, Level, Logger},
    version,
};

/// The options of the log, which all daemons have.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// `--log-level`.
    pub log_level: Level,
    /// `--log-prefix`: the beginning of every line.
    pub log_prefix: String,
    /// `--log-format`.
    pub log_format: Format,
    /// `--log-rate`: lines a second about one peer and of one kind; 0 for no bound.
    pub log_rate: u32,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            log_level: Level::Info,
            log_prefix: String::new(),
            log_format: Format::Text,
            log_rate: log::DEFAULT_RATE,
        }
    }
}

impl LogOptions {
    /// The options that all daemons have: those of the log, and those that [`run`] handles itself. Lines begin with
    /// the name of `program` in brackets by default.
    pub fn table(program: &str) -> Table<Self> {
        let deprecated = "[deprecated] has no effect, use --log-level";
        Table::new(
            program,
            vec![
                OptionDef::config_file(),
                OptionDef::without_effect("version", false, "print version string").not_in_file(),
                OptionDef::without_effect("verbose", false, deprecated).not_in_file(),
                option!(LogOptions.log_level, "debug, info, warn, error or fatal"),
                option!(LogOptions.log_prefix, "beginning of every line of the log")
                    .default_to(prefix(program)),
                option!(
                    LogOptions.log_format,
                    "text (as NSQ's, in local time) or json (one object per line, in UTC)",
                ),
                option!(
                    LogOptions.log_rate,
                    "lines of the log a second about one peer and of one kind; 0 for no limit",
                ),
            ],
        )
    }

    /// The logger that the options ask for.
    pub fn logger(&self) -> Logger {
        let logger = Logger::in_format(self.log_format, self.log_prefix.as_str(), self.log_level);
        logger.change_rate(self.log_rate);
        logger
    }
}

/// The options of a daemon, with those of its log.
#[derive(Default)]
struct CommandLine<O> {
    log: LogOptions,
    options: O,
}

/// Runs a daemon as its binary does: `args` are the words after the program's name, `table` has the daemon's own
/// options, and `serve` runs the daemon until it has stopped.
///
/// The exit code is 0 after a clean stop, 1 when the daemon cannot start or go on, and 2 when the command line is
/// wrong.
pub fn run<O, S>(
    program: &str,
    table: Table<O>,
    args: impl IntoIterator<Item = OsString>,
    serve: impl FnOnce(O, Logger) -> S,
) -> ExitCode
where
    O: Default + 'static,
    S: Future<Output = Result<(), Box<dyn Error>>>,
{
    let _flush = FlushGuard::default();
    let table = LogOptions::table(program)
        .nested(|line: &CommandLine<O>| &line.log, |line| &mut line.log)
        .and(table.nested(|line| &line.options, |line| &mut line.options));
    let mut parsed = match table.parse(args) {
        Ok(parsed) => parsed,
        Err(error) => return error.report(),
    };
    if parsed.is_on("version") {
        print(&format!("{}\n", version::line(program)));
        return ExitCode::SUCCESS;
    }
    let (line, logger) = match configure(&table, &mut parsed) {
        Ok(configured) => configured,
        // The options may be at fault, so the line does not follow them.
        Err(error) => return fatal(program, Format::Text, &error),
    };
    match in_runtime(|| serve(line.options, logger)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fatal(program, line.log.log_format, &error),
    }
}

/// Runs a daemon in a runtime of its own. What it leaves behind does not keep the process from ending.
///
/// # Errors
/// When the runtime cannot be built, or as the daemon.
pub fn in_runtime<S>(serve: impl FnOnce() -> S) -> Result<(), Box<dyn Error>>
where
    S: Future<Output = Result<(), Box<dyn Error>>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(serve());
    // A start or a stop that was given up leaves threads behind that may never end.
    runtime.shutdown_background();
    served
}

/// Resolves the options, and prepares the log and the process.
fn configure<O: Default + 'static>(
    table: &Table<CommandLine<O>>,
    parsed: &mut Parsed,
) -> Result<(CommandLine<O>, Logger), Box<dyn Error>> {
    let unknown = table.load_file(parsed)?;
    let line = table
        .resolve(parsed)
        .map_err(|source| CannotStart { program: table.program().to_owned(), source })?;
    let logger = line.log.logger();
    log_panics(logger.clone());
    warn_of_unknown(&unknown, &logger);
    raise_file_limit(&logger);
    Ok((line, logger))
}

/// The options do not let the program start.
#[derive(Debug, thiserror::Error)]
#[error("failed to instantiate {program} - {source}")]
struct CannotStart {
    program: String,
    source: InvalidOption,
}

/// Warns of the keys of a configuration file that no option has.
pub fn warn_of_unknown(keys: &[String], logger: &Logger) {
    for key in keys {
        logger.warn(format_args!("config file: {key} is not an option, it has no effect"));
    }
}

/// Raises the limit on open files as far as it goes, and reports it.
pub fn raise_file_limit(logger: &Logger) {
    match limits::raise_file_limit() {
        Ok(Some(limit)) => logger.info(format_args!("open files: {limit} at most")),
        Ok(None) => logger.info(format_args!("open files: no limit")),
        Err(error) => {
            logger.warn(format_args!("cannot raise the limit of open files - {error}"));
        }
    }
}

/// Prints on stdout. A closed stdout is no error: the reader has seen enough.
pub fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Reports why the program ends.
fn fatal(program: &str, format: Format, error: &dyn Display) -> ExitCode {
    // A flood before it must not cost this line.
    log::flush();
    Logger::in_format(format, prefix(program), Level::Fatal).fatal(format_args!("{error}"));
    ExitCode::FAILURE
}

fn prefix(program: &str) -> String {
    format!("[{program}] ")
}
