//! The table made of the samples of all rounds.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::sample::{Metric, Sample, Unit, median};

/// The outcome of one run.
pub(crate) enum Outcome {
    /// Numbers.
    Done(Sample),
    /// The reason why there are no numbers.
    Failed(String),
}

/// All runs of one workload: for each column, for each round.
pub(crate) struct Row {
    /// Its name for `--only`.
    pub(crate) name: &'static str,
    /// A description of the work.
    pub(crate) title: &'static str,
    /// The outcomes; empty for a column that cannot take part.
    pub(crate) outcomes: Vec<Vec<Outcome>>,
}

/// Everything that was measured.
pub(crate) struct Report {
    /// The subject of the comparison and of CPU times: `server` or `client`.
    pub(crate) subject: &'static str,
    /// The names of the columns.
    pub(crate) columns: Vec<String>,
    /// The column that ratios refer to.
    pub(crate) reference: Option<usize>,
    /// The workloads.
    pub(crate) rows: Vec<Row>,
    /// The number of rounds.
    pub(crate) rounds: usize,
    /// The total time in seconds.
    pub(crate) seconds: f64,
}

/// One number over the rounds.
#[derive(Clone, Copy, Debug)]
struct Cell {
    median: f64,
    min: f64,
    max: f64,
}

impl Row {
    /// Creates a row without runs.
    pub(crate) fn new(name: &'static str, title: &'static str, columns: usize) -> Self {
        Self { name, title, outcomes: (0..columns).map(|_| Vec::new()).collect() }
    }

    /// The metrics that at least one column has, in order.
    fn metrics(&self) -> Vec<&Metric> {
        let mut metrics: Vec<&Metric> = Vec::new();
        for metric in self.samples().flat_map(|sample| &sample.metrics) {
            if !metrics.iter().any(|known| known.name == metric.name) {
                metrics.push(metric);
            }
        }
        metrics
    }

    fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.outcomes.iter().flatten().filter_map(|outcome| match outcome {
            Outcome::Done(sample) => Some(sample),
            Outcome::Failed(_) => None,
        })
    }

    fn values(&self, column: usize, name: &str) -> Vec<f64> {
        self.outcomes[column]
            .iter()
            .filter_map(|outcome| match outcome {
                Outcome::Done(sample) => Some(&sample.metrics),
                Outcome::Failed(_) => None,
            })
            .flatten()
            .filter(|metric| metric.name == name)
            .map(|metric| metric.value)
            .collect()
    }

    fn cell(&self, column: usize, name: &str) -> Option<Cell> {
        let mut values = self.values(column, name);
        values.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        Some(Cell { median: median(&values), min, max })
    }

    fn has_failed(&self, column: usize) -> bool {
        self.outcomes[column].iter().any(|outcome| matches!(outcome, Outcome::Failed(_)))
    }
}

