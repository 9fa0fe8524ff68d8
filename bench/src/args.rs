//! The command line.

use std::path::PathBuf;

use nix::unistd::Pid;

use crate::{
    client,
    compare::Compare,
    failure::Failure,
    hostile,
    layer::{Identity, Layer},
    leash::LEASH,
    load::Load,
    null,
    server::Spec,
    servers::Servers,
    words::{Words, usage},
    workload::{Scale, Workload},
    workloads,
};

/// The output of `--help` before the list of workloads.
pub(crate) const HELP: &str = "\
nsq-bench compares nsqd binaries side by side.

nsq-bench [--nsqd PATH] [--other NAME=PATH]... [options]
    --nsqd PATH         the nsqd of this project; its column is called nsqd
    --other NAME=PATH   any other nsqd; the first one is what ratios refer to
    --args NAME=FLAGS   more flags for the server in column NAME, separated by spaces
    --no-null           leave out the null server
    --only A,B          only these workloads
    --rounds N          rounds, interleaved between the servers (3)
    --quick             everything small and one round: a smoke test
    --soak              one round, with gigabytes through the rows that look for leaks
    --all               also print disk usage and the CPU of the load itself for every row
    --json FILE         write every number of every round to FILE
    --limit SECONDS     time limit of a run, after which it has failed (120; soak: 3600)
    --scratch DIR       where data directories are created (the system's temporary directory)

nsq-bench load WORKLOAD --address HOST:PORT [options]
    runs one workload against a running server, for profiling
    --http HOST:PORT    its HTTP API, to check depths
    --pid PID           its process, to measure CPU and memory
    --data DIR          its data directory, to measure bytes on disk
    --size N            messages, topics or connections; the workload's own number by default
    --limit SECONDS     time limit of the run (120)

nsq-bench client --nsqd PATH [options]
    compares the client library of this project with go-nsq and with the load generator itself
    --nsqd PATH         the nsqd for all clients, a fresh process for each run
    --no-go             leave out go-nsq, which needs Go to be built
    --only A,B          only these rows
    --rounds, --quick, --all, --json, --limit, --scratch as above

nsq-bench hostile [--nsqd PATH] [--other NAME=PATH]... [options]
    measures an honest publisher and consumer alone, then beside each hostile neighbour
    --only A,B          only these neighbours
    --seconds N         how long each neighbour goes on (6)
    --rounds N          rounds, interleaved between the servers (1)
    --args, --quick, --json, --limit, --scratch as above

nsq-bench null --address HOST:PORT
    runs the null server by itself
    --layer NAME        plain, tls or snappy (plain)
    --cert, --key FILE  its certificate and key, for tls

Workloads:
";

/// The default time limit of a run.
const LIMIT_SECONDS: u64 = 120;
/// The same for a soak.
const SOAK_LIMIT_SECONDS: u64 = 3600;

/// The action that the command line asks for.
#[derive(Debug)]
pub(crate) enum Action {
    /// Compare servers.
    Compare(Compare),
    /// Load a running server.
    Load(Load),
    /// Compare clients.
    Client(client::options::Options),
    /// Measure servers beside hostile neighbours.
    Hostile(hostile::options::Options),
    /// Act as the raw client.
    Raw(Vec<String>),
    /// Act as the null server.
    Null(null::Options),
    /// Become a program that dies with the bench.
    Leash(Vec<String>),
    /// Print the usage.
    Help,
}

/// Parses the arguments after the program's name.
///
/// # Errors
/// Returns [`Failure::Usage`] with the offending argument.
pub(crate) fn parse(args: Vec<String>) -> Result<Action, Failure> {
    if args.iter().take_while(|arg| *arg != LEASH).any(|arg| arg == "--help" || arg == "-h") {
        return Ok(Action::Help);
    }
    match args.first().map(String::as_str) {
        Some(LEASH) => Ok(Action::Leash(args[1..].to_vec())),
        Some("null") => parse_null(Words::new(&args[1..])),
        Some(client::raw::RAW) => Ok(Action::Raw(args[1..].to_vec())),
        Some("client") => client::options::parse(Words::new(&args[1..])).map(Action::Client),
        Some("hostile") => hostile::options::parse(Words::new(&args[1..])).map(Action::Hostile),
        Some("load") => parse_load(Words::new(&args[1..])).map(Action::Load),
        _ => parse_compare(Words::new(&args)).map(Action::Compare),
    }
}

fn parse_null(mut words: Words<'_>) -> Result<Action, Failure> {
    let (mut address, mut layer, mut cert, mut key) = (None, Layer::Plain, None, None);
    while let Some(flag) = words.flag() {
        match flag {
            "--address" => address = Some(words.address(flag)?),
            "--layer" => {
                let name = words.value(flag)?;
                let unknown = || usage(format!("no layer {name}; there are plain, tls, snappy"));
                layer = Layer::named(name).ok_or_else(unknown)?;
            }
            "--cert" => cert = Some(PathBuf::from(words.value(flag)?)),
            "--key" => key = Some(PathBuf::from(words.value(flag)?)),
            other => return Err(usage(format!("unknown argument {other}"))),
        }
    }
    let address = address.ok_or_else(|| usage("null needs --address HOST:PORT"))?;
    let identity = cert.zip(key).map(|(cert, key)| Identity { cert, key });
    Ok(Action::Null(null::Options { address, layer, identity }))
}

fn parse_load(mut words: Words<'_>) -> Result<Load, Failure> {
    let name = words.flag().ok_or_else(|| usage("load needs the name of a workload"))?;
    let workload = workload(name)?;
    let (mut address, mut http, mut pid, mut data) = (None, None, None, None);
    let (mut size, mut limit_seconds) = (workload.size, LIMIT_SECONDS);
    while let Some(flag) = words.flag() {
        match flag {
            "--address" => address = Some(words.address(flag)?),
            "--http" => http = Some(words.address(flag)?),
            "--pid" => pid = Some(Pid::from_raw(words.number(flag)?)),
            "--data" => data = Some(PathBuf::from(words.value(flag)?)),
            "--size" => size = words.number(flag)?,
            "--limit" => limit_seconds = words.number(flag)?,
            other => return Err(usage(format!("unknown argument {other}"))),
        }
    }
    let address = address.ok_or_else(|| usage("load needs --address HOST:PORT"))?;
    Ok(Load { workload, address, http, pid, data, size: size.max(1), limit_seconds })
}

fn parse_compare(mut words: Words<'_>) -> Result<Compare, Failure> {
    let mut compare = Compare {
        servers: Vec::new(),
        reference: None,
        workloads: workloads::ALL.iter().collect(),
        rounds: 3,
        scale: Scale::Full,
        all: false,
        json: None,
        limit_seconds: LIMIT_SECONDS,
        scratch: std::env::temp_dir(),
    };
    let mut servers = Servers::default();
    let mut null = true;
    let (mut rounds, mut limit_seconds) = (None, None);
    while let Some(flag) = words.flag() {
        if servers.take(flag, &mut words)? {
            continue;
        }
        match flag {
            "--no-null" => null = false,
            "--only" => {
                let names = words.value(flag)?.split(',');
                compare.workloads = names.map(workload).collect::<Result<_, _>>()?;
            }
            "--rounds" => rounds = Some(words.number(flag)?),
            "--quick" => compare.scale = Scale::Quick,
            "--soak" => compare.scale = Scale::Soak,
            "--all" => compare.all = true,
            "--json" => compare.json = Some(PathBuf::from(words.value(flag)?)),
            "--limit" => limit_seconds = Some(words.number(flag)?),
            "--scratch" => compare.scratch = PathBuf::from(words.value(flag)?),
            other => return Err(usage(format!("unknown argument {other}"))),
        }
    }
    let (rounds_default, limit_default) = match compare.scale {
        Scale::Quick => (1, LIMIT_SECONDS),
        Scale::Full => (3, LIMIT_SECONDS),
        Scale::Soak => (1, SOAK_LIMIT_SECONDS),
    };
    compare.rounds = rounds.unwrap_or(rounds_default).max(1);
    compare.limit_seconds = limit_seconds.unwrap_or(limit_default);
    let null = if null { Some(Spec::null()?) } else { None };
    (compare.servers, compare.reference) = servers.finish(null)?;
    Ok(compare)
}

fn workload(name: &str) -> Result<&'static Workload, Failure> {
    workloads::find(name).ok_or_else(|| {
        let names: Vec<_> = workloads::ALL.iter().map(|workload| workload.name).collect();
        usage(format!("no workload {name}; there are {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Action, Failure> {
        parse(line.split(' ').map(str::to_owned).collect())
    }

    fn compare(line: &str) -> Compare {
        match parse_line(line).unwrap() {
            Action::Compare(compare) => compare,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ratios_refer_to_the_first_other_and_the_null_server_is_last() {
        let compare = compare("--other a=/bin/sh --nsqd /bin/sh --other b=/bin/sh --args b=-x");
        let names: Vec<_> = compare.servers.iter().map(|server| server.name.as_str()).collect();
        assert_eq!(names, ["nsqd", "a", "b", "null"]);
        assert_eq!(compare.reference, Some(1));
        assert_eq!(compare.servers[2].args, ["-x"]);
        assert_eq!(compare.rounds, 3);
    }

    #[test]
    fn a_quick_run_has_one_round_unless_told_otherwise() {
        assert_eq!(compare("--quick").rounds, 1);
        assert_eq!(compare("--rounds 2 --quick").rounds, 2);
    }

    #[test]
    fn a_soak_has_one_round_and_an_hour_unless_told_otherwise() {
        let soak = compare("--soak");
        assert_eq!((soak.scale, soak.rounds, soak.limit_seconds), (Scale::Soak, 1, 3600));
        assert_eq!(compare("--limit 5 --soak").limit_seconds, 5);
    }

    #[test]
    fn only_the_workloads_asked_for_are_run() {
        let compare = compare("--only pipe,mpub200");
        let names: Vec<_> = compare.workloads.iter().map(|workload| workload.name).collect();
        assert_eq!(names, ["pipe", "mpub200"]);
        assert!(parse_line("--only pipes").is_err());
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_the_reason() {
        for (line, reason) in [
            ("--no-null", "there is no server to run: give --nsqd or --other"),
            ("--other x", "--other needs NAME=…, not x"),
            ("--rounds many", "--rounds needs a number, not many"),
            ("--what", "unknown argument --what"),
            ("--args nsqd=-x", "--args nsqd=…: there is no such nsqd"),
            ("--other null=/bin/sh", "two servers are called null"),
            ("load", "load needs the name of a workload"),
            ("load pipe", "load needs --address HOST:PORT"),
            ("null", "null needs --address HOST:PORT"),
        ] {
            assert_eq!(parse_line(line).unwrap_err().to_string(), reason, "{line}");
        }
    }
}
