//! Where results and progress are written.

use std::io::{self, Write};

use crate::failure::Failure;

/// Writes the results where they can be piped from.
///
/// # Errors
/// The system's refusal.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    io::stdout().write_all(text.as_bytes()).map_err(Failure::io("print"))
}

/// Writes what happens meanwhile, beside the results.
///
/// # Errors
/// The system's refusal.
pub(crate) fn progress(text: &str) -> Result<(), Failure> {
    io::stderr().write_all(text.as_bytes()).map_err(Failure::io("report progress"))
}
