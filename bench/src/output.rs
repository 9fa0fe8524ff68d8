//! Output of results and progress.

use std::io::{self, Write};

use crate::failure::Failure;

/// Writes results to stdout.
///
/// # Errors
/// Returns the system's error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    io::stdout().write_all(text.as_bytes()).map_err(Failure::io("print"))
}

/// Writes progress to stderr.
///
/// # Errors
/// Returns the system's error.
pub(crate) fn progress(text: &str) -> Result<(), Failure> {
    io::stderr().write_all(text.as_bytes()).map_err(Failure::io("report progress"))
}
