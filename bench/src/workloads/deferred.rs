//! The start of a server that was killed with many deferred messages.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    clock::now,
    consumer::{self, CHANNEL},
    failure::Failure,
    layer::Layer,
    limit::Limit,
    meter::Meter,
    publisher::{Command, Publish},
    sample::{Sample, Unit},
    server::Server,
    target::Target,
    workload::{Job, Work, Workload},
};

/// A million deferred messages.
pub(super) const DEFERRED: Workload = Workload {
    name: "deferred",
    title: "kill -9 and start with 1,000,000 deferred",
    size: 1_000_000,
    size_quick: 20_000,
    in_memory: false,
    null: false,
    layer: Layer::Plain,
    work: Work::Restart(deferred),
};

/// The time that a server has, once `/ping` is OK, to find all deferred messages.
const PATIENCE: Duration = Duration::from_secs(10);

fn deferred(server: &mut Server, job: Job<'_>) -> Result<Sample, Failure> {
    let run = job.on(&server.target);
    let topic = run.topic();
    consumer::create_channel(run.target.endpoint, &topic, CHANNEL, run.limit)?;
    let publish = Publish { command: Command::Dpub, connections: 2, window: 1000, refill: 250 };
    let meter = Meter::start(run.target)?;
    let end = publish.run(run.target.endpoint, &topic, run.size, run.limit)?;
    let spent = meter.read()?;
    let mut sample = Sample::default();
    sample.add_rate("DPUB rate", run.size, meter.started, end);
    sample.add_cpu("DPUB CPU/msg", &spent, run.size);
    while run.target.deferred(&topic)? < run.size as u64 {
        run.limit.check("waiting for the channel to defer what was published")?;
        thread::sleep(Duration::from_millis(20));
    }
    if let Some(memory) = run.target.memory()? {
        sample.add("memory before", Unit::Bytes, memory.resident as f64);
    }

    let started = server.kill_and_restart()?;
    server.await_ready(job.limit)?;
    sample.add("until /ping is OK", Unit::Seconds, (now() - started).as_secs_f64());
    let (found, at) = await_deferred(&server.target, &topic, job.size, job.limit)?;
    sample.add("until all are deferred", Unit::Seconds, (at - started).as_secs_f64());
    sample.add("still deferred", Unit::Percent, 100.0 * found as f64 / job.size as f64);
    if let Some(memory) = server.target.memory()? {
        sample.add("memory after", Unit::Bytes, memory.resident as f64);
        sample.add("peak memory", Unit::Bytes, memory.peak as f64);
    }
    Ok(sample)
}

/// Waits until `messages` are deferred, but not for ever. Returns the number that are, and the
/// time.
fn await_deferred(
    target: &Target,
    topic: &str,
    messages: usize,
    limit: &Limit,
) -> Result<(u64, Instant), Failure> {
    let ready = now();
    loop {
        let found = target.deferred(topic)?;
        let at = now();
        if found >= messages as u64 || at - ready > PATIENCE {
            return Ok((found, at));
        }
        limit.check("waiting for deferred messages to be found again")?;
        thread::sleep(Duration::from_millis(5));
    }
}
