//! Publishing to a topic before and while it gets new channels.

use std::{net::SocketAddr, thread, time::Duration};

use crate::{
    clock::now,
    conn::Conn,
    consumer::{self, CHANNEL},
    failure::Failure,
    http,
    layer::Layer,
    limit::{Task, run_together},
    meter::Meter,
    pace::{self, Pace, Percentiles},
    publisher::{BODY_BYTES, MPUB_MESSAGES},
    sample::{Sample, Unit},
    wire::Commands,
    workload::{Run, Work, Workload},
};

/// New channels on a topic under load.
pub(super) const NEWCHANNELS: Workload = Workload {
    name: "newchannels",
    title: "PUB at 1,000 msg/s beside 100,000 msg/s, then with a new channel each 50 ms",
    size: 10_000,
    size_quick: 400,
    in_memory: false,
    null: false,
    layer: Layer::Plain,
    work: Work::Load(new_channels),
};

/// The time between two new channels.
const CHANNEL_INTERVAL: Duration = Duration::from_millis(50);
/// One `MPUB` beside for so many messages.
const MPUB_EVERY: usize = 2;
const BUFFER_BYTES: usize = 1024;
const BEFORE: Percentiles =
    Percentiles { p50: "before p50", p99: "before p99", p999: "before p99.9", max: "before max" };
const DURING: Percentiles =
    Percentiles { p50: "during p50", p99: "during p99", p999: "during p99.9", max: "during max" };

fn new_channels(run: &Run<'_>) -> Result<Sample, Failure> {
    let Some(http) = run.target.http else {
        return Err(Failure::Usage("newchannels needs the HTTP address of the server".into()));
    };
    let topic = run.topic();
    consumer::create_channel(run.target.endpoint, &topic, CHANNEL, run.limit)?;
    let meter = Meter::start(run.target)?;
    let pace = Pace::start();
    let measure: Task<'_, _> = Box::new(|| publish(run, &topic, pace));
    let load: Task<'_, _> = Box::new(|| publish_batches(run, &topic, pace).map(|()| Vec::new()));
    let channels: Task<'_, _> =
        Box::new(|| create_channels(run, http, &topic, pace).map(|()| Vec::new()));
    let latencies = run_together(run.limit, vec![measure, load, channels])?.concat();
    let spent = meter.read()?;

    let mut sample = Sample::default();
    let (before, during) = latencies.split_at(run.size / 2);
    BEFORE.add(&mut sample, before.to_vec());
    DURING.add(&mut sample, during.to_vec());
    let channels = pace.due(run.size) - pace.due(run.size / 2);
    let channels = channels.as_secs_f64() / CHANNEL_INTERVAL.as_secs_f64();
    sample.add_detail("new channels", Unit::PerSecond, channels);
    sample.add_footprint(run.target, &spent, run.size * (1 + MPUB_MESSAGES / MPUB_EVERY))?;
    Ok(sample)
}

/// Publishes each message when it is due. Returns the times until their answers.
fn publish(run: &Run<'_>, topic: &str, pace: Pace) -> Result<Vec<Duration>, Failure> {
    pace::exact_timers()?;
    let mut conn = Conn::open(run.target.endpoint, BUFFER_BYTES, run.limit)?;
    let mut command = Commands::pub_one(topic, BODY_BYTES, 1);
    (0..run.size)
        .map(|seq| {
            pace.wait_for(seq);
            conn.write_all(command.numbered(1, seq))?;
            conn.await_response(b"OK")?;
            Ok(pace.latency(seq))
        })
        .collect()
}

/// Publishes batches beside what is measured.
fn publish_batches(run: &Run<'_>, topic: &str, pace: Pace) -> Result<(), Failure> {
    let mut conn = Conn::open(run.target.endpoint, BUFFER_BYTES, run.limit)?;
    let mut command = Commands::mpub(topic, BODY_BYTES, MPUB_MESSAGES, 1);
    for seq in (0..run.size).step_by(MPUB_EVERY) {
        pace.wait_for(seq);
        conn.write_all(command.numbered(1, seq))?;
        conn.await_response(b"OK")?;
    }
    Ok(())
}

/// Creates channels during the second half.
fn create_channels(
    run: &Run<'_>,
    http: SocketAddr,
    topic: &str,
    pace: Pace,
) -> Result<(), Failure> {
    pace.wait_for(run.size / 2);
    for index in 0.. {
        let began = now();
        if began >= pace.due(run.size) {
            break;
        }
        run.limit.check("creating channels")?;
        http::request(http, "POST", &format!("/channel/create?topic={topic}&channel=new_{index}"))?;
        thread::sleep((began + CHANNEL_INTERVAL).saturating_duration_since(now()));
    }
    Ok(())
}
