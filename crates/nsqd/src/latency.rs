//! The time from publishing a message to its FIN, as quantiles over a sliding window.
//!
//! A channel sketches the latencies of two half-windows and starts over with the older one whenever half a window has
//! passed, so its figures cover between half a window and a whole one. A topic shows the merged sketches of its
//! channels. Sketches are DDSketches: a quantile is off by 1 % at most, merged or not.

use std::{fmt, time::Duration};

use nsq_broker::Time;
use serde::{Serialize, Serializer};
use sketches_ddsketch::{Config, DDSketch};

use crate::clock::nanos;

/// How far a quantile may be off, relative to its value.
const ERROR: f64 = 0.01;
/// With this many bins of 2 % each, a nanosecond and twelve years fit in one sketch. Only the bins between the lowest and
/// the highest latency take memory: three kilobytes for three decades.
const BINS_MAX: u32 = 2048;
/// Latencies up to this count as zero, ns.
const ZERO_NS: f64 = 0.5;

/// The latencies of a channel in the last window.
pub(crate) struct LatencyWindow {
    half: Duration,
    /// The end of the newer half.
    turns_at: Time,
    newer: Latencies,
    older: Latencies,
}

/// A set of latencies, sketched.
#[derive(Clone)]
pub(crate) struct Latencies(DDSketch);

impl LatencyWindow {
    /// A window without latencies that begins at `now`.
    pub(crate) fn new(window: Duration, now: Time) -> Self {
        let half = (window / 2).max(Duration::from_nanos(1));
        let (newer, older) = (Latencies::default(), Latencies::default());
        Self { half, turns_at: now + half, newer, older }
    }

    /// The latencies to add new ones to.
    pub(crate) fn newest(&mut self, now: Time) -> &mut Latencies {
        self.turn(now);
        &mut self.newer
    }

    /// All latencies of the window.
    pub(crate) fn all(&mut self, now: Time) -> Latencies {
        self.turn(now);
        let mut all = self.older.clone();
        all.merge(&self.newer);
        all
    }

    /// Drops what is too old.
    fn turn(&mut self, now: Time) {
        if now < self.turns_at {
            return;
        }
        self.older = std::mem::take(&mut self.newer);
        let half_ns = nanos(self.half);
        let late_ns = nanos(now.since(self.turns_at));
        if late_ns >= half_ns {
            self.older = Latencies::default();
        }
        self.turns_at = now + Duration::from_nanos(half_ns - late_ns % half_ns);
    }
}

impl Latencies {
    /// Adds a latency that `count` messages had. One that is negative, because the clock was set back, counts as zero.
    pub(crate) fn add(&mut self, latency_ns: i64, count: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a sketch is less precise than that")]
        let latency_ns = latency_ns.max(0) as f64;
        self.0.add_with_count(latency_ns, count);
    }

    /// Adds the latencies of `other`.
    pub(crate) fn merge(&mut self, other: &Self) {
        let merged = self.0.merge(&other.0);
        debug_assert!(merged.is_ok(), "all sketches have the same settings");
    }

    /// The smallest latency that a share of the messages does not exceed, ns; 0 without messages.
    #[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate")]
    #[expect(clippy::cast_sign_loss, reason = "no latency is negative")]
    #[expect(clippy::cast_precision_loss, reason = "a rank in a sketch needs no more")]
    fn quantile_ns(&self, share: f64) -> u64 {
        // The sketch counts down to the next rank: of few messages, its highest percentiles would miss the slowest.
        let (count, last) = (self.0.count() as f64, self.0.count().saturating_sub(1) as f64);
        let rank = (share * count).ceil() - 1.0;
        let quantile = if rank < last { (rank + 0.5) / last } else { 1.0 };
        let value = self.0.quantile(quantile).ok().flatten().unwrap_or_default();
        // The sketch knows the extremes exactly, and what lies between only nearly: it could be beyond them.
        let (least, most) = (self.0.min().unwrap_or(value), self.0.max().unwrap_or(value));
        value.max(least).min(most).round() as u64
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self(DDSketch::new(Config::new(ERROR, BINS_MAX, ZERO_NS)))
    }
}

/// Latencies as `/stats` shows them.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct LatencyReport {
    /// The number of messages.
    count: usize,
    /// `null` if none are configured.
    percentiles: Option<Vec<Percentile>>,
}

/// The latency that a share of the messages does not exceed.
#[derive(Copy, Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Percentile {
    /// The share, above 0 and up to 1.
    #[serde(serialize_with = "shortest")]
    pub(crate) quantile: f64,
    /// The latency, ns.
    #[serde(rename = "value")]
    pub(crate) value_ns: u64,
}

impl LatencyReport {
    /// A report of `latencies`; an empty one when they are not measured.
    pub(crate) fn new(latencies: Option<&Latencies>, shares: &[f64]) -> Self {
        let Some(latencies) = latencies else { return Self::default() };
        let percentile =
            |&quantile| Percentile { quantile, value_ns: latencies.quantile_ns(quantile) };
        let percentiles = Some(shares.iter().map(percentile).collect());
        Self { count: latencies.0.count(), percentiles }
    }

