//! Consuming only: the channel is filled before the clock starts.

use crate::{
    consumer::{self, CHANNEL, Consumer},
    failure::Failure,
    layer::Layer,
    ledger::Ledger,
    limit::Limit,
    meter::Meter,
    publisher::Publish,
    sample::{Sample, Unit},
    workload::{Run, Work, Workload},
};

/// Many messages in flight.
pub(super) const SUBFIN: Workload = Workload {
    name: "subfin",
    title: "SUB + FIN, RDY 2500, 2 connections",
    size: 1_000_000,
    size_quick: 40_000,
    in_memory: true,
    null: true,
    layer: Layer::Plain,
    work: Work::Load(|run| {
        let topic = preload(run)?;
        let consumers = consumer::subscribe_few(run.target.endpoint, &topic, 2, run.limit)?;
        drain(run, &topic, consumers, 2500, consumer::drain_few)
    }),
};

/// The same over TLS.
pub(super) const SUBFIN_TLS: Workload = Workload {
    name: "subfin_tls",
    title: "SUB + FIN, RDY 2500, 2 connections, over TLS",
    layer: Layer::Tls,
    ..SUBFIN
};

/// The same over snappy.
pub(super) const SUBFIN_SNAPPY: Workload = Workload {
    name: "subfin_snappy",
    title: "SUB + FIN, RDY 2500, 2 connections, over snappy",
    layer: Layer::Snappy,
    ..SUBFIN
};

/// One message in flight on each of many connections.
pub(super) const RDY1: Workload = Workload {
    name: "rdy1",
    title: "SUB + FIN, RDY 1, 50 connections",
    size: 200_000,
    size_quick: 5_000,
    in_memory: true,
    null: true,
    layer: Layer::Plain,
    work: Work::Load(|run| {
        let topic = preload(run)?;
        let consumers = consumer::subscribe_many(run.target.endpoint, &topic, 50, run.limit)?;
        drain(run, &topic, consumers, 1, consumer::drain_many)
    }),
};

/// Publishes `run.size` messages to a new topic with one channel and waits until the channel has
/// them.
///
/// # Errors
/// Returns the error of the server or the system.
pub(crate) fn preload(run: &Run<'_>) -> Result<String, Failure> {
    let topic = run.topic();
    consumer::create_channel(run.target.endpoint, &topic, CHANNEL, run.limit)?;
    Publish::mpub(2).run(run.target.endpoint, &topic, run.size, run.limit)?;
    run.target.await_depth(&topic, run.size, run.limit)?;
    Ok(topic)
}

type Drain = fn(&mut [Consumer<'_>], usize, &Ledger, &Limit) -> Result<(), Failure>;

fn drain(
    run: &Run<'_>,
    topic: &str,
    mut consumers: Vec<Consumer<'_>>,
    ready: usize,
    drain: Drain,
) -> Result<Sample, Failure> {
    let ledger = run.ledger();
    let meter = Meter::start(run.target)?;
    drain(&mut consumers, ready, &ledger, run.limit)?;
    let spent = meter.read()?;
    run.target.check_finished(topic)?;
    let mut sample = Sample { duplicates: ledger.duplicates(), ..Sample::default() };
    sample.add("rate", Unit::PerSecond, ledger.rate_since(meter.started));
    sample.add_cpu("CPU/msg", &spent, run.size);
    sample.add_footprint(run.target, &spent, run.size)?;
    Ok(sample)
}
