//! Data folders of the Go nsqd: taken over at the first start, and written for the way back.

mod export;
mod import;
mod queues;

use std::{fs, path::Path};

use tempfile::TempDir;

/// A copy of a folder that the original has left.
fn fixture(name: &str) -> TempDir {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../log/tests/fixtures/go-nsqd");
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixtures.join(name)).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}