impl Report {
    /// Returns whether any run failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.rows.iter().any(|row| (0..self.columns.len()).any(|column| row.has_failed(column)))
    }

    /// Returns the median of a metric, if it was measured.
    pub(crate) fn median(&self, row: &str, column: &str, metric: &str) -> Option<f64> {
        let row = self.rows.iter().find(|known| known.name == row)?;
        let column = self.columns.iter().position(|known| known == column)?;
        row.cell(column, metric).map(|cell| cell.median)
    }

    /// Renders the table in Markdown, with aligned columns and notes below.
    pub(crate) fn table(&self, all: bool) -> String {
        let mut lines = vec![self.heading()];
        for row in &self.rows {
            let mut title = row.title;
            let metrics = row.metrics();
            for metric in metrics.iter().filter(|metric| all || metric.main) {
                lines.push(self.line(row, title, metric));
                title = "";
            }
            if metrics.is_empty() {
                let mut line = vec![title.to_owned(), String::new()];
                line.extend((0..self.columns.len()).map(|column| Self::nothing(row, column)));
                lines.push(line);
            }
        }
        let mut out = render(&lines);
        let notes = self.notes();
        if !notes.is_empty() {
            let _ = write!(out, "\n{}", notes.concat());
        }
        let _ = writeln!(
            out,
            "\nMedian (least..most) of {} rounds, {:.0} s in all. CPU is the {}'s, user and \
             kernel.\nA ratio above 1 is more: good for rates, bad for all else.",
            self.rounds, self.seconds, self.subject
        );
        out
    }

    fn heading(&self) -> Vec<String> {
        let mut heading = vec!["work".to_owned(), "measured".to_owned()];
        heading.extend(self.columns.iter().cloned());
        for (column, name) in self.columns.iter().enumerate() {
            if let Some(reference) = self.reference.filter(|reference| *reference != column) {
                heading.push(format!("{name} / {}", self.columns[reference]));
            }
        }
        heading
    }

    fn line(&self, row: &Row, title: &str, metric: &Metric) -> Vec<String> {
        let cells: Vec<_> =
            (0..self.columns.len()).map(|column| row.cell(column, metric.name)).collect();
        let mut line = vec![title.to_owned(), metric.name.to_owned()];
        for (column, cell) in cells.iter().enumerate() {
            line.push(
                cell.map_or_else(
                    || Self::nothing(row, column),
                    |cell| show_cell(cell, metric.unit),
                ),
            );
        }
        for (column, cell) in cells.iter().enumerate() {
            if let Some(reference) = self.reference.filter(|reference| *reference != column) {
                let ratio = cell.zip(cells[reference]).map(|(a, b)| a.median / b.median);
                line.push(ratio.map_or_else(|| "-".to_owned(), show_ratio));
            }
        }
        line
    }

    fn nothing(row: &Row, column: usize) -> String {
        (if row.has_failed(column) { "failed" } else { "-" }).to_owned()
    }

    /// Returns the notes below the table: failures and duplicates.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for row in &self.rows {
            for (column, outcomes) in self.columns.iter().zip(&row.outcomes) {
                for (round, outcome) in outcomes.iter().enumerate() {
                    let note = match outcome {
                        Outcome::Done(sample) if sample.duplicates > 0 => {
                            format!("{} messages came more than once", sample.duplicates)
                        }
                        Outcome::Done(_) => continue,
                        Outcome::Failed(reason) => format!("failed: {reason}"),
                    };
                    let round = round + 1;
                    let name = row.name;
                    notes.push(format!("- {name} on {column}, round {round}: {note}\n"));
                }
            }
        }
        notes
    }

    /// Returns a JSON document with every number of every round.
    pub(crate) fn json(&self) -> Value {
        let results: Vec<Value> = self
            .rows
            .iter()
            .flat_map(|row| {
                self.columns.iter().enumerate().map(move |(column, name)| {
                    json!({
                        "workload": row.name,
                        (self.subject): name,
                        "metrics": Self::json_metrics(row, column),
                        "duplicates": json_outcomes(&row.outcomes[column], |outcome| match outcome {
                            Outcome::Done(sample) => Some(json!(sample.duplicates)),
                            Outcome::Failed(_) => None,
                        }),
                        "failures": json_outcomes(&row.outcomes[column], |outcome| match outcome {
                            Outcome::Failed(reason) => Some(json!(reason)),
                            Outcome::Done(_) => None,
                        }),
                    })
                })
            })
            .collect();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        json!({
            "cores": cores,
            "rounds": self.rounds,
            "seconds": self.seconds,
            "reference": self.reference.map(|column| &self.columns[column]),
            "results": results,
        })
    }

    fn json_metrics(row: &Row, column: usize) -> Vec<Value> {
        row.metrics()
            .iter()
            .filter_map(|metric| {
                let cell = row.cell(column, metric.name)?;
                Some(json!({
                    "name": metric.name,
                    "unit": unit_name(metric.unit),
                    "median": cell.median,
                    "min": cell.min,
                    "max": cell.max,
                    "rounds": row.values(column, metric.name),
                }))
            })
            .collect()
    }
}

fn json_outcomes(outcomes: &[Outcome], pick: impl Fn(&Outcome) -> Option<Value>) -> Vec<Value> {
    outcomes.iter().filter_map(pick).collect()
}

/// Lists the numbers of one run, one on each line.
pub(crate) fn list(sample: &Sample) -> String {
    let mut out = String::new();
    for metric in &sample.metrics {
        let _ = writeln!(out, "{:28} {}", metric.name, show(metric.value, metric.unit));
    }
    if sample.duplicates > 0 {
        let _ = writeln!(out, "{:28} {}", "came more than once", sample.duplicates);
    }
    out
}

fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::PerSecond => "1/s",
        Unit::Micros => "us",
        Unit::Seconds => "s",
        Unit::Bytes => "B",
        Unit::Percent => "%",
        Unit::Times => "x",
        Unit::Count => "",
    }
}

