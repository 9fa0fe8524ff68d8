//! Publishing and consuming at the same time.

use crate::{
    consumer::{self, CHANNEL},
    failure::Failure,
    layer::Layer,
    limit::{Task, run_together},
    meter::Meter,
    publisher::Publish,
    sample::{Sample, Unit},
    workload::{Run, Work, Workload},
};

/// One publisher, one consumer.
pub(super) const BOTH: Workload = Workload {
    name: "both",
    title: "MPUB x 200 and SUB + FIN at once, 1 connection each",
    size: 1_000_000,
    size_quick: 20_000,
    in_memory: true,
    null: true,
    layer: Layer::Plain,
    work: Work::Load(both),
};

fn both(run: &Run<'_>) -> Result<Sample, Failure> {
    let topic = run.topic();
    consumer::create_channel(run.target.endpoint, &topic, CHANNEL, run.limit)?;
    let mut consumers = consumer::subscribe_few(run.target.endpoint, &topic, 1, run.limit)?;
    let ledger = run.ledger();
    let meter = Meter::start(run.target)?;
    let mut published = meter.started;
    let mut tasks = consumer::drain_tasks(&mut consumers, 2500, &ledger);
    tasks.push(Box::new(|| {
        published = Publish::mpub(1).run(run.target.endpoint, &topic, run.size, run.limit)?;
        Ok(())
    }) as Task<'_, ()>);
    run_together(run.limit, tasks)?;
    let spent = meter.read()?;
    run.target.check_finished(&topic)?;
    let mut sample = Sample { duplicates: ledger.duplicates(), ..Sample::default() };
    sample.add_rate("rate in", run.size, meter.started, published);
    sample.add("rate out", Unit::PerSecond, ledger.rate_since(meter.started));
    sample.add_cpu("CPU/msg", &spent, run.size);
    sample.add_footprint(run.target, &spent, run.size)?;
    Ok(sample)
}
