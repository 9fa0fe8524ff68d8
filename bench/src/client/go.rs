//! The Go client, built from the source in this program.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{failure::Failure, server};

/// The reason for leaving out the Go client.
pub(crate) const MISSING: &str = "there is no Go toolchain (`go version` does not run)";

const FILES: &[(&str, &str)] = &[
    ("go.mod", include_str!("../../go-nsq/go.mod")),
    ("go.sum", include_str!("../../go-nsq/go.sum")),
    ("main.go", include_str!("../../go-nsq/main.go")),
];

/// Builds the client in `directory` and returns the program; returns `None` if Go is not installed.
///
/// # Errors
/// Returns the error of the Go toolchain.
pub(crate) fn build(directory: &Path) -> Result<Option<PathBuf>, Failure> {
    let mut version = Command::new("go");
    version.arg("version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if !version.status().is_ok_and(|status| status.success()) {
        return Ok(None);
    }
    for (name, text) in FILES {
        fs::write(directory.join(name), text).map_err(Failure::io(format!("write {name}")))?;
    }
    let program = directory.join("go-nsq-client");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .map_err(Failure::io("run go"))?;
    if built.status.success() {
        return Ok(Some(program));
    }
    let said = server::ends(&String::from_utf8_lossy(&built.stderr)).unwrap_or_default();
    Err(Failure::Client(format!("go-nsq cannot be built, --no-go leaves it out: {said}")))
}
