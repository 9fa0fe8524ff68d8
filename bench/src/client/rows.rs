//! The rows of the table of clients: the work and its measurements.

use std::{net::Ipv4Addr, thread, time::Duration};

use crate::{
    client::child::{Client, Running},
    consumer::CHANNEL,
    failure::Failure,
    meter::Meter,
    publisher::BODY_BYTES,
    sample::{Sample, Unit},
    workload::{Run, Scale},
    workloads::preload,
};

/// One row.
#[derive(Debug)]
pub(crate) struct ClientRow {
    /// Its name for `--only`.
    pub(crate) name: &'static str,
    /// A description of the work.
    pub(crate) title: &'static str,
    /// Messages, or addresses.
    pub(crate) size: usize,
    /// The size for `--quick`.
    pub(crate) size_quick: usize,
    /// The raw client can take part.
    pub(crate) raw: bool,
    /// The addresses on which the server listens.
    pub(crate) host: Ipv4Addr,
    /// The work.
    pub(crate) run: fn(&ClientRun<'_>) -> Result<Sample, Failure>,
}

/// One run of a row.
pub(crate) struct ClientRun<'a> {
    /// The server and the amount of work.
    pub(crate) run: Run<'a>,
    /// The client.
    pub(crate) client: &'a Client,
}

/// Every row, in the order of the table.
pub(crate) const ALL: &[ClientRow] = &[
    ClientRow {
        name: "consume",
        title: "consume, max_in_flight 2500, 1 handler",
        size: 1_000_000,
        size_quick: 20_000,
        raw: true,
        host: Ipv4Addr::LOCALHOST,
        run: |run| consume(run, 1),
    },
    ClientRow {
        name: "consume8",
        title: "consume, max_in_flight 2500, 8 handlers",
        size: 1_000_000,
        size_quick: 20_000,
        raw: false,
        host: Ipv4Addr::LOCALHOST,
        run: |run| consume(run, 8),
    },
    ClientRow {
        name: "publish",
        title: "publish, window 1000",
        size: 1_000_000,
        size_quick: 20_000,
        raw: true,
        host: Ipv4Addr::LOCALHOST,
        run: |run| publish(run, 1, 1000),
    },
    ClientRow {
        name: "publish200",
        title: "publish 200 at once, window 4",
        size: 2_000_000,
        size_quick: 40_000,
        raw: true,
        host: Ipv4Addr::LOCALHOST,
        run: |run| publish(run, 200, 4),
    },
    ClientRow {
        name: "idle",
        title: "idle consumer on 100 nsqds, max_in_flight 2500",
        size: 100,
        size_quick: 10,
        raw: false,
        host: Ipv4Addr::UNSPECIFIED,
        run: |run| idle(run, MAX_IN_FLIGHT),
    },
    ClientRow {
        name: "idle_few",
        title: "idle consumer on 100 nsqds, max_in_flight 10",
        size: 100,
        size_quick: 10,
        raw: false,
        host: Ipv4Addr::UNSPECIFIED,
        run: |run| idle(run, 10),
    },
];

/// The client's CPU time for each message.
pub(super) const CPU_PER_MESSAGE: &str = "CPU/msg";
/// The client's CPU usage while idle.
pub(super) const CPU_IDLE: &str = "CPU of a core";

const MAX_IN_FLIGHT: usize = 2500;
const HEARTBEAT_MS_DEFAULT: u64 = 30_000;
/// While idling is measured every connection gets one heartbeat, three times as many as by default.
const HEARTBEAT_MS_IDLE: u64 = 10_000;

