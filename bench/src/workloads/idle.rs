//! The cost of a server with many topics or connections and nothing to do.

use std::{net::SocketAddr, thread, time::Duration};

use crate::{
    clock::now,
    conn::Conn,
    consumer::CHANNEL,
    failure::Failure,
    http,
    layer::Layer,
    meter::Meter,
    sample::{Sample, Unit},
    workload::{Run, Scale, Work, Workload},
};

/// Idle topics.
pub(super) const TOPICS2000: Workload = Workload {
    name: "topics2000",
    title: "2,000 topics with a channel each, idle",
    size: 2000,
    size_quick: 100,
    in_memory: false,
    null: false,
    layer: Layer::Plain,
    work: Work::Load(topics),
};

/// Idle connections.
pub(super) const CONNS2000: Workload = Workload {
    name: "conns2000",
    title: "2,000 subscribed connections, idle",
    size: 2000,
    size_quick: 100,
    in_memory: false,
    null: true,
    layer: Layer::Plain,
    work: Work::Load(connections),
};

/// Idle topics and connections, with a question about them now and then.
pub(super) const IDLE10000: Workload = Workload {
    name: "idle10000",
    title: "10,000 topics with a channel each and 2,000 connections, idle",
    size: 10_000,
    size_quick: 100,
    in_memory: false,
    null: false,
    layer: Layer::Plain,
    work: Work::Load(topics_and_connections),
};

/// Connections for each topic of `idle10000`, in percent.
const CONNECTIONS_PERCENT: usize = 20;
/// How often `/stats` is asked for.
const STATS_REQUESTS: usize = 5;
/// Bytes of the read buffer of an idle connection.
const BUFFER_BYTES: usize = 256;

fn topics(run: &Run<'_>) -> Result<Sample, Failure> {
    create_topics(run, http_of(run)?)?;
    idle(run)
}

fn connections(run: &Run<'_>) -> Result<Sample, Failure> {
    let topic = run.topic();
    let mut conns = connect(run, run.size, |_| topic.clone())?;
    let sample = idle(run)?;
    still_open(&mut conns)?;
    Ok(sample)
}

fn topics_and_connections(run: &Run<'_>) -> Result<Sample, Failure> {
    let http = http_of(run)?;
    let topic = create_topics(run, http)?;
    let count = run.size * CONNECTIONS_PERCENT / 100;
    let mut conns = connect(run, count, |index| format!("{topic}_{index}"))?;
    let mut sample = idle(run)?;
    let mut times = Vec::with_capacity(STATS_REQUESTS);
    for _ in 0..STATS_REQUESTS {
        let asked = now();
        http::request(http, "GET", "/stats?format=json")?;
        times.push(now() - asked);
    }
    times.sort_unstable();
    sample.add("/stats", Unit::Micros, times[STATS_REQUESTS / 2].as_secs_f64() * 1e6);
    still_open(&mut conns)?;
    Ok(sample)
}

fn http_of(run: &Run<'_>) -> Result<SocketAddr, Failure> {
    let missing = || Failure::Usage("idle topics need the HTTP address of the server".into());
    run.target.http.ok_or_else(missing)
}

/// Creates topics with a channel each. Returns the beginning of their names, which a number follows.
fn create_topics(run: &Run<'_>, http: SocketAddr) -> Result<String, Failure> {
    let topic = run.topic();
    for index in 0..run.size {
        run.limit.check("creating topics")?;
        let topic = format!("topic={topic}_{index}");
        http::request(http, "POST", &format!("/topic/create?{topic}"))?;
        http::request(http, "POST", &format!("/channel/create?{topic}&channel={CHANNEL}"))?;
    }
    Ok(topic)
}

/// Subscribes connections, each to its topic.
fn connect<'a>(
    run: &'a Run<'_>,
    count: usize,
    topic: impl Fn(usize) -> String,
) -> Result<Vec<Conn<'a>>, Failure> {
    let subscribe = |index| {
        let mut conn = Conn::open(run.target.endpoint, BUFFER_BYTES, run.limit)?;
        conn.subscribe(&topic(index), CHANNEL)?;
        conn.write_all(b"RDY 1\n")?;
        Ok(conn)
    };
    (0..count).map(subscribe).collect()
}

/// Checks that all connections are still open; otherwise the measurement is void.
fn still_open(conns: &mut [Conn<'_>]) -> Result<(), Failure> {
    for conn in conns {
        conn.write_all(b"CLS\n")?;
        conn.await_response(b"CLOSE_WAIT")?;
    }
    Ok(())
}

/// Lets the server settle, then measures it while idle.
fn idle(run: &Run<'_>) -> Result<Sample, Failure> {
    let (settle, watch) = if run.scale == Scale::Quick { (100, 300) } else { (4000, 3000) };
    thread::sleep(Duration::from_millis(settle));
    let meter = Meter::start(run.target)?;
    thread::sleep(Duration::from_millis(watch));
    let spent = meter.read()?;
    let mut sample = Sample::default();
    if let Some(memory) = run.target.memory()? {
        sample.add("memory", Unit::Bytes, memory.resident as f64);
        sample.add_detail("peak memory", Unit::Bytes, memory.peak as f64);
    }
    if let Some(cpu) = spent.server {
        let percent = 100.0 * cpu.as_secs_f64() / spent.elapsed.as_secs_f64();
        sample.add("CPU of a core", Unit::Percent, percent);
    }
    Ok(sample)
}
