//! The status of this process, as Linux reports it.

use std::fs;

/// The text of `/proc/self/status`: a line for each figure.
#[derive(Debug)]
pub struct Status(String);

impl Status {
    /// Reads the status. Where there is no such file, no figure is known.
    pub fn read() -> Self {
        Self(fs::read_to_string("/proc/self/status").unwrap_or_default())
    }

    /// The figure `key`, for example `Threads`.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.value(key)?.parse().ok()
    }

    /// The figure `key` in bytes, for example `VmRSS`. The file has it in kB.
    pub fn bytes(&self, key: &str) -> Option<u64> {
        let kilobytes: u64 = self.value(key)?.strip_suffix("kB")?.trim().parse().ok()?;
        Some(kilobytes * 1024)
    }

    fn value(&self, key: &str) -> Option<&str> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(line.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_their_whole_key() {
        let status =
            Status("VmRSS:\t   9044 kB\nRssAnon:\t    2404 kB\nThreads:\t5\nVm:\t1\n".to_owned());
        assert_eq!(status.bytes("RssAnon"), Some(2404 * 1024));
        assert_eq!(status.number("Threads"), Some(5));
        assert_eq!(status.number("Vm"), Some(1));
    }

    #[test]
    fn a_figure_that_is_missing_or_of_another_kind_is_not_known() {
        let status = Status("RssAnon:\t much kB\nThreads:\t5\n".to_owned());
        assert_eq!(status.bytes("RssAnon"), None);
        assert_eq!(status.bytes("Threads"), None);
        assert_eq!(status.number("RssAnon"), None);
        assert_eq!(status.number("VmSize"), None);
    }
}
