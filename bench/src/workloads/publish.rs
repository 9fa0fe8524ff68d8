//! Publishing only, to a topic without channels.

use crate::{
    failure::Failure,
    layer::Layer,
    meter::Meter,
    publisher::{Command, Publish},
    sample::Sample,
    workload::{Run, Work, Workload},
};

/// `MPUB` of 200.
pub(super) const MPUB200: Workload = Workload {
    name: "mpub200",
    title: "MPUB x 200, 2 connections",
    size: 2_000_000,
    size_quick: 40_000,
    in_memory: true,
    null: true,
    layer: Layer::Plain,
    work: Work::Load(|run| publish(run, Publish::mpub(2))),
};

/// The same over TLS.
pub(super) const MPUB200_TLS: Workload = Workload {
    name: "mpub200_tls",
    title: "MPUB x 200, 2 connections, over TLS",
    layer: Layer::Tls,
    ..MPUB200
};

/// The same over snappy.
pub(super) const MPUB200_SNAPPY: Workload = Workload {
    name: "mpub200_snappy",
    title: "MPUB x 200, 2 connections, over snappy",
    layer: Layer::Snappy,
    ..MPUB200
};

/// `PUB`, one at a time.
pub(super) const PUB1: Workload = Workload {
    name: "pub1",
    title: "PUB one at a time, 2 connections",
    size: 200_000,
    size_quick: 4_000,
    in_memory: true,
    null: true,
    layer: Layer::Plain,
    work: Work::Load(|run| {
        publish(run, Publish { command: Command::Pub, connections: 2, window: 1, refill: 1 })
    }),
};

/// `PUB`, many in flight.
pub(super) const PIPE: Workload = Workload {
    name: "pipe",
    title: "PUB pipelined, window 1000, 2 connections",
    size: 1_000_000,
    size_quick: 20_000,
    in_memory: true,
    null: true,
    layer: Layer::Plain,
    work: Work::Load(|run| {
        publish(run, Publish { command: Command::Pub, connections: 2, window: 1000, refill: 250 })
    }),
};

fn publish(run: &Run<'_>, publish: Publish) -> Result<Sample, Failure> {
    let topic = run.topic();
    let meter = Meter::start(run.target)?;
    let end = publish.run(run.target.endpoint, &topic, run.size, run.limit)?;
    let spent = meter.read()?;
    run.target.check_published(&topic, run.size)?;
    let mut sample = Sample::default();
    sample.add_rate("rate", run.size, meter.started, end);
    sample.add_cpu("CPU/msg", &spent, run.size);
    sample.add_footprint(run.target, &spent, run.size)?;
    Ok(sample)
}
