//! Prints the messages of topics.

use std::{env::args_os, process::ExitCode};

fn main() -> ExitCode {
    nsq_tools::nsq_tail::run("nsq_tail", args_os().skip(1))
}
