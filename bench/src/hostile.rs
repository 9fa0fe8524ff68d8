//! An honest publisher and consumer beside hostile neighbours, each on a fresh server.

mod beside;
mod flags;
mod keep_alive;
mod lookupd;
mod metrics;
mod neighbour;
pub(crate) mod neighbours;
mod newcomers;
pub(crate) mod options;
mod pair;
mod raid;
mod table;
mod visitor;

use std::fs;

use self::{flags::Flags, lookupd::Lookupd, neighbour::Neighbour, options::Options};
use crate::{
    clock::now,
    failure::Failure,
    layer::Layer,
    limit::Limit,
    output::print,
    report::{Report, Row},
    sample::Unit,
    scratch::Scratch,
    server::{self, Server, Spec},
    turns::{RunResult, take_turns},
    workload::Job,
};

/// The quiet time, in percent of the time that a neighbour goes on.
const QUIET_PERCENT: usize = 70;

/// Measures every server beside every neighbour and prints the table. Returns whether every run was complete.
///
/// # Errors
/// Returns an error that affects the whole comparison.
pub(crate) fn compare(options: &Options) -> Result<bool, Failure> {
    let mut scratch = Scratch::create(&options.scratch)?;
    scratch.clean_up_when_interrupted()?;
    server::raise_open_files()?;
    let started = now();
    let flags: Vec<_> = options.servers.iter().map(Flags::of).collect::<Result<_, _>>()?;
    let columns: Vec<_> = options.servers.iter().map(|spec| spec.name.clone()).collect();
    let rows = options.neighbours.iter();
    let rows = rows.map(|neighbour| Row::new(neighbour.name, neighbour.title, columns.len()));
    let rows = take_turns(options.rounds, rows.collect(), &columns, |row, column| {
        let neighbour = options.neighbours[row];
        let (spec, flags) = (&options.servers[column], &flags[column]);
        Some(run_once(options, neighbour, spec, flags, &mut scratch))
    })?;
    let report = Report {
        subject: "server",
        columns,
        reference: None,
        rows,
        rounds: options.rounds,
        seconds: (now() - started).as_secs_f64(),
    };
    print(&table::table(&report, &options.neighbours, &left_out(options, &flags)))?;
    if let Some(path) = &options.json {
        fs::write(path, format!("{:#}\n", report.json()))
            .map_err(Failure::io(format!("write {}", path.display())))?;
    }
    Ok(!report.has_failed())
}

/// Returns a note for each flag that a server does not know.
fn left_out(options: &Options, flags: &[Flags]) -> Vec<String> {
    let mut notes = Vec::new();
    for neighbour in &options.neighbours {
        for (spec, flags) in options.servers.iter().zip(flags) {
            for flag in neighbour.server.flags.iter().filter(|flag| !flags.know(flag)) {
                let (neighbour, server) = (neighbour.name, &spec.name);
                notes.push(format!(
                    "- {neighbour} on {server}: without {flag}, which it does not know\n"
                ));
            }
        }
    }
    notes
}

/// Measures one server beside one neighbour. A failure includes the ends of the server's log.
fn run_once(
    options: &Options,
    neighbour: &Neighbour,
    spec: &Spec,
    flags: &Flags,
    scratch: &mut Scratch,
) -> RunResult {
    let limit = Limit::start(options.limit_seconds);
    let (lookupds, server) =
        start(neighbour, spec, flags, scratch, &limit).map_err(|failure| failure.to_string())?;
    let quiet = options.during * QUIET_PERCENT / 100;
    let job = Job { limit: &limit, size: quiet + options.during, scale: options.scale };
    let sample = beside::measure(&job.on(&server.target), neighbour, quiet);
    let mut sample = sample.map_err(|failure| format!("{failure}{}", server.log_ends()))?;
    sample.add(metrics::LOG, Unit::Bytes, server.log_bytes() as f64);
    drop(lookupds);
    Ok(sample)
}

/// Starts a server as the neighbour needs it, with its nsqlookupds.
fn start(
    neighbour: &Neighbour,
    spec: &Spec,
    flags: &Flags,
    scratch: &mut Scratch,
    limit: &Limit,
) -> Result<(Vec<Lookupd>, Server), Failure> {
    let setup = &neighbour.server;
    let lookupds: Vec<_> =
        setup.lookupds.iter().map(|manner| Lookupd::start(*manner)).collect::<Result<_, _>>()?;
    // As servers run in production: what neighbours make them log is part of the measurement.
    let mut args = vec!["-log-level=info".to_owned()];
    args.extend(lookupds.iter().map(|lookupd| format!("-lookupd-tcp-address={}", lookupd.tcp)));
    let known = setup.flags.iter().filter(|flag| flags.know(flag));
    args.extend(known.map(|flag| (*flag).to_owned()));
    let spec = Spec { open_files: setup.open_files, ..spec.clone() };
    let server = Server::start(&spec, &args, Layer::Plain, scratch, limit)?;
    Ok((lookupds, server))
}
