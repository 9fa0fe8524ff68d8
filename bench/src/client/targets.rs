//! The targets of the client library, compared with its results.

use std::fmt::Write as _;

use crate::{
    client::{
        columns::{GO, RAW_COLUMN, RUST},
        rows::{CPU_IDLE, CPU_PER_MESSAGE},
    },
    report::Report,
};

/// A target for the medians of one metric in one row.
struct Target {
    row: &'static str,
    metric: &'static str,
    /// The column that is judged, divided by the column `by` if there is one.
    of: &'static str,
    by: Option<&'static str>,
    bound: Bound,
}

#[derive(Clone, Copy)]
enum Bound {
    Least(f64),
    Most(f64),
}

const TARGETS: &[Target] = &[
    Target {
        row: "consume",
        metric: CPU_PER_MESSAGE,
        of: GO,
        by: Some(RUST),
        bound: Bound::Least(5.0),
    },
    Target {
        row: "consume8",
        metric: CPU_PER_MESSAGE,
        of: GO,
        by: Some(RUST),
        bound: Bound::Least(5.0),
    },
    Target {
        row: "publish",
        metric: CPU_PER_MESSAGE,
        of: RUST,
        by: Some(RAW_COLUMN),
        bound: Bound::Most(2.0),
    },
    Target {
        row: "publish200",
        metric: CPU_PER_MESSAGE,
        of: RUST,
        by: Some(RAW_COLUMN),
        bound: Bound::Most(2.0),
    },
    // Less than this cannot be distinguished from a single timer.
    Target { row: "idle", metric: CPU_IDLE, of: RUST, by: None, bound: Bound::Most(0.1) },
    Target { row: "idle_few", metric: CPU_IDLE, of: RUST, by: None, bound: Bound::Most(0.1) },
];

/// Lists the targets for which there are numbers, one on each line.
pub(super) fn list(report: &Report) -> String {
    let mut out = String::new();
    for target in TARGETS {
        let Some(value) = target.value(report) else { continue };
        if out.is_empty() {
            out.push_str("\nTargets:\n");
        }
        let what = match target.by {
            Some(by) => format!("{} of {} / {by}", target.metric, target.of),
            None => format!("{} of {}", target.metric, target.of),
        };
        let unit = if target.by.is_some() { "x" } else { "%" };
        let (wanted, met) = target.bound.judge(value);
        let verdict = if met { "met" } else { "MISSED" };
        let row = target.row;
        let _ = writeln!(out, "- {row}, {what}: {value:.2} {unit}, {wanted} {unit}: {verdict}");
    }
    out
}

impl Target {
    fn value(&self, report: &Report) -> Option<f64> {
        let of = report.median(self.row, self.of, self.metric)?;
        match self.by {
            Some(by) => Some(of / report.median(self.row, by, self.metric)?),
            None => Some(of),
        }
    }
}

impl Bound {
    fn judge(self, value: f64) -> (String, bool) {
        match self {
            Self::Least(bound) => (format!("at least {bound}"), value >= bound),
            Self::Most(bound) => (format!("at most {bound}"), value <= bound),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        report::{Outcome, Row},
        sample::{Sample, Unit},
    };

    fn report(rust: f64, go: f64) -> Report {
        let outcome = |micros| {
            let mut sample = Sample::default();
            sample.add(CPU_PER_MESSAGE, Unit::Micros, micros);
            vec![Outcome::Done(sample)]
        };
        let row = Row { name: "consume", title: "", outcomes: vec![outcome(rust), outcome(go)] };
        Report {
            subject: "client",
            columns: vec![RUST.to_owned(), GO.to_owned()],
            reference: Some(1),
            rows: vec![row],
            rounds: 1,
            seconds: 1.0,
        }
    }

    #[test]
    fn a_target_is_judged_by_the_medians() {
        let met = "- consume, CPU/msg of go-nsq / rust: 6.00 x, at least 5 x: met\n";
        let missed = "- consume, CPU/msg of go-nsq / rust: 4.00 x, at least 5 x: MISSED\n";
        assert_eq!(list(&report(0.5, 3.0)), format!("\nTargets:\n{met}"));
        assert_eq!(list(&report(0.5, 2.0)), format!("\nTargets:\n{missed}"));
    }

    #[test]
    fn without_numbers_there_is_no_verdict() {
        let mut report = report(1.0, 1.0);
        report.columns[1] = "other".to_owned();
        assert_eq!(list(&report), "");
    }
}
