//! The raw client: the load generator's own connections in a process that can be measured.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
};

use crate::{
    consumer,
    failure::Failure,
    limit::Limit,
    publisher::{Command, Publish},
    words::usage,
};

/// The hidden subcommand under which this program is the raw client.
pub(crate) const RAW: &str = "raw-client";

/// Never reached, because the bench has a limit of its own.
const LIMIT_SECONDS: u64 = 24 * 60 * 60;

/// Does the work in `args` with the protocol that `child.rs` describes.
///
/// # Errors
/// Returns an error of the connections or the system.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let limit = Limit::start(LIMIT_SECONDS);
    say("ready")?;
    let mut word = [0; 3];
    io::stdin().read_exact(&mut word).map_err(Failure::io("wait to begin"))?;
    match args.first().map(String::as_str) {
        Some("consume") => consume(&args[1..], &limit),
        Some("publish") => publish(&args[1..], &limit),
        other => Err(usage(format!("the raw client cannot {other:?}"))),
    }
}

fn consume(args: &[String], limit: &Limit) -> Result<(), Failure> {
    let topic = text(args, "topic")?;
    let messages: usize = number(args, "messages")?;
    let most = messages * 95 / 100;
    let mut consumers = consumer::subscribe_few(address(args)?.into(), topic, 1, limit)?;
    let consumer = consumers.first_mut().ok_or(Failure::Closed)?;
    consumer.ready(number(args, "max-in-flight")?)?;
    let mut received = 0;
    while received < messages {
        let before = received;
        consumer.step(|_| {
            received += 1;
            Ok(())
        })?;
        if before < most && received >= most {
            say("most")?;
        }
    }
    say("all")?;
    told_to_stop()?;
    consumer.close()
}

fn publish(args: &[String], limit: &Limit) -> Result<(), Failure> {
    let window = number(args, "window")?;
    let command = match number(args, "batch")? {
        1 => Command::Pub,
        messages => Command::Mpub(messages),
    };
    let publish = Publish { command, connections: 1, window, refill: window / 4 };
    publish.run(address(args)?.into(), text(args, "topic")?, number(args, "messages")?, limit)?;
    say("all")?;
    told_to_stop()
}

fn say(word: &str) -> Result<(), Failure> {
    writeln!(io::stdout(), "{word}").map_err(Failure::io("tell the bench"))
}

fn told_to_stop() -> Result<(), Failure> {
    let ended = io::stdin().read_to_end(&mut Vec::new());
    ended.map(drop).map_err(Failure::io("wait for the end"))
}

fn text<'a>(args: &'a [String], name: &str) -> Result<&'a str, Failure> {
    args.iter()
        .find_map(|arg| arg.strip_prefix('-')?.strip_prefix(name)?.strip_prefix('='))
        .ok_or_else(|| usage(format!("-{name}=… is missing")))
}

fn number(args: &[String], name: &str) -> Result<usize, Failure> {
    let value = text(args, name)?;
    value.parse().map_err(|_| usage(format!("-{name} needs a number, not {value}")))
}

fn address(args: &[String]) -> Result<SocketAddr, Failure> {
    let value = text(args, "addresses")?;
    value.parse().map_err(|_| usage(format!("-addresses needs IP:PORT, not {value}")))
}
