//! One run: the honest clients alone for a while, then beside a neighbour.

use std::{ops::Range, sync::OnceLock, time::Duration};

use crate::{
    failure::Failure,
    hostile::{
        metrics,
        neighbour::Neighbour,
        newcomers,
        pair::{Latencies, Pair},
        raid::Raid,
    },
    limit::{Task, run_together},
    meter::{Meter, Spent},
    pace::Pace,
    sample::{Sample, Unit},
    workload::Run,
};

/// The share of the quiet time that is not counted, because the server is warming up.
const WARM_UP_PERCENT: usize = 25;
/// Milliseconds that newcomers may still wait after the last message was due.
const STAY_MS: usize = 1000;

/// Measures the honest clients for `quiet` messages alone and for the rest of the run beside `neighbour`.
///
/// # Errors
/// Returns a failure of the pair. Newcomers and the neighbour may be refused, which is counted.
pub(super) fn measure(
    run: &Run<'_>,
    neighbour: &Neighbour,
    quiet: usize,
) -> Result<Sample, Failure> {
    let Some(http) = run.target.http else {
        return Err(Failure::Usage("hostile needs the HTTP address of the server".into()));
    };
    (neighbour.prepare)(run, http)?;
    let mut pair = Pair::connect(run)?;
    let (meter, pace) = (Meter::start(run.target)?, Pace::start());
    let until = |ms| Raid::until(pace.due(ms), run.target.endpoint.address, http, run.limit);
    let (raid, stay) = (until(run.size), until(run.size + STAY_MS));
    let spent_quietly = OnceLock::new();

    let (publish, receive) = pair.split(pace, run.size);
    let mut tasks: Vec<Task<'_, Latencies>> = vec![
        Box::new(publish),
        Box::new(receive),
        Box::new(|| newcomers::come_and_go(&stay, pace, run.size)),
        Box::new(|| {
            pace.wait_for(quiet);
            spent_quietly.get_or_init(|| meter.read());
            Ok(Latencies::new())
        }),
    ];
    for worker in 0..neighbour.workers {
        let raid = &raid;
        tasks.push(Box::new(move || {
            pace.wait_for(quiet);
            (neighbour.work)(raid, worker);
            Ok(Latencies::new())
        }));
    }
    let latencies = run_together(run.limit, tasks)?;
    let spent = meter.read()?;

    let mut sample = Sample { duplicates: pair.duplicates(), ..Sample::default() };
    add_latencies(&mut sample, &latencies, quiet);
    if let Some(Ok(quietly)) = spent_quietly.into_inner() {
        add_cpu(&mut sample, &quietly, &spent);
    }
    add_counts(&mut sample, &raid, &stay);
    if let Some(memory) = run.target.memory()? {
        sample.add(metrics::MEMORY, Unit::Bytes, memory.peak as f64);
    }
    if let Some(bytes) = run.target.written_bytes()? {
        sample.add(metrics::WRITTEN, Unit::Bytes, bytes as f64);
    }
    Ok(sample)
}

/// Adds the latencies of publisher, consumer and newcomers, which come in this order: of the first `quiet`
/// messages without the warm-up, and of the others.
fn add_latencies(sample: &mut Sample, latencies: &[Latencies], quiet: usize) {
    let warm_up = quiet * WARM_UP_PERCENT / 100;
    let kinds = [&metrics::PUBLISH, &metrics::DELIVER, &metrics::NEWCOMER];
    for (kind, latencies) in kinds.into_iter().zip(latencies) {
        let of = |messages: Range<usize>| {
            let within = latencies.iter().filter(|(seq, _)| messages.contains(seq));
            within.map(|(_, latency)| *latency).collect()
        };
        kind.add(sample, of(warm_up..quiet), of(quiet..usize::MAX));
    }
}

/// Adds the shares of a core that the server took, quiet and since then, and that the load took since then.
fn add_cpu(sample: &mut Sample, quietly: &Spent, whole: &Spent) {
    let later = whole.elapsed - quietly.elapsed;
    let percent = |cpu: Duration, of: Duration| 100.0 * cpu.as_secs_f64() / of.as_secs_f64();
    if let Some((quiet, all)) = quietly.server.zip(whole.server) {
        sample.add(metrics::CPU[0], Unit::Percent, percent(quiet, quietly.elapsed));
        sample.add(metrics::CPU[1], Unit::Percent, percent(all - quiet, later));
    }
    sample.add(metrics::LOAD_CPU, Unit::Percent, percent(whole.load - quietly.load, later));
}

fn add_counts(sample: &mut Sample, raid: &Raid<'_>, stay: &Raid<'_>) {
    let (sent, refused) = raid.counts();
    for (name, count) in [
        (metrics::SENT, sent),
        (metrics::REFUSED, refused),
        (metrics::REFUSED_NEWCOMERS, stay.counts().1),
    ] {
        sample.add(name, Unit::Count, count as f64);
    }
}
