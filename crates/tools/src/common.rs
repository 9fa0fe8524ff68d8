//! The common parts of the tools: client options, checks, exit codes.

use std::{convert::Infallible, fmt::Display, future::Future, process::ExitCode};

use nsq_client::{Config, ConfigOption, Consumer};
use tokio::runtime::Builder;

use crate::log;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A failure that ends a tool with exit code 1; holds the line for stderr.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(text: impl Display) -> Self {
        Self(text.to_string())
    }
}

/// Runs `tool` on its own runtime. Threads that still wait for stdin or stdout are left behind.
pub(crate) fn run(tool: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    let runtime = Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Err(error) => Err(Failure::new(format_args!("starting the runtime: {error}"))),
        Ok(runtime) => {
            let result = runtime.block_on(tool);
            runtime.shutdown_background();
            result
        }
    };
    exit_code(result)
}

/// Returns the exit code for `result`, after logging a failure.
pub(crate) fn exit_code(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            log::line(failure);
            ExitCode::FAILURE
        }
    }
}

/// The help of a repeatable option that passes `key[,value]` on to the client.
pub(crate) fn client_option_help(client: &str) -> String {
    format!("option to pass through to the {client}, as key[,value] (may be given multiple times)")
}

/// Checks one value of such an option.
pub(crate) fn check_client_option(text: &str) -> Result<(), String> {
    let Ok::<ConfigOption, Infallible>(option) = text.parse();
    Config::default().apply(&option).map_err(|error| error.to_string())
}

/// Returns the client's configuration for a tool: the defaults, changed by `options`, and the tool's name.
pub(crate) fn client_config(tool: &str, options: &[String]) -> Result<Config, Failure> {
    let mut config = Config::default();
    for option in options {
        let Ok::<ConfigOption, Infallible>(option) = option.parse();
        config.apply(&option).map_err(Failure::new)?;
    }
    config.user_agent = format!("{tool}/{VERSION} nsq-client/{VERSION}");
    Ok(config)
}

/// The source of messages: nsqds, or the nsqlookupds that know them.
pub(crate) enum Source {
    /// The `host:port` of each nsqd.
    Nsqds(Vec<String>),
    /// The `host:port` of each nsqlookupd's HTTP API.
    Lookupds(Vec<String>),
}

impl Source {
    /// Connects `consumer`. Fails if an nsqd given by its address cannot be reached.
    pub(crate) async fn connect(&self, consumer: &Consumer) -> Result<(), Failure> {
        match self {
            Self::Nsqds(nsqds) => consumer.connect_to_nsqds(nsqds).await.map_err(Failure::new),
            Self::Lookupds(lookupds) => {
                consumer.connect_to_nsqlookupds(lookupds).await.map_err(Failure::new)
            }
        }
    }
}

/// Returns the source of messages, which exactly one of two options must name.
pub(crate) fn source(nsqds: Vec<String>, lookupds: Vec<String>) -> Result<Source, Failure> {
    match (nsqds.is_empty(), lookupds.is_empty()) {
        (true, true) => Err(Failure::new("--nsqd-tcp-address or --lookupd-http-address required")),
        (false, false) => {
            Err(Failure::new("use --nsqd-tcp-address or --lookupd-http-address not both"))
        }
        (true, false) => Ok(Source::Lookupds(lookupds)),
        (false, true) => Ok(Source::Nsqds(nsqds)),
    }
}
