//! Memory of the process, under the names of the Go runtime's figures that dashboards know.

use nsq_daemon::process::Status;
use serde::Serialize;

/// The memory figures of NSQ. Those of the garbage collector are 0.
#[derive(Copy, Clone, Debug, Default, Serialize)]
pub(crate) struct Memory {
    heap_objects: u64,
    heap_idle_bytes: u64,
    /// Anonymous memory in use.
    heap_in_use_bytes: u64,
    heap_released_bytes: u64,
    gc_pause_usec_100: u64,
    gc_pause_usec_99: u64,
    gc_pause_usec_95: u64,
    next_gc_bytes: u64,
    gc_total_runs: u64,
}

impl Memory {
    /// Asks the operating system; what it does not tell is 0.
    pub(crate) fn of_this_process() -> Self {
        let heap_in_use_bytes = Status::read().bytes("RssAnon").unwrap_or_default();
        Self { heap_in_use_bytes, ..Self::default() }
    }

    /// Returns names and values in the order in which they are shown.
    pub(crate) fn rows(&self) -> [(&'static str, u64); 9] {
        [
            ("heap_objects", self.heap_objects),
            ("heap_idle_bytes", self.heap_idle_bytes),
            ("heap_in_use_bytes", self.heap_in_use_bytes),
            ("heap_released_bytes", self.heap_released_bytes),
            ("gc_pause_usec_100", self.gc_pause_usec_100),
            ("gc_pause_usec_99", self.gc_pause_usec_99),
            ("gc_pause_usec_95", self.gc_pause_usec_95),
            ("next_gc_bytes", self.next_gc_bytes),
            ("gc_total_runs", self.gc_total_runs),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_are_the_keys_of_the_json_in_order() {
        let json = serde_json::to_string(&Memory {
            heap_objects: 1,
            gc_total_runs: 9,
            ..Memory::default()
        });
        let memory: Memory = Memory { heap_objects: 1, gc_total_runs: 9, ..Memory::default() };
        let rows = memory.rows().map(|(key, value)| format!("\"{key}\":{value}")).join(",");
        assert_eq!(json.unwrap(), format!("{{{rows}}}"));
    }
}
