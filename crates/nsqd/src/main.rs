//! The `nsqd` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    nsqd::main(std::env::args_os().skip(1))
}
