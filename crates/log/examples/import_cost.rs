//! The time and memory that the import of a Go nsqd's backlog takes: two channels of a million messages each.
//!
//! `cargo run --release -p nsq-log --example import_cost`

#![expect(clippy::print_stdout, reason = "prints its measurements")]
#![expect(clippy::disallowed_methods, reason = "measures time")]

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Instant};

use nsq_log::{
    Clocks, Notice, Options, RealDisk,
    diskqueue::QueueWriter,
    import::{Import, ImportReport, ImportedQueue, SkippedQueue},
};

const MESSAGES: u64 = 1_000_000;
const BODY_BYTES: usize = 200;
const FILE_BYTES: u64 = 100 << 20;

struct Print;

impl ImportReport for Print {
    fn imported(&mut self, queue: &ImportedQueue) {
        println!("{queue}");
    }

    fn damaged(&mut self, notice: &Notice) {
        println!("{notice}");
    }

    fn skipped(&mut self, queue: &SkippedQueue) {
        println!("{queue}");
    }
}

/// Writes a queue whose messages were delivered never or, now and then, once.
fn write(folder: &Path, queue: &str) -> Result<(), nsq_log::IoError> {
    let mut writer = QueueWriter::new(Arc::new(RealDisk), folder, queue.to_owned(), FILE_BYTES);
    let mut frame = Vec::from([0; 34]);
    frame[18..].copy_from_slice(b"0123456789abcdef");
    frame.extend([b'x'; BODY_BYTES]);
    for number in 0..MESSAGES {
        writer.push(&frame, u16::from(number % 1000 == 999))?;
    }
    writer.finish().map(drop)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    write(folder.path(), "orders:audit")?;
    write(folder.path(), "orders:billing")?;
    let since = Instant::now();
    let import = Import {
        path: folder.path(),
        disk: Arc::new(RealDisk),
        options: Options::default(),
        clocks: Clocks::default(),
        listed: &BTreeMap::new(),
    };
    import.run(&mut Print)?;
    let seconds = since.elapsed().as_secs_f64();
    println!("2 million messages in {seconds:.2} s");
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    println!("memory at most {}", peak.unwrap_or_default().trim());
    Ok(())
}
