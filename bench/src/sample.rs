//! The numbers of one run.

use std::time::Instant;

use crate::{failure::Failure, meter::Spent, target::Target};

/// The unit of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Messages in a second; more is better.
    PerSecond,
    /// Microseconds.
    Micros,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Percent of one core.
    Percent,
    /// The ratio of two numbers of the same server.
    Times,
    /// A number of things.
    Count,
}

/// One number of one run.
#[derive(Clone, Debug)]
pub(crate) struct Metric {
    /// The metric's name.
    pub(crate) name: &'static str,
    /// The unit.
    pub(crate) unit: Unit,
    /// The value.
    pub(crate) value: f64,
    /// The number is in the table even without `--all`.
    pub(crate) main: bool,
}

/// The numbers of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// In the order of the table.
    pub(crate) metrics: Vec<Metric>,
    /// Messages that were received more than once.
    pub(crate) duplicates: usize,
}

impl Sample {
    /// Adds a number to the table.
    pub(crate) fn add(&mut self, name: &'static str, unit: Unit, value: f64) {
        self.metrics.push(Metric { name, unit, value, main: true });
    }

    /// Adds a number that appears only with `--all` and in the JSON file.
    pub(crate) fn add_detail(&mut self, name: &'static str, unit: Unit, value: f64) {
        self.metrics.push(Metric { name, unit, value, main: false });
    }

    /// Returns a number that was added.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value)
    }

    /// Adds `messages` per second between two moments.
    pub(crate) fn add_rate(
        &mut self,
        name: &'static str,
        messages: usize,
        start: Instant,
        end: Instant,
    ) {
        self.add(name, Unit::PerSecond, messages as f64 / (end - start).as_secs_f64());
    }

    /// Adds the server's CPU for each of `messages`, if it is known.
    pub(crate) fn add_cpu(&mut self, name: &'static str, spent: &Spent, messages: usize) {
        if let Some(server) = spent.server {
            self.add(name, Unit::Micros, server.as_secs_f64() * 1e6 / messages as f64);
        }
    }

    /// Adds the server's CPU for each of `messages`, if it is known, as a detail.
    pub(crate) fn add_detail_cpu(&mut self, name: &'static str, spent: &Spent, messages: usize) {
        if let Some(server) = spent.server {
            self.add_detail(name, Unit::Micros, server.as_secs_f64() * 1e6 / messages as f64);
        }
    }

    /// Adds the server's memory and disk usage, if known, and the CPU time of the load.
    ///
    /// # Errors
    /// Returns the system's error.
    pub(crate) fn add_footprint(
        &mut self,
        target: &Target,
        spent: &Spent,
        messages: usize,
    ) -> Result<(), Failure> {
        if let Some(memory) = target.memory()? {
            self.add("peak memory", Unit::Bytes, memory.peak as f64);
        }
        if let Some(bytes) = target.disk_bytes()? {
            self.add_detail("on disk", Unit::Bytes, bytes as f64);
        }
        let load = spent.load.as_secs_f64() * 1e6 / messages as f64;
        self.add_detail("CPU of the load/msg", Unit::Micros, load);
        Ok(())
    }
}

/// Returns the median of sorted numbers.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(&[1.0, 2.0, 9.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[1.0, 2.0, 4.0, 9.0]) - 3.0).abs() < 1e-9);
    }
}
