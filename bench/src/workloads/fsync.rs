//! Durable publishing to one topic and to many: topics share what a disk can do at once.

use std::time::Duration;

use crate::{
    clock::now,
    conn::Conn,
    consumer::{self, CHANNEL},
    failure::Failure,
    layer::Layer,
    limit::{Task, run_together},
    pace::Percentiles,
    publisher::BODY_BYTES,
    sample::{Sample, Unit},
    wire::Commands,
    workload::{Run, SlowDisk, Work, Workload},
};

/// The messages of each topic.
pub(super) const FSYNC40: Workload = Workload {
    name: "fsync40",
    title: "PUB at level fsync to 1 topic, then to 40, flush 5 ms",
    size: 500,
    size_quick: 20,
    in_memory: false,
    null: false,
    layer: Layer::Plain,
    work: Work::SlowDisk(SlowDisk { flush_ms: 5, args: &["-durability=fsync"] }, fsync),
};

const TOPICS: usize = 40;
const BUFFER_BYTES: usize = 1024;
const ONE_TOPIC: Percentiles = Percentiles {
    p50: "1 topic p50",
    p99: "1 topic p99",
    p999: "1 topic p99.9",
    max: "1 topic max",
};
const MANY_TOPICS: Percentiles = Percentiles {
    p50: "40 topics p50",
    p99: "40 topics p99",
    p999: "40 topics p99.9",
    max: "40 topics max",
};

fn fsync(run: &Run<'_>) -> Result<Sample, Failure> {
    let mut sample = Sample::default();
    let one = publish(run, 1)?;
    let many = publish(run, TOPICS)?;
    sample.add("1 topic", Unit::PerSecond, one.rate);
    sample.add("40 topics", Unit::PerSecond, many.rate);
    sample.add("40 topics / 1", Unit::Times, many.rate / one.rate);
    ONE_TOPIC.add(&mut sample, one.latencies);
    MANY_TOPICS.add(&mut sample, many.latencies);
    Ok(sample)
}

struct Published {
    rate: f64,
    latencies: Vec<Duration>,
}

/// Publishes to `count` new topics with a connection each, one message at a time.
fn publish(run: &Run<'_>, count: usize) -> Result<Published, Failure> {
    let topics: Vec<_> = (0..count).map(|_| run.topic()).collect();
    for topic in &topics {
        consumer::create_channel(run.target.endpoint, topic, CHANNEL, run.limit)?;
    }
    let start = now();
    let tasks =
        topics.iter().map(|topic| Box::new(|| publish_one_at_a_time(run, topic)) as Task<'_, _>);
    let latencies: Vec<Duration> = run_together(run.limit, tasks.collect())?.concat();
    let seconds = (now() - start).as_secs_f64();
    Ok(Published { rate: latencies.len() as f64 / seconds, latencies })
}

fn publish_one_at_a_time(run: &Run<'_>, topic: &str) -> Result<Vec<Duration>, Failure> {
    let mut conn = Conn::open(run.target.endpoint, BUFFER_BYTES, run.limit)?;
    let mut command = Commands::pub_one(topic, BODY_BYTES, 1);
    (0..run.size)
        .map(|seq| {
            let sent = now();
            conn.write_all(command.numbered(1, seq))?;
            conn.await_response(b"OK")?;
            Ok(now() - sent)
        })
        .collect()
}
