//! The files of a topic's journal: `journal.<generation>` and `snapshot.<generation>`.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    disk::{Disk, File},
    error::{Context, IoError},
};

/// The place of a topic's journal files.
#[derive(Clone, Debug)]
pub(crate) struct JournalFiles {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
}

/// The generations of the files in a topic's directory, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Generations {
    pub(super) snapshots: Vec<u32>,
    pub(super) journals: Vec<u32>,
}

impl Generations {
    /// Picks the journal files out of the names in a directory.
    pub(crate) fn among(names: &[String]) -> Self {
        let generations = |prefix| {
            let digits = names.iter().filter_map(|name| name.strip_prefix(prefix));
            let mut found: Vec<_> = digits.filter_map(parse_generation).collect();
            found.sort_unstable();
            found
        };
        Self { snapshots: generations("snapshot."), journals: generations("journal.") }
    }

    pub(super) fn newest(&self) -> Option<u32> {
        self.snapshots.last().max(self.journals.last()).copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.newest().is_none()
    }
}

fn parse_generation(digits: &str) -> Option<u32> {
    let canonical = digits.len() == 8
        && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    canonical.then(|| u32::from_str_radix(digits, 16).ok())?
}

impl JournalFiles {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, dir: dir.to_owned() }
    }

    pub(super) fn journal_path(&self, generation: u32) -> PathBuf {
        self.dir.join(format!("journal.{generation:08x}"))
    }

    /// The newest of the files in `found`; the first journal if there is none.
    pub(crate) fn newest_path(&self, found: &Generations) -> PathBuf {
        match (found.journals.last(), found.snapshots.last()) {
            (None, Some(snapshot)) => self.snapshot_path(*snapshot),
            (journal, _) => self.journal_path(journal.copied().unwrap_or(1)),
        }
    }

    pub(super) fn snapshot_path(&self, generation: u32) -> PathBuf {
        self.dir.join(format!("snapshot.{generation:08x}"))
    }

    /// Opens a file; `None` if there is none.
    pub(super) fn open(&self, path: &Path) -> Result<Option<Arc<dyn File>>, IoError> {
        match self.disk.open(path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(IoError::new("open", path, error)),
        }
    }

    /// The files of generations before `generation`.
    pub(super) fn list_older(&self, generation: u32) -> Result<Vec<PathBuf>, IoError> {
        let names = self.disk.list(&self.dir).context("list", &self.dir)?;
        let found = Generations::among(&names);
        let journals = found.journals.iter().map(|older| (*older, self.journal_path(*older)));
        let snapshots = found.snapshots.iter().map(|older| (*older, self.snapshot_path(*older)));
        let files = journals.chain(snapshots).filter(|(older, _)| *older < generation);
        Ok(files.map(|(_, path)| path).collect())
    }
}