    /// The number of messages.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The percentiles; none when they are not measured.
    pub(crate) fn percentiles(&self) -> &[Percentile] {
        self.percentiles.as_deref().unwrap_or_default()
    }
}

/// Writes 1 as NSQ does, without a decimal.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn shortest<S: Serializer>(share: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if *share >= 1.0 { serializer.serialize_u8(1) } else { serializer.serialize_f64(*share) }
}

/// The values as text: `1.2ms, 340.0us`.
impl fmt::Display for LatencyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, percentile) in self.percentiles().iter().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            let (value, unit) = human(percentile.value_ns);
            write!(f, "{separator}{value:.1}{unit}")?;
        }
        Ok(())
    }
}

/// A time in the largest unit that it exceeds.
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn human(ns: u64) -> (f64, &'static str) {
    let units = [(1e9, "s"), (1e6, "ms"), (1e3, "us")];
    let ns = ns as f64;
    let unit = units.into_iter().find(|(unit_ns, _)| ns > *unit_ns);
    unit.map_or((ns, "ns"), |(unit_ns, unit)| (ns / unit_ns, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(600);

    fn minute(minute: u64) -> Time {
        Time::default() + Duration::from_secs(60 * minute)
    }

    fn count(window: &mut LatencyWindow, at: Time) -> usize {
        window.all(at).0.count()
    }

    #[test]
    fn a_window_holds_what_is_no_older_than_half_of_it_and_nothing_older_than_it() {
        let mut window = LatencyWindow::new(WINDOW, minute(0));
        for at in 0..30 {
            window.newest(minute(at)).add(1_000, 1);
            let held = count(&mut window, minute(at)) as u64;
            assert!((5.min(at + 1)..=10).contains(&held), "{held} at {at}");
        }
        assert_eq!(count(&mut window, minute(34)), 5, "the older half is gone");
        assert_eq!(count(&mut window, minute(35)), 0, "the other half is gone");
    }

    #[test]
    fn halves_keep_their_pace_after_a_pause() {
        let mut window = LatencyWindow::new(WINDOW, minute(0));
        window.newest(minute(4)).add(1_000, 1);
        window.newest(minute(23)).add(1_000, 3);
        assert_eq!(count(&mut window, minute(24)), 3, "what was before the pause is gone");
        window.newest(minute(25)).add(1_000, 1);
        assert_eq!(count(&mut window, minute(29)), 4);
        assert_eq!(count(&mut window, minute(30)), 1);
    }

    #[test]
    fn no_quantile_is_beyond_the_extremes() {
        for latency_ns in (1_000_000..2_000_000).step_by(997) {
            let mut latencies = Latencies::default();
            latencies.add(latency_ns, 3);
            let found = [0.01, 0.5, 1.0].map(|share| latencies.quantile_ns(share).cast_signed());
            assert_eq!(found, [latency_ns; 3]);
        }
    }

    #[test]
    fn quantiles_are_within_one_percent_also_when_merged() {
        let (mut even, mut odd) = (Latencies::default(), Latencies::default());
        for value in 1..=100_000 {
            let latencies = if value % 2 == 0 { &mut even } else { &mut odd };
            latencies.add(value * 1_000, 1);
        }
        even.merge(&odd);
        assert_eq!(even.0.count(), 100_000);
        for share in [0.01, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let exact = share * 1e8;
            let error = (even.quantile_ns(share) as f64 - exact).abs() / exact;
            assert!(error <= 0.0101, "{share}: {error}");
        }
    }

    #[test]
    fn a_high_percentile_of_few_messages_is_the_slowest_of_them() {
        let mut latencies = Latencies::default();
        for value in [1_000, 2_000, 30_000] {
            latencies.add(value, 1);
            latencies.add(10, 1);
        }
        let close = |share, value: u64| latencies.quantile_ns(share).abs_diff(value) <= value / 100;
        assert!(close(0.999, 30_000) && close(0.84, 30_000) && close(0.83, 2_000));
        assert!(close(0.51, 1_000) && close(0.5, 10) && close(0.001, 10));
    }

    #[test]
    fn the_extremes_fit() {
        let mut latencies = Latencies::default();
        let years = 10 * 365 * 24 * 3600 * 1_000_000_000;
        for value in [-5, 0, 1, years] {
            latencies.add(value, 1);
        }
        let values = [0.25, 0.5, 0.75, 1.0].map(|share| latencies.quantile_ns(share));
        assert_eq!(values, [0, 0, 1, years.cast_unsigned()]);
    }

    #[test]
    fn times_are_shown_in_the_largest_unit_that_they_exceed() {
        let text = |value_ns| {
            let percentiles = Some(vec![Percentile { quantile: 0.5, value_ns }]);
            LatencyReport { count: 1, percentiles }.to_string()
        };
        for (ns, expected) in [
            (0, "0.0ns"),
            (1_000, "1000.0ns"),
            (1_001, "1.0us"),
            (1_250_000, "1.2ms"),
            (1_000_000_000, "1000.0ms"),
            (90_500_000_000, "90.5s"),
        ] {
            assert_eq!(text(ns), expected);
        }
        let none = LatencyReport::new(None, &[0.5]);
        assert_eq!((none.to_string(), none.percentiles()), (String::new(), &[][..]));
    }
}
