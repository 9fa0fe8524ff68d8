//! The figures of a process, from the operating system and the list of tasks.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::PathBuf,
    time::Duration,
};

use super::profile::Profile;
use crate::{process::Status, tasks::Tasks};

/// The CPU time of each thread by its number, and its name.
pub(super) type CpuTimes = HashMap<u64, (String, Duration)>;

/// Reads the CPU times of all threads. There are none where the kernel keeps no schedule statistics.
pub(super) fn cpu_times() -> CpuTimes {
    let times = running_threads().into_iter().filter_map(|thread| {
        let time = thread.cpu_time()?;
        Some((thread.id, (thread.name, time)))
    });
    times.collect()
}

/// The CPU time between two readings. A thread that has ended meanwhile is left out.
pub(super) fn cpu(before: &CpuTimes, after: &CpuTimes, duration: Duration) -> Profile {
    let mut rows: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (id, (name, time)) in after {
        let earlier = before.get(id).map_or(Duration::ZERO, |(_, time)| *time);
        let nanos = u64::try_from(time.saturating_sub(earlier).as_nanos()).unwrap_or(u64::MAX);
        let row = rows.entry(name).or_insert_with(|| vec![0, 0]);
        (row[0], row[1]) = (row[0] + 1, row[1].saturating_add(nanos));
    }
    Profile {
        name: "profile",
        values: vec![("threads", "count"), ("cpu", "nanoseconds")],
        rows: rows.into_iter().map(|(name, row)| (name.to_owned(), row)).collect(),
        duration,
        remark: "CPU time by the name of the thread",
    }
}

/// The threads by name.
pub(super) fn threads() -> Profile {
    let mut rows = BTreeMap::new();
    for thread in running_threads() {
        *rows.entry(thread.name).or_default() += 1;
    }
    counted("threadcreate", rows, "threads that are running, by name")
}

/// The tasks by name.
pub(super) fn tasks(tasks: &Tasks) -> Profile {
    let rows = tasks.names().into_iter().map(|(name, count)| (name.to_owned(), count as u64));
    counted("goroutine", rows.collect(), "tasks that have not ended, by name")
}

/// Nothing: waiting is not recorded.
pub(super) fn waiting() -> Profile {
    Profile {
        values: vec![("contentions", "count"), ("delay", "nanoseconds")],
        ..counted("block", BTreeMap::new(), "waiting is not recorded")
    }
}

/// The resident memory by its kind.
pub(super) fn memory() -> Profile {
    let status = Status::read();
    let kinds = [
        ("RssAnon", "heap and stacks"),
        ("RssFile", "program and mapped files"),
        ("RssShmem", "shared memory"),
    ];
    let rows =
        kinds.iter().filter_map(|(key, kind)| Some(((*kind).to_owned(), status.bytes(key)?)));
    Profile {
        values: vec![("inuse_space", "bytes")],
        ..counted("heap", rows.collect(), "resident memory by its kind")
    }
}

fn counted(name: &'static str, rows: BTreeMap<String, u64>, remark: &'static str) -> Profile {
    Profile {
        name,
        values: vec![(name, "count")],
        rows: rows.into_iter().map(|(name, count)| (name, vec![count])).collect(),
        duration: Duration::ZERO,
        remark,
    }
}

/// A thread of this process.
struct Thread {
    id: u64,
    name: String,
    /// Its folder in `/proc`.
    folder: PathBuf,
}

impl Thread {
    fn in_folder(folder: PathBuf) -> Option<Self> {
        let id = folder.file_name()?.to_str()?.parse().ok()?;
        let name = fs::read_to_string(folder.join("comm")).ok()?.trim_end().to_owned();
        Some(Self { id, name, folder })
    }

    /// The first number of its schedule statistics.
    fn cpu_time(&self) -> Option<Duration> {
        let statistics = fs::read_to_string(self.folder.join("schedstat")).ok()?;
        statistics.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    }
}

/// Lists the threads of this process; those that end meanwhile are left out.
fn running_threads() -> Vec<Thread> {
    let folders = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    folders.filter_map(|folder| Thread::in_folder(folder.path())).collect()
}
