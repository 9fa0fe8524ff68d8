//! The names of what is measured, quiet and beside a neighbour.

use std::time::Duration;

use crate::{
    pace::Percentiles,
    sample::{Sample, Unit},
};

/// The percentiles of one kind of latency, quiet and beside a neighbour.
pub(super) struct Latency {
    /// The heading of its columns.
    pub(super) title: &'static str,
    /// Without the neighbour.
    pub(super) quiet: Percentiles,
    /// Beside the neighbour.
    pub(super) during: Percentiles,
    /// The 99th percentile beside the neighbour, divided by the quiet one.
    pub(super) ratio: &'static str,
}

/// From when a message was due until it was answered.
pub(super) const PUBLISH: Latency = Latency {
    title: "publish",
    quiet: Percentiles {
        p50: "quiet publish p50",
        p99: "quiet publish p99",
        p999: "quiet publish p99.9",
        max: "quiet publish max",
    },
    during: Percentiles {
        p50: "publish p50",
        p99: "publish p99",
        p999: "publish p99.9",
        max: "publish max",
    },
    ratio: "publish p99 ratio",
};

/// From when a message was due until it was received.
pub(super) const DELIVER: Latency = Latency {
    title: "deliver",
    quiet: Percentiles {
        p50: "quiet deliver p50",
        p99: "quiet deliver p99",
        p999: "quiet deliver p99.9",
        max: "quiet deliver max",
    },
    during: Percentiles {
        p50: "deliver p50",
        p99: "deliver p99",
        p999: "deliver p99.9",
        max: "deliver max",
    },
    ratio: "deliver p99 ratio",
};

/// From when a newcomer was due until it was answered.
pub(super) const NEWCOMER: Latency = Latency {
    title: "newcomer",
    quiet: Percentiles {
        p50: "quiet newcomer p50",
        p99: "quiet newcomer p99",
        p999: "quiet newcomer p99.9",
        max: "quiet newcomer max",
    },
    during: Percentiles {
        p50: "newcomer p50",
        p99: "newcomer p99",
        p999: "newcomer p99.9",
        max: "newcomer max",
    },
    ratio: "newcomer p99 ratio",
};

/// The server's CPU without the neighbour, and beside it.
pub(super) const CPU: [&str; 2] = ["quiet CPU", "CPU"];
/// The CPU of the neighbour and the honest clients together, beside which the server runs.
pub(super) const LOAD_CPU: &str = "CPU of the load";
/// The server's peak memory.
pub(super) const MEMORY: &str = "peak memory";
/// The bytes that the server wrote to disks in all, its log included.
pub(super) const WRITTEN: &str = "written";
/// The size of the server's log.
pub(super) const LOG: &str = "log";
/// The actions of the neighbour that were done.
pub(super) const SENT: &str = "sent";
/// The actions of the neighbour that were refused or failed.
pub(super) const REFUSED: &str = "refused";
/// The newcomers that were refused.
pub(super) const REFUSED_NEWCOMERS: &str = "newcomers refused";

impl Latency {
    /// Adds the percentiles and their ratio, if there are any.
    pub(super) fn add(&self, sample: &mut Sample, quiet: Vec<Duration>, during: Vec<Duration>) {
        if quiet.is_empty() || during.is_empty() {
            return;
        }
        self.quiet.add(sample, quiet);
        self.during.add(sample, during);
        let p99 = sample.value(self.during.p99).zip(sample.value(self.quiet.p99));
        if let Some((during, quiet)) = p99 {
            sample.add(self.ratio, Unit::Times, during / quiet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_that_of_the_99th_percentiles() {
        let mut sample = Sample::default();
        let of = |micros| vec![Duration::from_micros(micros); 10];
        PUBLISH.add(&mut sample, of(100), of(250));
        DELIVER.add(&mut sample, of(100), Vec::new());
        assert!((sample.value(PUBLISH.ratio).unwrap() - 2.5).abs() < 1e-9);
        assert_eq!(sample.value(DELIVER.ratio), None);
    }
}
