//! The folder in which an import is built, and the steps that put its contents into place.
//!
//! 1. `import.tmp` is filled. A crash leaves it to be removed.
//! 2. It is renamed to `import.committed`: from here on a start repeats the following steps until all are done.
//! 3. Its logs are moved to `topics`, in place of those that they were copied from.
//! 4. The queue files are moved into it.
//! 5. It is renamed to `go-nsqd`: now it is the data folder that the Go nsqd has left, and nothing looks at it again.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use nsq_protocol::TopicName;

use super::{topic_in, topics_dir};
use crate::{
    disk::Disk,
    diskqueue::is_queue_file,
    error::{Context, IoError},
};

/// The name of the folder while it is filled …
const FILLING: &str = "import.tmp";
/// … while its contents are put into place …
const COMMITTED: &str = "import.committed";
/// … and when only the files of the Go nsqd are left.
const ASIDE: &str = "go-nsqd";
/// The place of logs that have been replaced by those of the import.
const REPLACED: &str = "replaced";
const NODE: &str = "node";
const BALLAST: &str = "ballast";
const CATALOG: &str = "nsqd.dat";
/// Files are copied in pieces of this size.
const COPY_BYTES: usize = 1 << 20;

/// The folder in which an import is built.
pub(super) struct Staging<'a> {
    disk: &'a dyn Disk,
    data: &'a Path,
    filling: PathBuf,
    committed: PathBuf,
}

impl<'a> Staging<'a> {
    pub(super) fn new(disk: &'a dyn Disk, data: &'a Path) -> Self {
        Self { disk, data, filling: data.join(FILLING), committed: data.join(COMMITTED) }
    }

    /// The folder to fill.
    pub(super) fn folder(&self) -> &Path {
        &self.filling
    }

    /// Returns true if an import has been built and its contents are not all in their place.
    pub(super) fn is_committed(&self) -> Result<bool, IoError> {
        self.has(self.data, COMMITTED)
    }

    /// Removes what an import that was cut short has left.
    pub(super) fn discard(&self) -> Result<(), IoError> {
        if self.has(self.data, FILLING)? {
            self.remove_tree(&self.filling)?;
        }
        Ok(())
    }

    /// Creates the folder, with a copy of `nsqd.dat` for those who go back.
    pub(super) fn begin(&self) -> Result<(), IoError> {
        self.disk.create_dir(&self.filling).context("create directory", &self.filling)?;
        self.copy_if_there(CATALOG)
    }

