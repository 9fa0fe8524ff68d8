//! Publishing and delivery beside a slow disk: level `log` does not wait for it.

mod beside;
mod juggler;

use std::time::Duration;

use crate::{
    conn::Conn,
    consumer::{self, CHANNEL, Consumer},
    failure::Failure,
    layer::Layer,
    ledger::Ledger,
    limit::{Task, run_together},
    meter::Meter,
    pace::{self, Pace, Percentiles},
    publisher::BODY_BYTES,
    sample::Sample,
    wire::Commands,
    workload::{Run, SlowDisk, Work, Workload},
    workloads::slow_disk::beside::Beside,
};

/// Flushes as on a busy disk.
pub(super) const SLOW20: Workload = Workload {
    name: "slow20",
    title: "PUB and deliver at 1,000 msg/s on 2 topics, flush 20 ms",
    size: 20_000,
    size_quick: 400,
    in_memory: false,
    null: false,
    layer: Layer::Plain,
    work: Work::SlowDisk(SlowDisk { flush_ms: 20, args: &[] }, slow),
};

/// Flushes as on a disk in trouble.
pub(super) const SLOW300: Workload = Workload {
    name: "slow300",
    title: "PUB and deliver at 1,000 msg/s on 2 topics, flush 300 ms",
    size: 20_000,
    size_quick: 400,
    in_memory: false,
    null: false,
    layer: Layer::Plain,
    work: Work::SlowDisk(SlowDisk { flush_ms: 300, args: &[] }, slow),
};

const BUFFER_BYTES: usize = 64 * 1024;
const PUBLISHED: Percentiles = Percentiles {
    p50: "publish p50",
    p99: "publish p99",
    p999: "publish p99.9",
    max: "publish max",
};
const DELIVERED: Percentiles = Percentiles {
    p50: "deliver p50",
    p99: "deliver p99",
    p999: "deliver p99.9",
    max: "deliver max",
};

/// Two topics are measured: one that all the other work goes on beside, and one that it goes on in.
fn slow(run: &Run<'_>) -> Result<Sample, Failure> {
    let topics = [run.topic(), run.topic()];
    for topic in &topics {
        consumer::create_channel(run.target.endpoint, topic, CHANNEL, run.limit)?;
    }
    let beside = Beside::prepare(run, &topics[0])?;
    let mut steady: Vec<_> =
        topics.iter().map(|topic| Steady::connect(run, topic)).collect::<Result<_, _>>()?;

    let meter = Meter::start(run.target)?;
    let pace = Pace::start();
    let mut tasks: Vec<Task<'_, Vec<Duration>>> = Vec::new();
    for Steady { topic, publisher, consumer, ledger } in &mut steady {
        tasks.push(Box::new(move || publish(publisher, topic, run.size, pace)));
        tasks.push(Box::new(move || {
            let received = pace::receive(consumer, ledger, pace)?;
            Ok(received.into_iter().map(|(_, latency)| latency).collect())
        }));
    }
    let measured = tasks.len();
    tasks.extend(beside.tasks(pace.due(run.size)));
    let latencies = run_together(run.limit, tasks)?;
    let spent = meter.read()?;

    let duplicates = steady.iter().map(|steady| steady.ledger.duplicates()).sum();
    let mut sample = Sample { duplicates, ..Sample::default() };
    let every_second = |skip| latencies[skip..measured].iter().step_by(2).flatten().copied();
    PUBLISHED.add(&mut sample, every_second(0).collect());
    DELIVERED.add(&mut sample, every_second(1).collect());
    beside.add_counts(&mut sample);
    sample.add_footprint(run.target, &spent, steady.len() * run.size)?;
    Ok(sample)
}

/// A topic whose consumer keeps up.
struct Steady<'a> {
    topic: &'a str,
    publisher: Conn<'a>,
    consumer: Consumer<'a>,
    ledger: Ledger,
}

impl<'a> Steady<'a> {
    fn connect(run: &'a Run<'_>, topic: &'a str) -> Result<Self, Failure> {
        let endpoint = run.target.endpoint;
        let mut consumer = Consumer::subscribe(endpoint, topic, CHANNEL, BUFFER_BYTES, run.limit)?;
        consumer.ready(2500)?;
        let publisher = Conn::open(endpoint, BUFFER_BYTES, run.limit)?;
        Ok(Self { topic, publisher, consumer, ledger: run.ledger() })
    }
}

/// Publishes each message when it is due and waits for its answer. Returns the times from when
/// messages were due to their answers.
fn publish(
    conn: &mut Conn<'_>,
    topic: &str,
    messages: usize,
    pace: Pace,
) -> Result<Vec<Duration>, Failure> {
    pace::exact_timers()?;
    let mut command = Commands::pub_one(topic, BODY_BYTES, 1);
    (0..messages)
        .map(|seq| {
            pace.wait_for(seq);
            conn.write_all(command.numbered(1, seq))?;
            conn.await_response(b"OK")?;
            Ok(pace.latency(seq))
        })
        .collect()
}
