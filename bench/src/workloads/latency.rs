//! The time from publishing to receiving, at a rate that any server can sustain.
//!
//! The load is open: a message is due every millisecond, regardless of those before it, and its
//! latency counts from when it was due. A pause of the server or machine therefore counts for every
//! message that had to wait, not only for the first.

use std::{
    thread,
    time::{Duration, Instant},
};

use nix::sys::prctl;

use crate::{
    clock::now,
    conn::Conn,
    consumer::{self, CHANNEL, Consumer},
    failure::Failure,
    limit::{Task, run_together},
    meter::Meter,
    publisher::BODY_BYTES,
    sample::{Sample, Unit},
    wire::{self, Commands},
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
    work: Work::Load(latency),
};

const INTERVAL: Duration = Duration::from_millis(1);
/// The percentage of messages at either end of the run that is not counted: the server is warming
/// up at first, and the last messages have none behind them to push them out of a buffer.
const EDGE_PERCENT: usize = 10;
const BUFFER_BYTES: usize = 16 * 1024;

fn latency(run: &Run<'_>) -> Result<Sample, Failure> {
    let topic = run.topic();
    let address = run.target.address;
    consumer::create_channel(address, &topic, CHANNEL, run.limit)?;
    let mut consumer = Consumer::subscribe(address, &topic, CHANNEL, BUFFER_BYTES, run.limit)?;
    let publisher = Conn::open(address, BUFFER_BYTES, run.limit)?;
    let ledger = run.ledger();
    consumer.ready(2500)?;

    let meter = Meter::start(run.target)?;
    let start = meter.started + Duration::from_millis(5);
    let edge = run.size * EDGE_PERCENT / 100;
    let counted = edge..run.size - edge;
    let receive: Task<'_, Vec<Duration>> = Box::new(|| {
        let mut page = ledger.page();
        let mut latencies = Vec::with_capacity(run.size);
        while !ledger.is_complete() {
            consumer.step(|body| {
                page.mark(body)?;
                let seq = wire::seq_of(body).unwrap_or(0);
                if counted.contains(&seq) {
                    latencies.push(now().saturating_duration_since(due(start, seq)));
                }
                Ok(())
            })?;
            page.save();
        }
        consumer.close()?;
        Ok(latencies)
    });
    let publish: Task<'_, Vec<Duration>> =
        Box::new(|| publish(publisher, &topic, run.size, start).map(|()| Vec::new()));
    let mut latencies = run_together(run.limit, vec![receive, publish])?.concat();
    let spent = meter.read()?;
    run.target.check_finished(&topic)?;

    latencies.sort_unstable();
    let mut sample = Sample { duplicates: ledger.duplicates(), ..Sample::default() };
    let micros = |permille| percentile(&latencies, permille).as_secs_f64() * 1e6;
    sample.add("p50", Unit::Micros, micros(500));
    sample.add("p99", Unit::Micros, micros(990));
    sample.add("p99.9", Unit::Micros, micros(999));
    sample.add_detail("max", Unit::Micros, micros(1000));
    sample.add_cpu("CPU/msg", &spent, run.size);
    sample.add_footprint(run.target, &spent, run.size)?;
    Ok(sample)
}

fn due(start: Instant, seq: usize) -> Instant {
    start + INTERVAL * u32::try_from(seq).unwrap_or(u32::MAX)
}

/// Sends each message when it is due, without waiting for answers.
fn publish(
    mut conn: Conn<'_>,
    topic: &str,
    messages: usize,
    start: Instant,
) -> Result<(), Failure> {
    prctl::set_timerslack(1).map_err(Failure::os("ask for exact timers"))?;
    let mut command = Commands::pub_one(topic, BODY_BYTES, 1);
    let mut answered = 0;
    conn.set_nonblocking(true)?;
    for seq in 0..messages {
        let wait = due(start, seq).saturating_duration_since(now());
        if !wait.is_zero() {
            thread::sleep(wait);
        }
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

/// Returns the smallest value that `permille` of all values do not exceed.
fn percentile(sorted: &[Duration], permille: usize) -> Duration {
    let rank = (sorted.len() * permille).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let sorted: Vec<_> = (1..=1000).map(Duration::from_micros).collect();
        assert_eq!(percentile(&sorted, 500), Duration::from_micros(500));
        assert_eq!(percentile(&sorted, 999), Duration::from_micros(999));
        assert_eq!(percentile(&sorted, 1000), Duration::from_micros(1000));
        assert_eq!(percentile(&sorted[..1], 500), Duration::from_micros(1));
    }
}
