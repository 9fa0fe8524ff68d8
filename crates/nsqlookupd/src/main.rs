//! The `nsqlookupd` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    nsqlookupd::main(std::env::args_os().skip(1))
}
