//! The writer of the text format.

use std::{
    fmt::{self, Write},
    time::Duration,
};

use super::histogram::Histogram;
use crate::http::{IntoResponse, Response, header::HeaderValue};

const CONTENT_TYPE: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The samples of one name: what they are and what they mean.
#[derive(Copy, Clone, Debug)]
pub struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
}

/// How the values of a family move.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Up only, from 0 at the start of the process.
    Counter,
    /// Up and down.
    Gauge,
    /// Observations counted by size.
    Histogram,
    /// Quantiles of recent observations, each with its label `quantile`.
    Summary,
}

impl Family {
    /// A family of counters. The name ends with `_total`.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Counter, help }
    }

    /// A family of gauges.
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, help }
    }

    /// A family of histograms. The name ends with the unit, which is `_seconds`.
    pub const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Histogram, help }
    }

    /// A family of summaries. The name ends with the unit.
    pub const fn summary(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Summary, help }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        })
    }
}

/// The labels of a sample, written out. Samples of several families can share them.
#[derive(Clone, Debug, Default)]
pub struct Labels(String);

impl Labels {
    /// One label.
    pub fn new(name: &str, value: &str) -> Self {
        Self::default().and(name, value)
    }

    /// These labels and another one.
    #[must_use]
    pub fn and(&self, name: &str, value: &str) -> Self {
        let mut text = String::with_capacity(self.0.len() + name.len() + value.len() + 4);
        text.push_str(&self.0);
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                c => text.push(c),
            }
        }
        text.push('"');
        Self(text)
    }
}

/// The value of a sample.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Value {
    /// A number of things.
    Count(u64),
    /// An amount in a unit.
    Amount(f64),
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<usize> for Value {
    fn from(count: usize) -> Self {
        Self::Count(count as u64)
    }
}

impl From<bool> for Value {
    /// 1 for true.
    fn from(holds: bool) -> Self {
        Self::Count(holds.into())
    }
}

impl From<f64> for Value {
    fn from(amount: f64) -> Self {
        Self::Amount(amount)
    }
}

impl From<Duration> for Value {
    /// In seconds.
    fn from(time: Duration) -> Self {
        Self::Amount(time.as_secs_f64())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Amount(amount) => amount.fmt(f),
        }
    }
}

/// A page of metrics, written family by family.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// An empty page with room for about `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes) }
    }

    /// Begins a family, whose samples follow. Each family is begun once.
    pub fn family(&mut self, family: &Family) -> Samples<'_> {
        let Family { name, kind, help } = *family;
        debug_assert!(!help.contains(['\\', '\n']), "{name}: help that needs escapes");
        // Writing to a string cannot fail, here and below.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Samples { text: &mut self.text, name }
    }

    /// Writes a family of one sample without labels.
    pub fn single(&mut self, family: &Family, value: impl Into<Value>) {
        self.family(family).add(&Labels::default(), value);
    }

    /// Writes a family of one histogram without labels.
    pub fn histogram(&mut self, family: &Family, histogram: &Histogram) {
        let name = family.name;
        self.family(family);
        let text = &mut self.text;
        let mut count = 0;
        for (bound, observed) in histogram.buckets() {
            count += observed;
            let _ = match bound {
                Some(bound) => {
                    let bound = bound.as_secs_f64();
                    writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}")
                }
                None => writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}"),
            };
        }
        let sum = histogram.sum().as_secs_f64();
        let _ = write!(text, "{name}_sum {sum}\n{name}_count {count}\n");
    }

    /// The page so far.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        Response::typed(CONTENT_TYPE, self.text)
    }
}

/// A family that is being written.
#[derive(Debug)]
pub struct Samples<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Samples<'_> {
    /// Writes a sample.
    pub fn add(&mut self, labels: &Labels, value: impl Into<Value>) -> &mut Self {
        self.text.push_str(self.name);
        if !labels.0.is_empty() {
            self.text.push('{');
            self.text.push_str(&labels.0);
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {}", value.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: Family = Family::counter("seen_total", "Things seen.");
    const WAIT: Family = Family::histogram("wait_seconds", "Time waited.");

    #[test]
    fn a_family_has_its_help_and_type_before_its_samples() {
        let mut page = Page::default();
        let labels = Labels::new("kind", "a").and("place", "b");
        page.family(&SEEN).add(&labels, 3_u64).add(&Labels::default(), 0.25);
        let expected = "# HELP seen_total Things seen.\n# TYPE seen_total counter\n\
            seen_total{kind=\"a\",place=\"b\"} 3\nseen_total 0.25\n";
        assert_eq!(page.text(), expected);
    }

    #[test]
    fn label_values_are_escaped() {
        assert_eq!(Labels::new("x", "a\"b\\c\nd\u{e9}").0, "x=\"a\\\"b\\\\c\\nd\u{e9}\"");
    }

    #[test]
    fn the_buckets_of_a_histogram_are_cumulative() {
        static BOUNDS: [Duration; 2] = [Duration::from_micros(10), Duration::from_secs(1)];
        let histogram = Histogram::new(&BOUNDS);
        for micros in [1, 10, 11, 1_000_000, 2_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let mut page = Page::default();
        page.histogram(&WAIT, &histogram);
        let samples = page.text().split_once("histogram\n").unwrap().1;
        let expected = "wait_seconds_bucket{le=\"0.00001\"} 2\nwait_seconds_bucket{le=\"1\"} 4\n\
            wait_seconds_bucket{le=\"+Inf\"} 5\nwait_seconds_sum 3.000022\nwait_seconds_count 5\n";
        assert_eq!(samples, expected);
    }

    #[test]
    fn values_keep_their_precision() {
        assert_eq!(Value::from(u64::MAX).to_string(), "18446744073709551615");
        assert_eq!(Value::from(Duration::from_nanos(1)).to_string(), "0.000000001");
        assert_eq!(Value::from(true).to_string(), "1");
    }
}
