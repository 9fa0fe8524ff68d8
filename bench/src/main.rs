//! Compares nsqd binaries side by side by CPU, rates, memory, bytes on disk and latency. Each run
//! has a fresh server process; a null server shows the limit. See `README.md`.

mod args;
mod client;
mod clock;
mod compare;
mod conn;
mod consumer;
mod failure;
mod hostile;
mod http;
mod layer;
mod leash;
mod ledger;
mod limit;
mod load;
mod measure;
mod meter;
mod null;
mod output;
mod pace;
mod publisher;
mod report;
mod sample;
mod scratch;
mod server;
mod servers;
mod target;
mod turns;
mod wire;
mod words;
mod workload;
mod workloads;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use self::{args::Action, failure::Failure};

fn main() -> ExitCode {
    let args = std::env::args().skip(1).collect();
    match args::parse(args).and_then(run) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            // If this cannot be written either, there is nowhere to report it.
            let _ = writeln!(io::stderr(), "nsq-bench: {failure}");
            ExitCode::from(if matches!(failure, Failure::Usage(_)) { 2 } else { 1 })
        }
    }
}

/// Performs `action`. Returns whether all of it succeeded.
fn run(action: Action) -> Result<bool, Failure> {
    match action {
        Action::Compare(compare) => compare::compare(&compare),
        Action::Load(load) => load::load(&load).map(|()| true),
        Action::Client(options) => client::compare(&options),
        Action::Hostile(options) => hostile::compare(&options),
        Action::Raw(args) => client::raw::run(&args).map(|()| true),
        Action::Null(options) => null::serve(options).map(|()| true),
        Action::Leash(args) => Err(leash::become_leashed(&args)),
        Action::Help => {
            let mut text = args::HELP.to_owned();
            for workload in workloads::ALL {
                text.push_str(&format!("    {:12}{}\n", workload.name, workload.title));
            }
            text.push_str("\nRows of client:\n");
            for row in client::rows::ALL {
                text.push_str(&format!("    {:12}{}\n", row.name, row.title));
            }
            text.push_str("\nNeighbours of hostile:\n");
            for neighbour in hostile::neighbours::ALL {
                text.push_str(&format!("    {:18}{}\n", neighbour.name, neighbour.title));
            }
            output::print(&text).map(|()| true)
        }
    }
}
