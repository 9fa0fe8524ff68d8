//! The start of a server that was killed with a backlog.

use std::{thread, time::Duration};

use crate::{
    clock::now,
    consumer::{self, CHANNEL},
    failure::Failure,
    layer::Layer,
    publisher::Publish,
    sample::{Sample, Unit},
    server::Server,
    workload::{Job, Work, Workload},
};

/// A backlog of two million messages.
pub(super) const RESTART2M: Workload = Workload {
    name: "restart2m",
    title: "kill -9 and start with a backlog of 2,000,000",
    size: 2_000_000,
    size_quick: 20_000,
    in_memory: false,
    null: false,
    layer: Layer::Plain,
    work: Work::Restart(restart),
};

/// The time that the server has to write down what it wants to write down before it is killed.
const SETTLE: Duration = Duration::from_secs(3);

fn restart(server: &mut Server, job: Job<'_>) -> Result<Sample, Failure> {
    let run = job.on(&server.target);
    let topic = run.topic();
    consumer::create_channel(run.target.endpoint, &topic, CHANNEL, run.limit)?;
    Publish::mpub(2).run(run.target.endpoint, &topic, run.size, run.limit)?;
    run.target.await_depth(&topic, run.size, run.limit)?;
    thread::sleep(SETTLE);

    let started = server.kill_and_restart()?;
    server.await_ready(job.limit)?;
    let mut sample = Sample::default();
    sample.add("until /ping is OK", Unit::Seconds, (now() - started).as_secs_f64());
    let found = server.target.depth(&topic)?;
    sample.add("still there", Unit::Percent, 100.0 * found as f64 / job.size as f64);
    if let Some(memory) = server.target.memory()? {
        sample.add("memory after", Unit::Bytes, memory.resident as f64);
    }
    Ok(sample)
}
