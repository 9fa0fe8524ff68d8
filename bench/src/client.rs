//! The comparison of clients: each does the same work in turn, with a fresh nsqd and a fresh client
//! process each time.

mod child;
mod columns;
mod go;
pub(crate) mod options;
pub(crate) mod raw;
pub(crate) mod rows;
mod targets;

use std::{env, fs};

use self::{
    child::Client,
    columns::{GO, RAW_COLUMN, RUST, RUST_ONE_THREAD},
    options::Options,
    rows::{ClientRow, ClientRun},
};
use crate::{
    clock::now,
    failure::Failure,
    layer::Layer,
    limit::Limit,
    output::{print, progress},
    report::{Report, Row},
    scratch::Scratch,
    server::{self, Server},
    turns::{RunResult, take_turns},
    workload::{Run, Scale},
};

/// Runs the comparison and prints the table. Returns whether every run was complete.
///
/// # Errors
/// Returns an error that affects the whole comparison.
pub(crate) fn compare(options: &Options) -> Result<bool, Failure> {
    let mut scratch = Scratch::create(&options.scratch)?;
    scratch.clean_up_when_interrupted()?;
    server::raise_open_files()?;
    let clients = clients(options, &mut scratch)?;
    let started = now();
    let columns: Vec<_> = clients.iter().map(|client| client.name.to_owned()).collect();
    let rows = options.rows.iter().map(|row| Row::new(row.name, row.title, columns.len()));
    let rows = take_turns(options.rounds, rows.collect(), &columns, |row, column| {
        let (row, client) = (options.rows[row], &clients[column]);
        let takes_part = row.raw || client.name != RAW_COLUMN;
        takes_part.then(|| run_once(options, row, client, &mut scratch))
    })?;
    let report = Report {
        subject: "client",
        columns,
        reference: clients.iter().position(|client| client.name == GO),
        rows,
        rounds: options.rounds,
        seconds: (now() - started).as_secs_f64(),
    };
    tell(options, &report)?;
    // In CI nothing may be skipped, so a missing toolchain is a failure.
    let skipped = options.go && report.reference.is_none() && env::var_os("CI").is_some();
    Ok(!report.has_failed() && !skipped)
}

/// Prints the table and writes the JSON file, if requested.
fn tell(options: &Options, report: &Report) -> Result<(), Failure> {
    print(&format!("{}{}", report.table(options.all), targets::list(report)))?;
    if !options.go {
        print("\nWITHOUT go-nsq: --no-go\n")?;
    } else if report.reference.is_none() {
        print(&format!("\nWITHOUT go-nsq: {}\n", go::MISSING))?;
    }
    if let Some(path) = &options.json {
        fs::write(path, format!("{:#}\n", report.json()))
            .map_err(Failure::io(format!("write {}", path.display())))?;
    }
    Ok(())
}

/// Returns the columns in order. Builds the Go client if Go is installed.
fn clients(options: &Options, scratch: &mut Scratch) -> Result<Vec<Client>, Failure> {
    let own = env::current_exe().map_err(Failure::io("find the own program"))?;
    let rust = own.with_file_name("nsq-bench-client");
    if !rust.exists() {
        return Err(Failure::Usage(format!(
            "{} is missing: build nsq-bench again",
            rust.display()
        )));
    }
    let mut clients = vec![
        Client { name: RUST, program: rust.clone(), args: &[] },
        Client { name: RUST_ONE_THREAD, program: rust, args: &["-runtime=current"] },
    ];
    if options.go {
        match go::build(&scratch.next()?)? {
            Some(program) => clients.push(Client { name: GO, program, args: &[] }),
            None => progress(&format!("!!!!! go-nsq is left out: {} !!!!!\n", go::MISSING))?,
        }
    }
    clients.push(Client { name: RAW_COLUMN, program: own, args: &[] });
    Ok(clients)
}

/// Does the work of one row with one client on a fresh server. A failure includes the ends of the
/// server's log.
fn run_once(
    options: &Options,
    row: &ClientRow,
    client: &Client,
    scratch: &mut Scratch,
) -> RunResult {
    let limit = Limit::start(options.limit_seconds);
    let (size, scale) = match options.quick {
        true => (row.size_quick, Scale::Quick),
        false => (row.size, Scale::Full),
    };
    let memory_queue = server::memory_queue_for(size);
    let mut nsqd = options.nsqd.clone();
    nsqd.host = row.host;
    let server = Server::start(&nsqd, &memory_queue, Layer::Plain, scratch, &limit)
        .map_err(|failure| failure.to_string())?;
    let run = Run { target: &server.target, limit: &limit, size, scale };
    (row.run)(&ClientRun { run, client })
        .map_err(|failure| format!("{failure}{}", server.log_ends()))
}
