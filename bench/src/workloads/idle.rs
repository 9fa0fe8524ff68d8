//! The cost of a server with many topics or connections and nothing to do.

use std::{thread, time::Duration};

use crate::{
    conn::Conn,
    consumer::CHANNEL,
    failure::Failure,
    http,
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
    work: Work::Load(connections),
};

/// Bytes of the read buffer of an idle connection.
const BUFFER_BYTES: usize = 256;

fn topics(run: &Run<'_>) -> Result<Sample, Failure> {
    let Some(http) = run.target.http else {
        return Err(Failure::Usage("topics2000 needs the HTTP address of the server".into()));
    };
    let topic = run.topic();
    for index in 0..run.size {
        run.limit.check("creating topics")?;
        let topic = format!("topic={topic}_{index}");
        http::request(http, "POST", &format!("/topic/create?{topic}"))?;
        http::request(http, "POST", &format!("/channel/create?{topic}&channel={CHANNEL}"))?;
    }
    idle(run)
}

fn connections(run: &Run<'_>) -> Result<Sample, Failure> {
    let topic = run.topic();
    let mut conns = Vec::with_capacity(run.size);
    for _ in 0..run.size {
        let mut conn = Conn::open(run.target.address, BUFFER_BYTES, run.limit)?;
        conn.subscribe(&topic, CHANNEL)?;
        conn.write_all(b"RDY 1\n")?;
        conns.push(conn);
    }
    let sample = idle(run)?;
    // All connections must still be open, or the measurement is void.
    for conn in &mut conns {
        conn.write_all(b"CLS\n")?;
        conn.await_response(b"CLOSE_WAIT")?;
    }
    Ok(sample)
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
