//! The time and memory that a start needs for a million deferred messages, each with a due time of its own.
//!
//! `cargo run --release -p nsq-log --example replay_cost`

#![expect(clippy::print_stdout, reason = "prints its measurements")]
#![expect(clippy::disallowed_methods, reason = "measures time")]

use std::{sync::Arc, time::Instant};

use nsq_log::{
    Append, BatchBuilder, ChannelDelta, Clocks, JournalRecord, Opened, Options, Outstanding,
    RealDisk, Store,
};
use nsq_protocol::{ChannelName, TopicName};

const DELTAS: u64 = 5000;
const PER_DELTA: u64 = 200;

fn open(folder: &std::path::Path) -> Result<Opened, nsq_log::OpenError> {
    Store::open(folder, Arc::new(RealDisk), Options::default(), Clocks::default())
}

/// The resident memory of this process, in kB: now, and at most so far.
fn memory() -> Result<(String, String), std::io::Error> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    Ok((line("VmRSS:"), line("VmHWM:")))
}

fn write(folder: &std::path::Path, compact: bool) -> Result<(), Box<dyn std::error::Error>> {
    let opened = open(folder)?;
    let log = opened.store.create_topic(&TopicName::new("deferred")?)?;
    let channel = ChannelName::new("c")?;
    let mut batch = BatchBuilder::new(Arc::clone(opened.store.pool()));
    for _ in 0..DELTAS {
        (0..PER_DELTA).for_each(|_| batch.push(b"body"));
        let range = log.append(&mut batch, Append::default())?;
        let outstanding = range.clone().map(|seq| {
            // Neighbours are due at different times, so nothing can be joined.
            let due_ns = Some(1_790_000_000_000_000_000 + seq * 7919);
            Outstanding { range: seq..seq + 1, attempts: 1, due_ns }
        });
        let delta = ChannelDelta {
            end: range.end,
            cursor: range.end,
            finished: Vec::new(),
            outstanding: outstanding.collect(),
        };
        let record = JournalRecord::ChannelDelta { channel: &channel, delta: &delta };
        log.journal(&[record], 0)?;
    }
    if compact {
        let since = Instant::now();
        log.compact()?;
        println!("compaction: {:?}", since.elapsed());
    }
    log.waypoint()?;
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for compact in [false, true] {
        let folder = tempfile::tempdir()?;
        write(folder.path(), compact)?;
        println!("written, compacted: {compact}, memory {:?}", memory()?);
        let since = Instant::now();
        let opened = open(folder.path())?;
        let entries: usize = opened.topics[0].state.channels[0].1.outstanding.len();
        println!("start with {entries} deferred: {:?}, memory {:?}", since.elapsed(), memory()?);
    }
    Ok(())
}
