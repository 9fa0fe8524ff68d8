//! Topics and channels that are created and deleted, and backlogs that are built up and drained:
//! memory that the server keeps for them afterwards is a leak.

use std::{net::SocketAddr, thread, time::Duration};

use crate::{
    clock::now,
    consumer::{self, CHANNEL},
    failure::Failure,
    http,
    layer::Layer,
    ledger::Ledger,
    limit::{Task, run_together},
    meter::Meter,
    publisher::Publish,
    sample::{Sample, Unit},
    workload::{Run, Scale, Work, Workload},
};

/// Five thousand topics, or twenty thousand in a soak.
pub(super) const CHURN: Workload = Workload {
    name: "churn",
    title: "5,000 topics made and deleted, then 4 backlogs drained",
    size: 5_000,
    size_quick: 200,
    in_memory: false,
    null: false,
    layer: Layer::Plain,
    work: Work::Load(churn),
};

/// The allowed growth of the server's memory.
const GROWTH_BYTES_MAX: u64 = 10_000_000;
/// The number of threads that create topics.
const MAKERS: usize = 4;
/// The number of backlogs, each in its own topic.
const BACKLOGS: usize = 4;
/// Messages of all backlogs for each topic: 200 MB of bodies at full size.
const MESSAGES_PER_TOPIC: usize = 200;
/// The same in a soak: 4 GB for four times as many topics.
const SOAK_MESSAGES_PER_TOPIC: usize = 1000;
const SOAK_TOPICS_FACTOR: usize = 4;

fn churn(run: &Run<'_>) -> Result<Sample, Failure> {
    let Some(http) = run.target.http else {
        return Err(Failure::Usage("churn needs the HTTP address of the server".into()));
    };
    let settle = Duration::from_millis(if run.scale == Scale::Quick { 100 } else { 1000 });
    thread::sleep(settle);
    let before = run.target.memory()?;

    let (topics, messages) = match run.scale {
        Scale::Soak => (run.size * SOAK_TOPICS_FACTOR, SOAK_MESSAGES_PER_TOPIC),
        Scale::Quick | Scale::Full => (run.size, MESSAGES_PER_TOPIC),
    };
    let messages = topics * messages;
    let meter = Meter::start(run.target)?;
    make_and_delete(run, http, topics)?;
    let mut sample = Sample::default();
    sample.add_rate("topics", topics, meter.started, now());
    for _ in 0..BACKLOGS {
        sample.duplicates += drain_backlog(run, http, messages / BACKLOGS)?;
    }

    let Some(before) = before else { return Ok(sample) };
    let growth = growth_after(run, before.resident, 10 * settle)?;
    sample.add("memory before", Unit::Bytes, before.resident as f64);
    sample.add("growth (10 MB allowed)", Unit::Bytes, growth as f64);
    sample.add_footprint(run.target, &meter.read()?, messages)?;
    Ok(sample)
}

/// Creates and deletes `topics` with a channel each. Every second channel is deleted by itself.
fn make_and_delete(run: &Run<'_>, http: SocketAddr, topics: usize) -> Result<(), Failure> {
    let prefix = run.topic();
    let tasks = (0..MAKERS)
        .map(|maker| {
            let prefix = &prefix;
            Box::new(move || {
                for index in (maker..topics).step_by(MAKERS) {
                    run.limit.check("making and deleting topics")?;
                    let topic = format!("topic={prefix}_{index}");
                    let channel = format!("{topic}&channel={CHANNEL}");
                    post(http, "topic/create", &topic)?;
                    post(http, "channel/create", &channel)?;
                    if index % 2 == 0 {
                        post(http, "channel/delete", &channel)?;
                    }
                    post(http, "topic/delete", &topic)?;
                }
                Ok(())
            }) as Task<'_, ()>
        })
        .collect();
    run_together(run.limit, tasks).map(drop)
}

fn post(http: SocketAddr, path: &str, query: &str) -> Result<(), Failure> {
    http::request(http, "POST", &format!("/{path}?{query}")).map(drop)
}

/// Publishes `messages` to a new topic, consumes all of them and deletes the topic. Returns the
/// number received more than once.
fn drain_backlog(run: &Run<'_>, http: SocketAddr, messages: usize) -> Result<usize, Failure> {
    let topic = run.topic();
    let endpoint = run.target.endpoint;
    consumer::create_channel(endpoint, &topic, CHANNEL, run.limit)?;
    Publish::mpub(2).run(endpoint, &topic, messages, run.limit)?;
    run.target.await_depth(&topic, messages, run.limit)?;
    let ledger = Ledger::new(messages);
    let mut consumers = consumer::subscribe_few(endpoint, &topic, 2, run.limit)?;
    consumer::drain_few(&mut consumers, 2500, &ledger, run.limit)?;
    run.target.check_finished(&topic)?;
    post(http, "topic/delete", &format!("topic={topic}"))?;
    Ok(ledger.duplicates())
}

/// Returns the growth of resident memory since `before`, as soon as it is within the limit or after
/// `patience`.
fn growth_after(run: &Run<'_>, before: u64, patience: Duration) -> Result<u64, Failure> {
    let step = patience / 20;
    let mut waited = Duration::ZERO;
    loop {
        let resident = run.target.memory()?.map_or(before, |memory| memory.resident);
        let growth = resident.saturating_sub(before);
        if growth <= GROWTH_BYTES_MAX || waited >= patience {
            return Ok(growth);
        }
        run.limit.check("waiting for memory to be given back")?;
        thread::sleep(step);
        waited += step;
    }
}