    /// Copies the node file, and the logs of those of the topics that have one: the import adds to them.
    pub(super) fn copy_logs<'t>(
        &self,
        topics: impl Iterator<Item = &'t TopicName>,
    ) -> Result<(), IoError> {
        self.copy_if_there(NODE)?;
        if !self.has(self.data, "topics")? {
            return Ok(());
        }
        let copies = topics_dir(&self.filling);
        self.disk.create_dir(&copies).context("create directory", &copies)?;
        let known = self.list(&topics_dir(self.data))?;
        for topic in topics {
            let (from, to) = (topic_in(self.data, topic), topic_in(&self.filling, topic));
            if from.file_name().is_some_and(|name| known.iter().any(|known| **known == *name)) {
                self.copy_dir(&from, &to)?;
            }
        }
        Ok(())
    }

    /// Makes everything in the folder count.
    pub(super) fn commit(&self) -> Result<(), IoError> {
        self.sync(&self.filling)?;
        self.rename(&self.filling, &self.committed)?;
        self.sync(self.data)
    }

    /// Puts everything into its place; returns the folder with the files of the Go nsqd.
    pub(super) fn finish(&self) -> Result<PathBuf, IoError> {
        let built = topics_dir(&self.committed);
        if self.has(&self.committed, "topics")? {
            self.move_topics(&built)?;
        }
        // A node that has a file knows about all segment numbers from the segments themselves.
        let node = self.committed.join(NODE);
        match (self.has(&self.committed, NODE)?, self.has(self.data, NODE)?) {
            (true, true) => self.disk.remove(&node).context("remove", &node)?,
            (true, false) => self.rename(&node, &self.data.join(NODE))?,
            (false, _) => {}
        }
        if self.has(&self.committed, BALLAST)? {
            let ballast = self.committed.join(BALLAST);
            self.disk.remove(&ballast).context("remove", &ballast)?;
        }
        for name in self.list(self.data)?.iter().filter(|name| is_queue_file(name)) {
            self.rename(&self.data.join(name), &self.committed.join(name))?;
        }
        self.sync(&self.committed)?;
        self.sync(self.data)?;
        if self.has(&self.committed, REPLACED)? {
            self.remove_tree(&self.committed.join(REPLACED))?;
        }
        let aside = self.free_name()?;
        self.rename(&self.committed, &aside)?;
        self.sync(self.data)?;
        Ok(aside)
    }

    fn move_topics(&self, built: &Path) -> Result<(), IoError> {
        let (topics, replaced) = (topics_dir(self.data), self.committed.join(REPLACED));
        for dir in [&topics, &replaced] {
            self.disk.create_dir(dir).context("create directory", dir)?;
        }
        // Before anything is in them.
        self.sync(self.data)?;
        self.sync(&self.committed)?;
        let known: BTreeSet<_> = self.list(&topics)?.into_iter().collect();
        for name in self.list(built)? {
            // Whatever has the name now was there before the import: moving the new one is the second step.
            if known.contains(&name) {
                self.rename(&topics.join(&name), &replaced.join(&name))?;
            }
            self.rename(&built.join(&name), &topics.join(&name))?;
        }
        self.sync(&topics)?;
        self.disk.remove_dir(built).context("remove directory", built)
    }

    /// A name for the files of the Go nsqd that no earlier import has taken.
    fn free_name(&self) -> Result<PathBuf, IoError> {
        let taken = self.list(self.data)?;
        let numbered = (2..).map(|number: u32| format!("{ASIDE}.{number}"));
        let mut names = std::iter::once(ASIDE.to_owned()).chain(numbered);
        let name = names.find(|name| !taken.contains(name)).unwrap_or_default();
        Ok(self.data.join(name))
    }

    fn has(&self, dir: &Path, name: &str) -> Result<bool, IoError> {
        Ok(self.list(dir)?.iter().any(|known| known == name))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, IoError> {
        self.disk.list(dir).context("list", dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.disk.rename(from, to).context("rename", from)
    }

    fn sync(&self, dir: &Path) -> Result<(), IoError> {
        self.disk.sync_dir(dir).context("sync directory", dir)
    }

    fn copy_if_there(&self, name: &str) -> Result<(), IoError> {
        match self.has(self.data, name)? {
            true => self.copy(&self.data.join(name), &self.filling.join(name)),
            false => Ok(()),
        }
    }

    fn copy_dir(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.disk.create_dir(to).context("create directory", to)?;
        for name in self.list(from)? {
            self.copy(&from.join(&name), &to.join(&name))?;
        }
        self.sync(to)
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        let source = self.disk.open(from).context("open", from)?;
        let copy = self.disk.create_new(to).context("create", to)?;
        let (mut buffer, mut offset) = (vec![0; COPY_BYTES], 0);
        loop {
            let read = source.read_at(&mut buffer, offset).context("read", from)?;
            if read == 0 {
                return copy.sync_data().context("sync", to);
            }
            copy.write_all_at(&buffer[..read], offset).context("write", to)?;
            offset += read as u64;
        }
    }

    /// Removes a directory with everything in it.
    fn remove_tree(&self, dir: &Path) -> Result<(), IoError> {
        for name in self.list(dir)? {
            let path = dir.join(&name);
            match self.disk.list(&path) {
                Ok(_) => self.remove_tree(&path)?,
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                    self.disk.remove(&path).context("remove", &path)?;
                }
                Err(error) => return Err(IoError::new("list", &path, error)),
            }
        }
        self.disk.remove_dir(dir).context("remove directory", dir)
    }
}
