//! Free space: a ballast file that is given up when the disk is full, so that journals can still be written and
//! finished messages can be released.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Acquire, Ordering::Release},
    },
};

use rustix::io::Errno;

use crate::{
    disk::Disk,
    error::{AppendError, Context, IoError, is_out_of_space},
    lock,
};

/// The ballast is not larger than this …
const BALLAST_BYTES_MAX: u64 = 4 << 20;
/// … or than the free space divided by this.
const FREE_PER_BALLAST: u64 = 100;
/// Without a ballast, so much free space counts as enough.
const ENOUGH_BYTES_MIN: u64 = 64 << 10;

/// The free space of a data folder.
#[derive(Debug)]
pub(crate) struct Space {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// The size that the ballast should have.
    size: u64,
    /// The ballast exists.
    ballast: Mutex<bool>,
    short: AtomicBool,
}

impl Space {
    /// Creates the ballast in `dir` if there is room for it, or takes over the one that is there.
    pub(crate) fn start(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        let known = disk.open(&dir.join("ballast")).and_then(|file| file.len()).ok();
        let size = known.filter(|bytes| *bytes > 0).unwrap_or_else(|| {
            let free = disk.free_bytes(dir).unwrap_or(0);
            BALLAST_BYTES_MAX.min(free / FREE_PER_BALLAST)
        });
        let (ballast, short) = (Mutex::new(false), AtomicBool::new(false));
        let space = Self { disk, dir: dir.to_owned(), size, ballast, short };
        // Best effort: a node can do without.
        *lock(&space.ballast) = known == Some(size) || (size > 0 && space.allocate().is_ok());
        space
    }

    /// Fails while space is short.
    pub(crate) fn check(&self) -> Result<(), AppendError> {
        if self.short.load(Acquire) {
            let full = Errno::NOSPC.into();
            return Err(AppendError::Temporary(IoError::new("append in", &self.dir, full)));
        }
        Ok(())
    }

    /// Notes that space is short if an error says so.
    pub(crate) fn note(&self, error: &IoError) {
        if is_out_of_space(&error.source) {
            self.short.store(true, Release);
        }
    }

    /// Gives up the ballast if space is short.
    pub(crate) fn drop_ballast(&self) {
        let mut ballast = lock(&self.ballast);
        if *ballast && self.short.load(Acquire) && self.disk.remove(&self.path()).is_ok() {
            *ballast = false;
        }
    }

    /// Ends a shortage if there is room for the ballast and as much again; returns true if there is none any more.
    ///
    /// # Errors
    /// When the free space cannot be found out.
    pub(crate) fn recover(&self) -> Result<bool, IoError> {
        if !self.short.load(Acquire) {
            return Ok(true);
        }
        self.drop_ballast();
        let free =
            self.disk.free_bytes(&self.dir).context("measure the free space of", &self.dir)?;
        if free < 2 * self.size.max(ENOUGH_BYTES_MIN) {
            return Ok(false);
        }
        let mut ballast = lock(&self.ballast);
        if !*ballast && self.size > 0 {
            match self.allocate() {
                Ok(()) => *ballast = true,
                Err(error) if is_out_of_space(&error.source) => return Ok(false),
                // Not every file system can reserve space.
                Err(_) => {}
            }
        }
        self.short.store(false, Release);
        Ok(true)
    }

    fn path(&self) -> PathBuf {
        self.dir.join("ballast")
    }

    fn allocate(&self) -> Result<(), IoError> {
        let path = self.path();
        let file = self.disk.create(&path).context("create", &path)?;
        let allocated = file.allocate(self.size).context("allocate", &path);
        if allocated.is_err() {
            // Best effort: an empty file takes no space.
            let _ = self.disk.remove(&path);
        }
        allocated
    }
}
