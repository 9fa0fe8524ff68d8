//! Publishes the records that it reads from stdin.

use std::{env::args_os, process::ExitCode};

fn main() -> ExitCode {
    nsq_tools::to_nsq::run("to_nsq", args_os().skip(1))
}
