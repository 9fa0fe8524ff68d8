//! The rounds of a comparison: every row in every column, the columns in turns.

use crate::{
    clock::now,
    failure::Failure,
    output::progress,
    report::{Outcome, Row},
    sample::Sample,
};

/// The result of one run: numbers, or the reason why there are none.
pub(crate) type RunResult = Result<Sample, String>;

/// Performs `run` with the indices of every row and column, `rounds` times, and reports progress. It returns
/// `None` for a column that does not take part in that row.
///
/// # Errors
/// Returns the system's error.
pub(crate) fn take_turns(
    rounds: usize,
    mut rows: Vec<Row>,
    columns: &[String],
    mut run: impl FnMut(usize, usize) -> Option<RunResult>,
) -> Result<Vec<Row>, Failure> {
    for round in 0..rounds {
        for (index, row) in rows.iter_mut().enumerate() {
            // Each round begins with another column, so that none benefits from its position.
            for turn in 0..columns.len() {
                let column = (round + turn) % columns.len();
                let started = now();
                let Some(result) = run(index, column) else { continue };
                let seconds = (now() - started).as_secs_f64();
                let (outcome, word) = match result {
                    Ok(sample) => (Outcome::Done(sample), "done"),
                    Err(reason) => (Outcome::Failed(reason), "FAILED"),
                };
                row.outcomes[column].push(outcome);
                let (round, name, column) = (round + 1, row.name, &columns[column]);
                progress(&format!(
                    "round {round}/{rounds} {name:17} {column:14} {word} after {seconds:.1} s\n"
                ))?;
            }
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_begins_with_another_column() {
        let columns = ["a", "b"].map(str::to_owned);
        let mut order = Vec::new();
        let rows = vec![Row::new("row", "a row", 2)];
        let rows = take_turns(2, rows, &columns, |_, column| {
            order.push(column);
            (column == 0).then(|| Ok(Sample::default()))
        });
        assert_eq!(order, [0, 1, 1, 0]);
        let outcomes = &rows.unwrap()[0].outcomes;
        assert_eq!((outcomes[0].len(), outcomes[1].len()), (2, 0));
    }
}
