//! The all-in-one NSQ binary: the message platform in one process, and its tools for people.

mod export;
mod up;

use std::{ffi::OsString, io::Write, process::ExitCode};

use nsq_protocol::is_valid_name;

/// Where `nsq up` listens for clients unless told otherwise.
const DEFAULT_NSQD: &str = "127.0.0.1:4150";

const USAGE: &str = "\
Usage: nsq COMMAND

  nsq up [nsqd flags]           run the message platform in this terminal, with its data in ./nsq-data
  nsq pub TOPIC [to_nsq flags]  publish each line of standard input
  nsq tail TOPIC [nsq_tail flags]
                                print messages as they come
  nsq nsqd [flags]              run nsqd alone
  nsq nsqlookupd [flags]        run nsqlookupd alone
  nsq export DATA FOLDER        write the data folder of a stopped nsqd to FOLDER, as the Go nsqd reads it
  nsq version                   print the version
  nsq help                      print this

pub and tail speak to 127.0.0.1:4150; -nsqd-tcp-address HOST:PORT names another nsqd.
";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let command = args.next().unwrap_or_default();
    match command.to_str() {
        Some("up") => up::run(args),
        Some("nsqd") => nsqd::main(args),
        Some("nsqlookupd") => nsqlookupd::main(args),
        Some("export") => export::run(args),
        Some("pub") => publish(args),
        Some("tail") => tail(args),
        Some("version" | "-version" | "--version") => {
            print(&format!("{}\n", nsq_daemon::version::line("nsq")))
        }
        Some("help" | "-h" | "-help" | "--help") => print(USAGE),
        Some("") => usage_error("a command is missing"),
        _ => usage_error(&format!("unknown command {command:?}")),
    }
}

fn publish(args: impl Iterator<Item = OsString>) -> ExitCode {
    with_topic(args, |args| nsq_tools::to_nsq::run("nsq pub", args))
}

fn tail(args: impl Iterator<Item = OsString>) -> ExitCode {
    with_topic(args, |args| nsq_tools::nsq_tail::run("nsq tail", args))
}

/// Turns `TOPIC flags…` into the flags of a tool, which speaks to the default nsqd unless it is told of another.
fn with_topic(
    mut args: impl Iterator<Item = OsString>,
    run: impl FnOnce(Vec<OsString>) -> ExitCode,
) -> ExitCode {
    let Some(topic) = args.next() else { return usage_error("a topic is missing") };
    if topic.to_str().is_some_and(|topic| matches!(topic, "-h" | "-help" | "--help")) {
        return run(vec![topic]);
    }
    if !topic.to_str().is_some_and(|topic| is_valid_name(topic.as_bytes())) {
        return usage_error(&format!("{topic:?} is no valid topic name"));
    }
    let rest: Vec<_> = args.collect();
    let names_source = |arg: &OsString| {
        let flag = arg.to_string_lossy();
        let flag = flag.trim_start_matches('-');
        flag.starts_with("nsqd-tcp-address") || flag.starts_with("lookupd-http-address")
    };
    let mut flags: Vec<OsString> = vec!["-topic".into(), topic];
    if !rest.iter().any(names_source) {
        flags.extend(["-nsqd-tcp-address".into(), DEFAULT_NSQD.into()]);
    }
    flags.extend(rest);
    run(flags)
}

fn print(text: &str) -> ExitCode {
    // If stdout is closed, the text is not wanted.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn usage_error(what: &str) -> ExitCode {
    // A closed stderr leaves no way to tell.
    let _ = write!(std::io::stderr(), "nsq: {what}\n{USAGE}");
    ExitCode::from(2)
}
