//! Measures what an append, a hot read and a cold read cost per message: `cargo run --release --example publish_cost`.

use std::{sync::Arc, time::Instant};

use nsq_log::{Append, BatchBuilder, Clocks, Options, Read, RealDisk, Store, TopicLog};
use nsq_protocol::TopicName;

const BODY_BYTES: usize = 200;

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::print_stdout, reason = "the result of the measurement")]
fn report(what: &str, messages: u64, since: Instant) {
    let nanos = since.elapsed().as_nanos() / u128::from(messages);
    println!("{what:<60} {nanos:>6} ns per message");
}

/// Appends `rounds` batches of `batch_count` messages.
fn publish(store: &Store, log: &TopicLog, (batch_count, rounds): (u64, u64), consumed: bool) {
    let mut batch = BatchBuilder::new(Arc::clone(store.pool()));
    let body = [7; BODY_BYTES];
    let since = now();
    for _ in 0..rounds {
        (0..batch_count).for_each(|_| batch.push(&body));
        let range = log.append(&mut batch, Append { timestamp_ns: 1, defer: None });
        if consumed {
            log.release(range.map_or(0, |range| range.end));
        }
    }
    let how = if consumed { "released at once" } else { "kept" };
    let what = format!("append to {}, batches of {batch_count}, {how}", log.name());
    report(&what, batch_count * rounds, since);
}

/// Reads everything from disk.
fn read_cold(log: &TopicLog) -> Result<(), Box<dyn std::error::Error>> {
    let (mut seq, end) = (log.first(), log.tail_start());
    let (since, kept) = (now(), end - seq);
    let mut slices = Vec::new();
    while seq < end {
        let chunk = log.load(seq, 512 << 10)?;
        slices.clear();
        if let Read::Taken(count) = chunk.read(seq..end, usize::MAX / 2, &mut slices) {
            seq += count;
        }
    }
    report("cold read of the same", kept, since);
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let disk = Arc::new(RealDisk);
    let opened = Store::open(folder.path(), disk, Options::default(), Clocks::default())?;
    let store = &opened.store;
    for size in [(1, 200_000), (20, 50_000), (200, 10_000), (1000, 2000)] {
        for (topic, consumed) in [("memory#ephemeral", true), ("file", true), ("file", false)] {
            let name = TopicName::new(topic)?;
            let log = store.create_topic(&name)?;
            publish(store, &log, size, consumed);
            if !consumed {
                read_cold(&log)?;
            }
            store.delete_topic(&name)?;
        }
    }
    Ok(())
}