/// Returns the factor and name of the unit in which a number is shown.
fn scale(value: f64, unit: Unit) -> (f64, &'static str) {
    match unit {
        Unit::PerSecond if value >= 1e6 => (1e6, " M/s"),
        Unit::PerSecond if value >= 1e3 => (1e3, " k/s"),
        Unit::PerSecond => (1.0, " /s"),
        Unit::Micros if value >= 1e3 => (1e3, " ms"),
        Unit::Micros => (1.0, " µs"),
        Unit::Seconds => (1.0, " s"),
        Unit::Bytes => (1e6, " MB"),
        Unit::Percent => (1.0, " %"),
        Unit::Times => (1.0, " x"),
        Unit::Count => (1.0, ""),
    }
}

/// Formats a number with its unit.
pub(crate) fn show(value: f64, unit: Unit) -> String {
    show_cell(Cell { median: value, min: value, max: value }, unit)
}

fn show_cell(cell: Cell, unit: Unit) -> String {
    let (one, name) = scale(cell.median, unit);
    let [median, min, max] = [cell.median, cell.min, cell.max].map(|value| digits(value / one));
    if min == max { format!("{median}{name}") } else { format!("{median}{name} ({min}..{max})") }
}

fn show_ratio(ratio: f64) -> String {
    if ratio.is_finite() { format!("{} x", digits(ratio)) } else { "-".to_owned() }
}

/// Formats a number with three significant digits, or all digits before the point.
fn digits(value: f64) -> String {
    let places = match value.abs() {
        big if big >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        small if small >= 1.0 || small == 0.0 => 2,
        _ => 3,
    };
    format!("{value:.places$}")
}

/// Renders lines of cells as a Markdown table; the first is the heading.
pub(crate) fn render(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let cell = |line: &[String], column: usize| line.get(column).cloned().unwrap_or_default();
    let widths: Vec<usize> = (0..columns)
        .map(|column| lines.iter().map(|line| cell(line, column).chars().count()).max())
        .map(|width| width.unwrap_or(0).max(3))
        .collect();
    let mut out = String::new();
    for (index, line) in lines.iter().enumerate() {
        for (column, width) in widths.iter().enumerate() {
            let _ = write!(out, "| {:width$} ", cell(line, column));
        }
        out.push_str("|\n");
        if index == 0 {
            for width in &widths {
                let _ = write!(out, "|{}", "-".repeat(width + 2));
            }
            out.push_str("|\n");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(rate: f64) -> Outcome {
        let mut sample = Sample::default();
        sample.add("rate", Unit::PerSecond, rate);
        sample.add_detail("on disk", Unit::Bytes, 5e6);
        Outcome::Done(sample)
    }

    fn report(outcomes: Vec<Vec<Outcome>>) -> Report {
        let names = ["nsqd", "go", "null"].map(str::to_owned).to_vec();
        Report {
            subject: "server",
            columns: names,
            reference: Some(1),
            rows: vec![Row { name: "pub1", title: "PUB one at a time", outcomes }],
            rounds: 3,
            seconds: 1.0,
        }
    }

    #[test]
    fn a_cell_shows_median_and_spread_and_the_ratio_to_the_reference() {
        let ours = vec![done(3e6), done(2e6), done(9e6)];
        let report = report(vec![ours, vec![done(1.5e6)], vec![]]);
        let table = report.table(false);
        let line = table.lines().nth(2).unwrap();
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        assert_eq!(cells[2..8], ["rate", "3.00 M/s (2.00..9.00)", "1.50 M/s", "-", "2.00 x", "-"]);
        assert!(!report.has_failed());
        assert!(!table.contains("on disk") && report.table(true).contains("on disk"));
    }

    #[test]
    fn a_failed_run_is_named_with_its_reason_and_spoils_no_other() {
        let failed = || Outcome::Failed("not complete".into());
        let report = report(vec![vec![failed()], vec![done(1e3), failed()], vec![]]);
        assert!(report.has_failed());
        let table = report.table(false);
        assert!(table.contains("| failed |"), "{table}");
        assert!(table.contains("1.00 k/s"));
        assert!(table.contains("- pub1 on go, round 2: failed: not complete"));
    }

    #[test]
    fn numbers_have_three_digits_that_count() {
        for (value, text) in [(1234.5, "1234"), (12.34, "12.3"), (1.234, "1.23"), (0.0361, "0.036")]
        {
            assert_eq!(digits(value), text);
        }
    }
}
