//! The command line of `nsq-bench hostile`.

use std::path::PathBuf;

use crate::{
    failure::Failure,
    hostile::{neighbour::Neighbour, neighbours},
    server::Spec,
    servers::Servers,
    words::{Words, usage},
    workload::Scale,
};

/// The time that a neighbour goes on in a smoke test.
const QUICK_MS: usize = 200;

/// The options of a comparison of servers beside hostile neighbours.
#[derive(Debug)]
pub(crate) struct Options {
    /// The servers.
    pub(crate) servers: Vec<Spec>,
    /// The neighbours, one for each row.
    pub(crate) neighbours: Vec<&'static Neighbour>,
    /// The time that each neighbour goes on, in milliseconds, which are also the messages of that time.
    pub(crate) during: usize,
    /// The amount of what is prepared.
    pub(crate) scale: Scale,
    /// The number of rounds.
    pub(crate) rounds: usize,
    /// The file for all numbers.
    pub(crate) json: Option<PathBuf>,
    /// The time limit of one run.
    pub(crate) limit_seconds: u64,
    /// The parent of the data directories.
    pub(crate) scratch: PathBuf,
}

/// Parses the arguments after `hostile`.
///
/// # Errors
/// Returns [`Failure::Usage`] with the offending argument.
pub(crate) fn parse(mut words: Words<'_>) -> Result<Options, Failure> {
    let mut servers = Servers::default();
    let mut neighbours: Vec<_> = neighbours::ALL.to_vec();
    let (mut seconds, mut quick, mut rounds, mut json, mut limit_seconds) =
        (6, false, 1, None, 120);
    let mut scratch = std::env::temp_dir();
    while let Some(flag) = words.flag() {
        if servers.take(flag, &mut words)? {
            continue;
        }
        match flag {
            "--only" => {
                neighbours =
                    words.value(flag)?.split(',').map(neighbour).collect::<Result<_, _>>()?;
            }
            "--seconds" => seconds = words.number::<usize>(flag)?.max(1),
            "--rounds" => rounds = words.number::<usize>(flag)?.max(1),
            "--quick" => quick = true,
            "--json" => json = Some(PathBuf::from(words.value(flag)?)),
            "--limit" => limit_seconds = words.number(flag)?,
            "--scratch" => scratch = PathBuf::from(words.value(flag)?),
            other => return Err(usage(format!("unknown argument {other}"))),
        }
    }
    let (servers, _) = servers.finish(None)?;
    let (during, scale) =
        if quick { (QUICK_MS, Scale::Quick) } else { (1000 * seconds, Scale::Full) };
    Ok(Options { servers, neighbours, during, scale, rounds, json, limit_seconds, scratch })
}

fn neighbour(name: &str) -> Result<&'static Neighbour, Failure> {
    neighbours::ALL.iter().copied().find(|neighbour| neighbour.name == name).ok_or_else(|| {
        let names: Vec<_> = neighbours::ALL.iter().map(|neighbour| neighbour.name).collect();
        usage(format!("no neighbour {name}; there are {}", names.join(", ")))
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
    fn only_the_neighbours_asked_for_go_on_for_as_long_as_asked() {
        let options = parse_line("--nsqd /bin/sh --only stats,idle --seconds 2").unwrap();
        let names: Vec<_> = options.neighbours.iter().map(|neighbour| neighbour.name).collect();
        assert_eq!((names, options.during, options.rounds), (vec!["stats", "idle"], 2000, 1));
    }

    #[test]
    fn a_neighbour_or_flag_that_does_not_exist_is_refused() {
        for (line, reason) in [
            ("", "there is no server to run: give --nsqd or --other"),
            ("--nsqd /bin/sh --all", "unknown argument --all"),
        ] {
            assert_eq!(parse_line(line).unwrap_err().to_string(), reason);
        }
        let reason = parse_line("--nsqd /bin/sh --only storm").unwrap_err().to_string();
        assert!(reason.starts_with("no neighbour storm; there are none, idle, "), "{reason}");
    }
}
