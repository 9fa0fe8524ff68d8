//! `nsq export`: a data folder for the Go nsqd.

use std::{ffi::OsString, io::Write, path::Path, process::ExitCode};

use crate::usage_error;

/// Exports one folder to another; `args` are their names.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<_> = args.collect();
    let [data, target] = &args[..] else {
        return usage_error("export takes a data folder and the folder to write");
    };
    let mut out = std::io::stdout().lock();
    match nsqd::export(Path::new(data), Path::new(target), &mut out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed stderr leaves no way to tell.
            let _ = writeln!(std::io::stderr(), "nsq export: {error}");
            ExitCode::FAILURE
        }
    }
}
