//! An open load: messages are due at fixed times, regardless of those before them.
//!
//! A latency counts from when the message was due. A pause of the server or machine therefore counts
//! for every message that had to wait, not only for the first.

use std::{
    thread,
    time::{Duration, Instant},
};

use nix::sys::prctl;

use crate::{
    clock::now,
    consumer::Consumer,
    failure::Failure,
    ledger::Ledger,
    sample::{Sample, Unit},
    wire,
};

/// One message each millisecond.
const INTERVAL: Duration = Duration::from_millis(1);

/// The times at which messages are due.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    start: Instant,
}

impl Pace {
    /// Starts a pace of one message each millisecond, a moment from now.
    pub(crate) fn start() -> Self {
        Self { start: now() + 5 * INTERVAL }
    }

    /// Returns the time at which message `seq` is due.
    pub(crate) fn due(self, seq: usize) -> Instant {
        self.start + INTERVAL * u32::try_from(seq).unwrap_or(u32::MAX)
    }

    /// Returns how long ago message `seq` was due.
    pub(crate) fn latency(self, seq: usize) -> Duration {
        now().saturating_duration_since(self.due(seq))
    }

    /// Waits until message `seq` is due.
    pub(crate) fn wait_for(self, seq: usize) {
        let wait = self.due(seq).saturating_duration_since(now());
        if !wait.is_zero() {
            thread::sleep(wait);
        }
    }
}

/// Makes the timers of this thread exact.
///
/// # Errors
/// Returns the system's error.
pub(crate) fn exact_timers() -> Result<(), Failure> {
    prctl::set_timerslack(1).map_err(Failure::os("ask for exact timers"))
}

/// Consumes until the ledger is complete. Returns the number of each message with its latency.
///
/// # Errors
/// Returns an error of the connection.
pub(crate) fn receive(
    consumer: &mut Consumer<'_>,
    ledger: &Ledger,
    pace: Pace,
) -> Result<Vec<(usize, Duration)>, Failure> {
    let mut page = ledger.page();
    let mut latencies = Vec::new();
    while !ledger.is_complete() {
        consumer.step(|body| {
            page.mark(body)?;
            let seq = wire::seq_of(body).unwrap_or(0);
            latencies.push((seq, pace.latency(seq)));
            Ok(())
        })?;
        page.save();
    }
    consumer.close()?;
    Ok(latencies)
}

/// The names of the percentiles of one kind of latency.
pub(crate) struct Percentiles {
    /// The median.
    pub(crate) p50: &'static str,
    /// 99 % are at most this.
    pub(crate) p99: &'static str,
    /// 99.9 % are at most this.
    pub(crate) p999: &'static str,
    /// All are at most this.
    pub(crate) max: &'static str,
}

impl Percentiles {
    /// Adds the percentiles of `latencies` to the table, and the maximum as a detail.
    pub(crate) fn add(&self, sample: &mut Sample, mut latencies: Vec<Duration>) {
        latencies.sort_unstable();
        let micros = |permille| percentile(&latencies, permille).as_secs_f64() * 1e6;
        sample.add(self.p50, Unit::Micros, micros(500));
        sample.add(self.p99, Unit::Micros, micros(990));
        sample.add(self.p999, Unit::Micros, micros(999));
        sample.add_detail(self.max, Unit::Micros, micros(1000));
    }
}

/// Returns the smallest value that `permille` of all values do not exceed.
fn percentile(sorted: &[Duration], permille: usize) -> Duration {
    let rank = (sorted.len() * permille).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let sorted: Vec<_> = (1..=1000).map(Duration::from_micros).collect();
        assert_eq!(percentile(&sorted, 500), Duration::from_micros(500));
        assert_eq!(percentile(&sorted, 999), Duration::from_micros(999));
        assert_eq!(percentile(&sorted, 1000), Duration::from_micros(1000));
        assert_eq!(percentile(&sorted[..1], 500), Duration::from_micros(1));
    }
}
