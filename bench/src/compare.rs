//! The comparison: every workload on every server, in turns, each time on a fresh process.

use std::{
    fs,
    io::{self, Write},
};

use crate::{
    args::{Compare, Load},
    clock::now,
    failure::Failure,
    limit::Limit,
    report::{self, Outcome, Report, Row},
    server::{self, Scratch, Server, Spec},
    target::{Kind, Target},
    workloads::{Run, Sample, Workload},
};

/// Messages that the memory queue has room for beyond those of the workload.
pub(crate) const MEMORY_QUEUE_MARGIN: usize = 10_000;

/// Runs the comparison and prints the table; says whether every run was complete.
///
/// # Errors
/// What keeps the comparison as a whole from being made.
pub(crate) fn compare(compare: &Compare) -> Result<bool, Failure> {
    let mut scratch = Scratch::create(&compare.scratch)?;
    scratch.clean_up_when_interrupted()?;
    server::raise_open_files()?;
    let started = now();
    let mut rows: Vec<Row> = compare
        .workloads
        .iter()
        .map(|workload| Row {
            name: workload.name,
            title: workload.title,
            outcomes: compare.servers.iter().map(|_| Vec::new()).collect(),
        })
        .collect();
    for round in 0..compare.rounds {
        for (workload, row) in compare.workloads.iter().zip(&mut rows) {
            // Each round begins with another server, so that none profits from its place.
            for turn in 0..compare.servers.len() {
                let index = (round + turn) % compare.servers.len();
                let spec = &compare.servers[index];
                if spec.kind == Kind::Null && !workload.null {
                    continue;
                }
                let outcome = outcome(compare, workload, spec, round, &mut scratch)?;
                row.outcomes[index].push(outcome);
            }
        }
    }
    let report = Report {
        subject: "server",
        columns: compare.servers.iter().map(|spec| spec.name.clone()).collect(),
        reference: compare.reference,
        rows,
        rounds: compare.rounds,
        seconds: (now() - started).as_secs_f64(),
    };
    print(&report.table(compare.all))?;
    if let Some(path) = &compare.json {
        fs::write(path, format!("{:#}\n", report.json()))
            .map_err(Failure::io(format!("write {}", path.display())))?;
    }
    Ok(!report.has_failed())
}

fn outcome(
    compare: &Compare,
    workload: &Workload,
    spec: &Spec,
    round: usize,
    scratch: &mut Scratch,
) -> Result<Outcome, Failure> {
    let started = now();
    let result = run_once(compare, workload, spec, scratch);
    let seconds = (now() - started).as_secs_f64();
    let (outcome, word) = match result {
        Ok(sample) => (Outcome::Done(sample), "done"),
        Err(failure) => (Outcome::Failed(failure), "FAILED"),
    };
    let (round, rounds) = (round + 1, compare.rounds);
    let line = format!(
        "round {round}/{rounds} {:10} {:10} {word} after {seconds:.1} s\n",
        workload.name, spec.name
    );
    io::stderr().write_all(line.as_bytes()).map_err(Failure::io("report progress"))?;
    Ok(outcome)
}

/// Runs one workload on a fresh server; a failure comes with the end of the server's log.
fn run_once(
    compare: &Compare,
    workload: &Workload,
    spec: &Spec,
    scratch: &mut Scratch,
) -> Result<Sample, String> {
    let limit = Limit::start(compare.limit_seconds);
    let size = if compare.quick { workload.size_quick } else { workload.size };
    let memory_queue = ["-mem-queue-size".to_owned(), (size + MEMORY_QUEUE_MARGIN).to_string()];
    let args = if workload.in_memory { &memory_queue[..] } else { &[] };
    let server =
        Server::start(spec, args, scratch, &limit).map_err(|failure| failure.to_string())?;
    let run = Run { target: &server.target, limit: &limit, size, quick: compare.quick };
    (workload.run)(&run).map_err(|failure| format!("{failure}{}", server.log_ends()))
}

/// Runs one workload against a server that is running already and prints its numbers.
///
/// # Errors
/// What the run met.
pub(crate) fn load(load: &Load) -> Result<(), Failure> {
    server::raise_open_files()?;
    let limit = Limit::start(load.limit_seconds);
    let target = Target {
        kind: Kind::Nsqd,
        address: load.address,
        http: load.http,
        pid: load.pid,
        data: load.data.clone(),
    };
    let run = Run { target: &target, limit: &limit, size: load.size, quick: false };
    let sample = (load.workload.run)(&run)?;
    print(&report::list(&sample))
}

/// Writes the results where they can be piped from.
///
/// # Errors
/// The system's refusal.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    io::stdout().write_all(text.as_bytes()).map_err(Failure::io("print"))
}
