//! `nsqd.dat`: the list of topics and channels, in the original's format, so that its tools can read it and a
//! folder of the original can be taken over.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::{VERSION, lock::lock};

/// What `nsqd.dat` holds. Unknown keys are passed over, missing ones are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Catalog {
    /// `null` when there are none, as the original writes it.
    pub(crate) topics: Option<Vec<CatalogTopic>>,
    pub(crate) version: String,
}

/// A topic in `nsqd.dat`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CatalogTopic {
    pub(crate) name: String,
    pub(crate) paused: bool,
    pub(crate) channels: Option<Vec<CatalogChannel>>,
}

/// A channel in `nsqd.dat`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CatalogChannel {
    pub(crate) name: String,
    pub(crate) paused: bool,
}

impl Catalog {
    pub(crate) fn new(topics: Vec<CatalogTopic>) -> Self {
        Self { topics: (!topics.is_empty()).then_some(topics), version: VERSION.to_owned() }
    }
}

/// The file, and the thread that rewrites it after changes: many topics that are created at once cost one
/// rewrite, and none of them waits for it.
pub(crate) struct Metadata {
    path: PathBuf,
    writing: Mutex<()>,
    /// The last write failed.
    behind: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    dirty: bool,
    stopping: bool,
}

impl Metadata {
    pub(crate) fn new(data_path: &Path) -> Self {
        let path = data_path.join("nsqd.dat");
        Self {
            path,
            writing: Mutex::new(()),
            behind: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file; a missing one is empty.
    ///
    /// # Errors
    /// When it cannot be read or is not what it should be: it is not overwritten then.
    pub(crate) fn read(&self) -> Result<Catalog, String> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Catalog::default()),
            Err(error) => {
                return Err(format!(
                    "failed to read metadata from {} - {error}",
                    self.path.display()
                ));
            }
        };
        serde_json::from_slice(&text).map_err(|error| {
            format!("failed to parse metadata in {} - {error}", self.path.display())
        })
    }

    /// Replaces the file, so that a crash leaves either the old one or the new one.
    ///
    /// # Errors
    /// When the folder does not take it; the old file stays.
    pub(crate) fn write(&self, catalog: &Catalog) -> io::Result<()> {
        let _writing = lock(&self.writing);
        let written = self.replace(catalog);
        self.behind.store(written.is_err(), Ordering::Release);
        written
    }

    /// Whether the file does not say what it should, since it could not be written.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Acquire)
    }

    fn replace(&self, catalog: &Catalog) -> io::Result<()> {
        let text = serde_json::to_vec(catalog)?;
        let temporary = self.path.with_extension("dat.tmp");
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        let folder = self.path.parent().unwrap_or_else(|| Path::new("."));
        File::open(folder)?.sync_all()
    }

    /// Has the file rewritten soon.
    pub(crate) fn touch(&self) {
        lock(&self.state).dirty = true;
        self.changed.notify_one();
    }

    /// Makes [`Metadata::run`] return after a last write.
    pub(crate) fn stop(&self) {
        let mut state = lock(&self.state);
        state.stopping = true;
        state.dirty = true;
        drop(state);
        self.changed.notify_one();
    }

    /// Calls `rewrite` after every change until stopped.
    pub(crate) fn run(&self, rewrite: impl Fn()) {
        loop {
            let state = lock(&self.state);
            let idle = |state: &mut State| !state.dirty && !state.stopping;
            let mut state =
                self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
            let stopping = state.stopping;
            state.dirty = false;
            drop(state);
            rewrite();
            if stopping {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_bytes_the_original_writes() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = Metadata::new(folder.path());
        metadata.write(&Catalog::new(Vec::new())).unwrap();
        let read = || fs::read_to_string(metadata.path()).unwrap();
        assert_eq!(read(), r#"{"topics":null,"version":"1.3.0"}"#);
        let channel = CatalogChannel { name: "c".to_owned(), paused: true };
        let topics = vec![
            CatalogTopic { name: "t".to_owned(), paused: false, channels: Some(vec![channel]) },
            CatalogTopic { name: "u".to_owned(), paused: true, channels: None },
        ];
        let catalog = Catalog::new(topics);
        metadata.write(&catalog).unwrap();
        let expected = concat!(
            r#"{"topics":[{"name":"t","paused":false,"channels":[{"name":"c","paused":true}]},"#,
            r#"{"name":"u","paused":true,"channels":null}],"version":"1.3.0"}"#
        );
        assert_eq!(read(), expected);
        assert_eq!(metadata.read(), Ok(catalog));
    }

    #[test]
    fn a_missing_file_is_empty_and_a_broken_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = Metadata::new(folder.path());
        assert_eq!(metadata.read(), Ok(Catalog::default()));
        for text in ["", "{", "[]x"] {
            fs::write(metadata.path(), text).unwrap();
            assert!(metadata.read().unwrap_err().contains("failed to parse metadata"), "{text:?}");
        }
    }
}