fn consume(run: &ClientRun<'_>, handlers: usize) -> Result<Sample, Failure> {
    let ClientRun { run, client } = run;
    let topic = preload(run)?;
    let options = [
        ("addresses", run.target.endpoint.address.to_string()),
        ("topic", topic.clone()),
        ("channel", CHANNEL.to_owned()),
        ("messages", run.size.to_string()),
        ("max-in-flight", MAX_IN_FLIGHT.to_string()),
        ("handlers", handlers.to_string()),
        ("heartbeat-ms", HEARTBEAT_MS_DEFAULT.to_string()),
    ];
    let mut client = Running::start(client, "consume", &options, run.limit)?;
    let (cpu, meter) = (client.cpu()?, Meter::start(run.target)?);
    let started = client.go()?;
    let most = client.hear("most")?;
    client.hear("all")?;
    let cpu = client.cpu()? - cpu;
    let spent = meter.read()?;
    let memory = client.memory()?;
    client.finish()?;
    run.target.await_finished(&topic, run.limit)?;

    let mut sample = Sample::default();
    sample.add_rate("rate", run.size * 95 / 100, started, most);
    add_cpu(&mut sample, cpu, run.size);
    sample.add("peak memory", Unit::Bytes, memory.peak as f64);
    sample.add_detail_cpu("CPU of nsqd/msg", &spent, run.size);
    Ok(sample)
}

/// Publishes commands of `batch` messages, up to `window` of them in flight.
fn publish(run: &ClientRun<'_>, batch: usize, window: usize) -> Result<Sample, Failure> {
    let ClientRun { run, client } = run;
    let topic = run.topic();
    let options = [
        ("addresses", run.target.endpoint.address.to_string()),
        ("topic", topic.clone()),
        ("messages", run.size.to_string()),
        ("body-bytes", BODY_BYTES.to_string()),
        ("batch", batch.to_string()),
        ("window", window.to_string()),
    ];
    let mut client = Running::start(client, "publish", &options, run.limit)?;
    let (cpu, meter) = (client.cpu()?, Meter::start(run.target)?);
    let started = client.go()?;
    let all = client.hear("all")?;
    let cpu = client.cpu()? - cpu;
    let spent = meter.read()?;
    let memory = client.memory()?;
    client.finish()?;
    run.target.check_published(&topic, run.size)?;

    let mut sample = Sample::default();
    sample.add_rate("rate", run.size, started, all);
    add_cpu(&mut sample, cpu, run.size);
    sample.add("peak memory", Unit::Bytes, memory.peak as f64);
    sample.add_detail_cpu("CPU of nsqd/msg", &spent, run.size);
    Ok(sample)
}

/// One nsqd serves as a hundred, with the addresses `127.0.0.1` to `127.0.0.100`.
fn idle(run: &ClientRun<'_>, max_in_flight: usize) -> Result<Sample, Failure> {
    let ClientRun { run, client } = run;
    let topic = run.topic();
    let port = run.target.endpoint.address.port();
    let addresses: Vec<_> =
        (1..=run.size).map(|number| format!("127.0.0.{number}:{port}")).collect();
    let options = [
        ("addresses", addresses.join(",")),
        ("topic", topic.clone()),
        ("channel", CHANNEL.to_owned()),
        ("max-in-flight", max_in_flight.to_string()),
        ("heartbeat-ms", HEARTBEAT_MS_IDLE.to_string()),
    ];
    let (settle, watch) =
        if run.scale == Scale::Quick { (100, 300) } else { (2_000, HEARTBEAT_MS_IDLE) };
    let mut client = Running::start(client, "idle", &options, run.limit)?;
    client.go()?;
    client.hear("all")?;
    thread::sleep(Duration::from_millis(settle));
    let (cpu, meter) = (client.cpu()?, Meter::start(run.target)?);
    thread::sleep(Duration::from_millis(watch));
    let cpu = client.cpu()? - cpu;
    let elapsed = meter.read()?.elapsed;
    let memory = client.memory()?;
    run.target.check_consumers(&topic, run.size)?;
    client.finish()?;

    let mut sample = Sample::default();
    sample.add(CPU_IDLE, Unit::Percent, 100.0 * cpu.as_secs_f64() / elapsed.as_secs_f64());
    sample.add("memory", Unit::Bytes, memory.resident as f64);
    Ok(sample)
}

fn add_cpu(sample: &mut Sample, cpu: Duration, messages: usize) {
    sample.add(CPU_PER_MESSAGE, Unit::Micros, cpu.as_secs_f64() * 1e6 / messages as f64);
}
