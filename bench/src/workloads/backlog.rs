//! A backlog that does not fit into the memory queue, published and then consumed.

use crate::{
    consumer::{self, CHANNEL},
    failure::Failure,
    layer::Layer,
    meter::Meter,
    publisher::Publish,
    sample::{Sample, Unit},
    workload::{Run, Work, Workload},
};

/// A backlog of two hundred times the memory queue.
pub(super) const BACKLOG: Workload = Workload {
    name: "backlog",
    title: "backlog far larger than memory (memory queue 10,000)",
    size: 2_000_000,
    size_quick: 40_000,
    in_memory: false,
    null: false,
    layer: Layer::Plain,
    work: Work::Load(backlog),
};

fn backlog(run: &Run<'_>) -> Result<Sample, Failure> {
    let topic = run.topic();
    consumer::create_channel(run.target.endpoint, &topic, CHANNEL, run.limit)?;
    let mut sample = Sample::default();

    let meter = Meter::start(run.target)?;
    let end = Publish::mpub(2).run(run.target.endpoint, &topic, run.size, run.limit)?;
    // Moving messages to the channel is part of the cost of publishing.
    run.target.await_depth(&topic, run.size, run.limit)?;
    let spent = meter.read()?;
    sample.add_rate("publish rate", run.size, meter.started, end);
    sample.add_cpu("publish CPU/msg", &spent, run.size);
    if let Some(bytes) = run.target.disk_bytes()? {
        sample.add("on disk when published", Unit::Bytes, bytes as f64);
    }

    let ledger = run.ledger();
    let mut consumers = consumer::subscribe_few(run.target.endpoint, &topic, 2, run.limit)?;
    let meter = Meter::start(run.target)?;
    consumer::drain_few(&mut consumers, 2500, &ledger, run.limit)?;
    let spent = meter.read()?;
    run.target.check_finished(&topic)?;
    sample.add("consume rate", Unit::PerSecond, ledger.rate_since(meter.started));
    sample.add_cpu("consume CPU/msg", &spent, run.size);
    sample.add_footprint(run.target, &spent, run.size)?;
    sample.duplicates = ledger.duplicates();
    Ok(sample)
}
