//! Measurements of a process by the operating system: CPU, memory, bytes on disk.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path, time::Duration};

use nix::{
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

use crate::failure::Failure;

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// The resident memory now.
    pub(crate) resident: u64,
    /// The peak of resident memory since the program started.
    pub(crate) peak: u64,
}

/// Returns the CPU time the process has used, in user and kernel mode, on all its threads.
///
/// This is the process's CPU clock: the scheduler's sum in nanoseconds, including threads that have
/// ended. The numbers in `/proc/<pid>/stat` have a resolution of only 10 ms, and those in
/// `/proc/<pid>/task/*/schedstat` lack ended threads.
///
/// # Errors
/// Returns the system's error, for example if the process is gone.
pub(crate) fn cpu(pid: Pid) -> Result<Duration, Failure> {
    ClockId::pid_cpu_clock_id(pid)
        .and_then(clock_gettime)
        .map(Duration::from)
        .map_err(Failure::os(format!("read the CPU clock of process {pid}")))
}

/// Returns the CPU time this process, the load generator, has used.
///
/// # Errors
/// Returns the system's error.
pub(crate) fn own_cpu() -> Result<Duration, Failure> {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)
        .map(Duration::from)
        .map_err(Failure::os("read the own CPU clock"))
}

/// Returns the memory of a process.
///
/// # Errors
/// Returns the system's error, for example if the process is gone.
pub(crate) fn memory(pid: Pid) -> Result<Memory, Failure> {
    let [resident, peak] = fields(pid, "status", ["VmRSS:", "VmHWM:"])?.map(|kib| kib * 1024);
    Ok(Memory { resident, peak })
}

/// Returns the bytes that a process has written to disks, or will have once the page cache is.
///
/// # Errors
/// Returns the system's error, for example if the process is gone.
pub(crate) fn written_bytes(pid: Pid) -> Result<u64, Failure> {
    fields(pid, "io", ["write_bytes:"]).map(|[bytes]| bytes)
}

/// Reads numbers by name from a file about a process.
fn fields<const N: usize>(pid: Pid, file: &str, names: [&str; N]) -> Result<[u64; N], Failure> {
    let path = format!("/proc/{pid}/{file}");
    let text = fs::read_to_string(&path).map_err(Failure::io(format!("read {path}")))?;
    let mut numbers = [0; N];
    for (number, name) in numbers.iter_mut().zip(names) {
        let rest = text.lines().find_map(|line| line.strip_prefix(name));
        *number = rest
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|word| word.parse().ok())
            .ok_or_else(|| Failure::Server(format!("no {name} in {path}")))?;
    }
    Ok(numbers)
}

/// Returns the bytes that the files below `directory` occupy, as `du` counts them.
///
/// # Errors
/// Returns the system's error. A file that is removed meanwhile is not an error.
pub(crate) fn disk_bytes(directory: &Path) -> Result<u64, Failure> {
    let entries = fs::read_dir(directory)
        .map_err(Failure::io(format!("read directory {}", directory.display())))?;
    let mut sum = 0;
    for entry in entries {
        let counted = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)));
        match counted {
            Ok((path, metadata)) if metadata.is_dir() => sum += disk_bytes(&path)?,
            Ok((_, metadata)) => sum += metadata.blocks() * 512,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::io("count bytes on disk")(error)),
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;

    #[test]
    fn the_cpu_clock_counts_threads_that_have_ended() {
        let before = cpu(Pid::this()).unwrap();
        let burn = || {
            let start = now();
            while now() - start < Duration::from_millis(30) {}
        };
        std::thread::spawn(burn).join().unwrap();
        assert!(cpu(Pid::this()).unwrap() - before > Duration::from_millis(5));
    }

    #[test]
    fn memory_of_this_process_is_found() {
        let memory = memory(Pid::this()).unwrap();
        assert!(memory.peak >= memory.resident && memory.resident > 100_000);
    }
}
