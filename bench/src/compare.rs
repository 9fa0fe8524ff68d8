//! The comparison: every workload on every server, in turns, each time on a fresh process.

use std::{fs, path::PathBuf};

use crate::{
    clock::now,
    failure::Failure,
    limit::Limit,
    output::print,
    report::{Report, Row},
    scratch::Scratch,
    server::{self, Server, Spec},
    turns::{RunResult, take_turns},
    workload::{Job, Scale, SlowDisk, Work, Workload},
};

/// The options of a comparison of servers.
#[derive(Debug)]
pub(crate) struct Compare {
    /// The columns in order, the null server last.
    pub(crate) servers: Vec<Spec>,
    /// The column that ratios refer to.
    pub(crate) reference: Option<usize>,
    /// The rows.
    pub(crate) workloads: Vec<&'static Workload>,
    /// The number of rounds.
    pub(crate) rounds: usize,
    /// The amount of work.
    pub(crate) scale: Scale,
    /// Print details.
    pub(crate) all: bool,
    /// The file for all numbers.
    pub(crate) json: Option<PathBuf>,
    /// The time limit of one run.
    pub(crate) limit_seconds: u64,
    /// The parent of the data directories.
    pub(crate) scratch: PathBuf,
}

/// Runs the comparison and prints the table. Returns whether every run was complete.
///
/// # Errors
/// Returns an error that affects the whole comparison.
pub(crate) fn compare(compare: &Compare) -> Result<bool, Failure> {
    let mut scratch = Scratch::create(&compare.scratch)?;
    scratch.clean_up_when_interrupted()?;
    server::raise_open_files()?;
    let started = now();
    let columns: Vec<_> = compare.servers.iter().map(|spec| spec.name.clone()).collect();
    let rows = compare.workloads.iter();
    let rows = rows.map(|workload| Row::new(workload.name, workload.title, columns.len()));
    let rows = take_turns(compare.rounds, rows.collect(), &columns, |row, column| {
        let (workload, spec) = (compare.workloads[row], &compare.servers[column]);
        workload.takes(spec).then(|| run_once(compare, workload, spec, &mut scratch))
    })?;
    let report = Report {
        subject: "server",
        columns,
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

/// Runs one workload on a fresh server. A failure includes the ends of the server's log.
fn run_once(
    compare: &Compare,
    workload: &Workload,
    spec: &Spec,
    scratch: &mut Scratch,
) -> RunResult {
    let limit = Limit::start(compare.limit_seconds);
    let job = Job { limit: &limit, size: workload.size_at(compare.scale), scale: compare.scale };
    let memory_queue = server::memory_queue_for(job.size);
    let args = if workload.in_memory { &memory_queue[..] } else { &[] };
    let mut server =
        start(workload, spec, args, scratch, &limit).map_err(|failure| failure.to_string())?;
    let sample = match workload.work {
        Work::Load(run) | Work::SlowDisk(_, run) => run(&job.on(&server.target)),
        Work::Restart(run) => run(&mut server, job),
    };
    sample.map_err(|failure| format!("{failure}{}", server.log_ends()))
}

/// Starts the server of a column, or on a slow disk the one of this project that can have such a disk.
fn start(
    workload: &Workload,
    spec: &Spec,
    args: &[String],
    scratch: &mut Scratch,
    limit: &Limit,
) -> Result<Server, Failure> {
    let Work::SlowDisk(SlowDisk { flush_ms, args }, _) = workload.work else {
        return Server::start(spec, args, workload.layer, scratch, limit);
    };
    let args: Vec<_> = args.iter().copied().map(str::to_owned).collect();
    Server::start(&spec.on_slow_disk(flush_ms)?, &args, workload.layer, scratch, limit)
}
