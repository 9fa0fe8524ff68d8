//! The table: one line for each neighbour and server.

use std::fmt::Write as _;

use crate::{
    hostile::{
        metrics::{self, Latency},
        neighbour::Neighbour,
    },
    report::{self, Report},
    sample::Unit,
};

/// The highest ratio of 99th percentiles of the pair at which it is well served.
const RATIO_MAX: f64 = 3.0;

/// Renders the table, with what each neighbour sent below it.
pub(super) fn table(report: &Report, neighbours: &[&Neighbour], notes: &[String]) -> String {
    let mut lines = vec![heading()];
    let (mut above, mut failed) = (0, 0);
    for neighbour in neighbours {
        for server in &report.columns {
            let line = Line { report, row: neighbour.name, server };
            above +=
                usize::from(line.is_above(&metrics::PUBLISH) || line.is_above(&metrics::DELIVER));
            failed += usize::from(line.median(metrics::SENT).is_none());
            lines.push(line.cells());
        }
    }
    let mut out = report::render(&lines);
    out.push('\n');
    for neighbour in neighbours {
        let _ = writeln!(out, "- {}: {}", neighbour.name, neighbour.title);
    }
    out.extend(notes.iter().map(String::as_str));
    out.push_str(&report.notes().concat());
    let _ = writeln!(
        out,
        "\nQuiet -> beside the neighbour; median of {} round(s), {:.0} s in all. Latencies count from \
         when a message or newcomer was due.\nThe ratio is that of the 99th percentiles; ! is above \
         {RATIO_MAX}, in {above} of {} lines; {failed} failed.",
        report.rounds,
        report.seconds,
        lines.len() - 1
    );
    out
}

fn heading() -> Vec<String> {
    let mut heading = vec!["neighbour".to_owned(), "server".to_owned()];
    for kind in [&metrics::PUBLISH, &metrics::DELIVER] {
        heading.extend([
            format!("{} p50", kind.title),
            format!("{} p99", kind.title),
            "ratio".into(),
        ]);
    }
    heading.push(format!("{} p99", metrics::NEWCOMER.title));
    let rest = [metrics::REFUSED_NEWCOMERS, metrics::CPU[1], metrics::LOAD_CPU, metrics::MEMORY];
    heading.extend(rest.map(str::to_owned));
    heading.extend(
        [metrics::WRITTEN, metrics::LOG, metrics::SENT, metrics::REFUSED].map(str::to_owned),
    );
    heading
}

/// One neighbour of one server.
struct Line<'a> {
    report: &'a Report,
    row: &'a str,
    server: &'a str,
}

impl Line<'_> {
    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.row.to_owned(), self.server.to_owned()];
        for kind in [&metrics::PUBLISH, &metrics::DELIVER] {
            cells.push(self.change([kind.quiet.p50, kind.during.p50], Unit::Micros));
            cells.push(self.change([kind.quiet.p99, kind.during.p99], Unit::Micros));
            let mark = if self.is_above(kind) { " !" } else { "" };
            cells.push(format!("{}{mark}", self.value(kind.ratio, Unit::Times)));
        }
        let newcomer = &metrics::NEWCOMER;
        cells.push(self.change([newcomer.quiet.p99, newcomer.during.p99], Unit::Micros));
        cells.push(self.value(metrics::REFUSED_NEWCOMERS, Unit::Count));
        cells.push(self.change(metrics::CPU, Unit::Percent));
        cells.push(self.value(metrics::LOAD_CPU, Unit::Percent));
        cells.push(self.value(metrics::MEMORY, Unit::Bytes));
        cells.push(self.value(metrics::WRITTEN, Unit::Bytes));
        cells.push(self.value(metrics::LOG, Unit::Bytes));
        cells.push(self.value(metrics::SENT, Unit::Count));
        cells.push(self.value(metrics::REFUSED, Unit::Count));
        cells
    }

    fn median(&self, metric: &str) -> Option<f64> {
        self.report.median(self.row, self.server, metric)
    }

    fn is_above(&self, kind: &Latency) -> bool {
        self.median(kind.ratio).is_some_and(|ratio| ratio > RATIO_MAX)
    }

    fn value(&self, metric: &str, unit: Unit) -> String {
        let value = self.median(metric);
        value.map_or_else(|| "failed".to_owned(), |value| report::show(value, unit))
    }

    fn change(&self, metrics: [&str; 2], unit: Unit) -> String {
        metrics.map(|metric| self.value(metric, unit)).join(" -> ")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        hostile::neighbours,
        report::{Outcome, Row},
        sample::Sample,
    };

    #[test]
    fn a_line_shows_both_times_and_marks_a_ratio_above_three() {
        let of = |micros| vec![Duration::from_micros(micros); 10];
        let mut sample = Sample::default();
        metrics::PUBLISH.add(&mut sample, of(100), of(301));
        metrics::DELIVER.add(&mut sample, of(100), of(300));
        let neighbour = neighbours::ALL[0];
        let outcomes =
            vec![vec![Outcome::Done(sample)], vec![Outcome::Failed("it stopped".to_owned())]];
        let report = Report {
            subject: "server",
            columns: vec!["nsqd".to_owned(), "go".to_owned()],
            reference: None,
            rows: vec![Row { name: neighbour.name, title: neighbour.title, outcomes }],
            rounds: 1,
            seconds: 1.0,
        };
        let table = table(&report, &[neighbour], &[]);
        let cells = |line: usize| {
            let line = table.lines().nth(line).unwrap();
            line.split('|').map(str::trim).collect::<Vec<_>>()
        };
        assert_eq!(cells(2)[3..6], ["100 µs -> 301 µs", "100 µs -> 301 µs", "3.01 x !"]);
        assert_eq!(cells(2)[8], "3.00 x");
        assert_eq!(cells(3)[8], "failed");
        assert!(
            table.contains("in 1 of 2 lines; ") && table.contains("failed: it stopped"),
            "{table}"
        );
    }
}
