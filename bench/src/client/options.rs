//! The command line of `nsq-bench client`.

use std::path::PathBuf;

use crate::{
    client::rows::{self, ClientRow},
    failure::Failure,
    server::Spec,
    words::{Words, usage},
};

/// The options of a comparison of clients.
#[derive(Debug)]
pub(crate) struct Options {
    /// The server for all clients.
    pub(crate) nsqd: Spec,
    /// go-nsq takes part.
    pub(crate) go: bool,
    /// The rows.
    pub(crate) rows: Vec<&'static ClientRow>,
    /// The number of rounds.
    pub(crate) rounds: usize,
    /// Run everything at a small size.
    pub(crate) quick: bool,
    /// Print details.
    pub(crate) all: bool,
    /// The file for all numbers.
    pub(crate) json: Option<PathBuf>,
    /// The time limit of one run.
    pub(crate) limit_seconds: u64,
    /// The parent of the data directories.
    pub(crate) scratch: PathBuf,
}

/// Parses the arguments after `client`.
///
/// # Errors
/// Returns [`Failure::Usage`] with the offending argument.
pub(crate) fn parse(mut words: Words<'_>) -> Result<Options, Failure> {
    let (mut nsqd, mut rounds, mut json) = (None, None, None);
    let (mut go, mut quick, mut all, mut limit_seconds) = (true, false, false, 120);
    let mut scratch = std::env::temp_dir();
    let mut rows: Vec<_> = rows::ALL.iter().collect();
    while let Some(flag) = words.flag() {
        match flag {
            "--nsqd" => nsqd = Some(Spec::nsqd("nsqd", words.value(flag)?)?),
            "--no-go" => go = false,
            "--only" => {
                rows = words.value(flag)?.split(',').map(row).collect::<Result<_, _>>()?;
            }
            "--rounds" => rounds = Some(words.number(flag)?),
            "--quick" => quick = true,
            "--all" => all = true,
            "--json" => json = Some(PathBuf::from(words.value(flag)?)),
            "--limit" => limit_seconds = words.number(flag)?,
            "--scratch" => scratch = PathBuf::from(words.value(flag)?),
            other => return Err(usage(format!("unknown argument {other}"))),
        }
    }
    let nsqd = nsqd.ok_or_else(|| usage("client needs --nsqd PATH"))?;
    let rounds = rounds.unwrap_or(if quick { 1 } else { 3 }).max(1);
    Ok(Options { nsqd, go, rows, rounds, quick, all, json, limit_seconds, scratch })
}

fn row(name: &str) -> Result<&'static ClientRow, Failure> {
    rows::ALL.iter().find(|row| row.name == name).ok_or_else(|| {
        let names: Vec<_> = rows::ALL.iter().map(|row| row.name).collect();
        usage(format!("no row {name}; there are {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Options, Failure> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        parse(Words::new(&words))
    }

    #[test]
    fn only_the_rows_asked_for_are_run() {
        let options = parse_line("--nsqd /bin/sh --only idle,publish --quick --no-go").unwrap();
        let names: Vec<_> = options.rows.iter().map(|row| row.name).collect();
        assert_eq!((names, options.rounds, options.go), (vec!["idle", "publish"], 1, false));
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_the_reason() {
        let rows = "consume, consume8, publish, publish200, idle, idle_few";
        for (line, reason) in [
            ("", "client needs --nsqd PATH".to_owned()),
            ("--only pub", format!("no row pub; there are {rows}")),
            ("--other a=b", "unknown argument --other".to_owned()),
        ] {
            assert_eq!(parse_line(line).unwrap_err().to_string(), reason);
        }
    }
}
