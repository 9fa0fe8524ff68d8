//! The figures of the process, under the names that all Prometheus clients use.

use std::fs;

use rustix::{
    param::clock_ticks_per_second,
    time::{ClockId, clock_gettime},
};

use super::page::{Family, Labels, Page, Value};
use crate::{limits::file_limit, process::Status};

const CPU: Family = Family::counter(
    "process_cpu_seconds_total",
    "Total user and system CPU time spent in seconds.",
);
const OPEN_FDS: Family = Family::gauge("process_open_fds", "Number of open file descriptors.");
const MAX_FDS: Family =
    Family::gauge("process_max_fds", "Maximum number of open file descriptors.");
const VIRTUAL: Family =
    Family::gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.");
const RESIDENT: Family =
    Family::gauge("process_resident_memory_bytes", "Resident memory size in bytes.");
const THREADS: Family = Family::gauge("process_threads", "Number of OS threads in the process.");
const START: Family = Family::gauge(
    "process_start_time_seconds",
    "Start time of the process since unix epoch in seconds.",
);

/// Writes the figures of this process. A figure that the operating system does not tell is left out.
///
/// Reads `/proc`, which takes some microseconds for each open descriptor.
pub fn write_process(page: &mut Page) {
    let status = Status::read();
    optional(page, &CPU, Some(cpu_seconds()));
    optional(page, &OPEN_FDS, open_fds());
    optional(page, &MAX_FDS, file_limit());
    optional(page, &VIRTUAL, status.bytes("VmSize"));
    optional(page, &RESIDENT, status.bytes("VmRSS"));
    optional(page, &THREADS, status.number("Threads"));
    optional(page, &START, start_seconds());
}

fn optional(page: &mut Page, family: &Family, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        page.family(family).add(&Labels::default(), value);
    }
}

#[expect(clippy::cast_precision_loss, reason = "centuries of seconds and all nanoseconds fit")]
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn open_fds() -> Option<u64> {
    let entries = fs::read_dir("/proc/self/fd").ok()?;
    // One of them is the directory that is being read.
    Some((entries.count() as u64).saturating_sub(1))
}

fn start_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let kernel = fs::read_to_string("/proc/stat").ok()?;
    let boot = kernel.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(boot.trim().parse::<f64>().ok()? + start_ticks(&stat)? / ticks_per_second())
}

#[expect(clippy::cast_precision_loss, reason = "a hundred or a thousand")]
fn ticks_per_second() -> f64 {
    clock_ticks_per_second() as f64
}

/// The time from the boot to the start of the process: the 22nd field of `/proc/self/stat`, of which the second may
/// hold spaces and parentheses.
fn start_ticks(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_described_whole() {
        let mut page = Page::default();
        write_process(&mut page);
        for family in [CPU, OPEN_FDS, MAX_FDS, VIRTUAL, RESIDENT, THREADS, START] {
            let mut wanted = Page::default();
            wanted.family(&family);
            let samples = page.text().split_once(wanted.text()).expect("the family is there").1;
            let value = samples.lines().next().unwrap().rsplit_once(' ').unwrap().1;
            assert!(value.parse::<f64>().unwrap() > 0.0, "{samples}");
        }
    }

    #[test]
    fn a_start_is_found_behind_a_name_with_parentheses() {
        let numbers: Vec<_> = (3..=24).map(|field| field.to_string()).collect();
        let stat = format!("1 (a) b (c)) {}", numbers.join(" "));
        assert_eq!(start_ticks(&stat), Some(22.0));
    }
}
