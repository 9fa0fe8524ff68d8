//! The same topic with one channel and with eight.

use crate::{
    consumer,
    failure::Failure,
    layer::Layer,
    meter::Meter,
    publisher::Publish,
    sample::{Sample, Unit},
    workload::{Run, Work, Workload},
};

const CHANNELS: usize = 8;

/// The cost of a channel.
pub(super) const CHANNELS8: Workload = Workload {
    name: "channels8",
    title: "the same topic with 8 channels (memory queue 10,000)",
    size: 200_000,
    size_quick: 20_000,
    in_memory: false,
    null: false,
    layer: Layer::Plain,
    work: Work::Load(channels8),
};

fn channels8(run: &Run<'_>) -> Result<Sample, Failure> {
    let one = publish(run, 1)?;
    let eight = publish(run, CHANNELS)?;
    let mut sample = Sample::default();
    if let Some((one, eight)) = one.cpu_micros.zip(eight.cpu_micros) {
        sample.add("publish CPU/msg, 1 channel", Unit::Micros, one);
        sample.add("publish CPU/msg, 8 channels", Unit::Micros, eight);
        sample.add("CPU, 8 channels to 1", Unit::Times, eight / one);
    }
    if let Some((one, eight)) = one.disk_bytes.zip(eight.disk_bytes) {
        sample.add("on disk, 1 channel", Unit::Bytes, one);
        sample.add("on disk, 8 channels", Unit::Bytes, eight);
    }
    if let Some(memory) = run.target.memory()? {
        sample.add("peak memory", Unit::Bytes, memory.peak as f64);
    }
    Ok(sample)
}

/// The cost of publishing to a topic.
struct Cost {
    cpu_micros: Option<f64>,
    disk_bytes: Option<f64>,
}

/// Publishes to a new topic with `channels` channels and waits until each of them has all messages.
fn publish(run: &Run<'_>, channels: usize) -> Result<Cost, Failure> {
    let topic = run.topic();
    for channel in 0..channels {
        let channel = format!("channel_{channel}");
        consumer::create_channel(run.target.endpoint, &topic, &channel, run.limit)?;
    }
    let before = run.target.disk_bytes()?;
    let meter = Meter::start(run.target)?;
    Publish::mpub(1).run(run.target.endpoint, &topic, run.size, run.limit)?;
    run.target.await_depth(&topic, run.size, run.limit)?;
    let spent = meter.read()?;
    let after = run.target.disk_bytes()?;
    Ok(Cost {
        cpu_micros: spent.server.map(|cpu| cpu.as_secs_f64() * 1e6 / run.size as f64),
        disk_bytes: after.zip(before).map(|(after, before)| after.saturating_sub(before) as f64),
    })
}
