//! The time from publishing to receiving, at a rate that any server can sustain.

use std::time::Duration;

use crate::{
    conn::Conn,
    consumer::{self, CHANNEL, Consumer},
    failure::Failure,
    layer::Layer,
    limit::{Task, run_together},
    meter::Meter,
    pace::{self, Pace, Percentiles},
    publisher::BODY_BYTES,
    sample::Sample,
    wire::Commands,
    workload::{Run, Work, Workload},
};

/// One message each millisecond.
pub(super) const LATENCY: Workload = Workload {
    name: "latency",
    title: "publish to receive at 1,000 msg/s, RDY 2500",
    size: 5000,
    size_quick: 400,
    in_memory: false,
    null: false,
    layer: Layer::Plain,
    work: Work::Load(latency),
};

/// The percentage of messages at either end of the run that is not counted: the server is warming
/// up at first, and the last messages have none behind them to push them out of a buffer.
const EDGE_PERCENT: usize = 10;
const BUFFER_BYTES: usize = 16 * 1024;
const LATENCIES: Percentiles = Percentiles { p50: "p50", p99: "p99", p999: "p99.9", max: "max" };

fn latency(run: &Run<'_>) -> Result<Sample, Failure> {
    let topic = run.topic();
    let endpoint = run.target.endpoint;
    consumer::create_channel(endpoint, &topic, CHANNEL, run.limit)?;
    let mut consumer = Consumer::subscribe(endpoint, &topic, CHANNEL, BUFFER_BYTES, run.limit)?;
    let publisher = Conn::open(endpoint, BUFFER_BYTES, run.limit)?;
    let ledger = run.ledger();
    consumer.ready(2500)?;

    let meter = Meter::start(run.target)?;
    let pace = Pace::start();
    let receive: Task<'_, _> = Box::new(|| pace::receive(&mut consumer, &ledger, pace));
    let publish: Task<'_, _> =
        Box::new(|| publish(publisher, &topic, run.size, pace).map(|()| Vec::new()));
    let received = run_together(run.limit, vec![receive, publish])?.concat();
    let spent = meter.read()?;
    run.target.check_finished(&topic)?;

    let mut sample = Sample { duplicates: ledger.duplicates(), ..Sample::default() };
    LATENCIES.add(&mut sample, without_edges(&received, run.size));
    sample.add_cpu("CPU/msg", &spent, run.size);
    sample.add_footprint(run.target, &spent, run.size)?;
    Ok(sample)
}

fn without_edges(received: &[(usize, Duration)], size: usize) -> Vec<Duration> {
    let edge = size * EDGE_PERCENT / 100;
    let counted = edge..size - edge;
    received.iter().filter(|(seq, _)| counted.contains(seq)).map(|(_, latency)| *latency).collect()
}

/// Sends each message when it is due, without waiting for answers.
fn publish(mut conn: Conn<'_>, topic: &str, messages: usize, pace: Pace) -> Result<(), Failure> {
    pace::exact_timers()?;
    let mut command = Commands::pub_one(topic, BODY_BYTES, 1);
    let mut answered = 0;
    conn.set_nonblocking(true)?;
    for seq in 0..messages {
        pace.wait_for(seq);
        conn.write_all(command.numbered(1, seq))?;
        conn.fill()?;
        answered += conn.take_oks()?;
    }
    conn.set_nonblocking(false)?;
    while answered < messages {
        conn.fill()?;
        answered += conn.take_oks()?;
    }
    Ok(())
}
