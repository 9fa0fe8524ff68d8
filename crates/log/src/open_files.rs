//! The bound on open segment files of a store.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, PoisonError, TryLockError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    disk::{Disk, File},
    lock,
};

/// The segment files that stay open between two uses, and a gate for those opened for one use.
///
/// The bound is on descriptors that are kept. A file closed for another's sake stays open until the write or flush
/// that is using it has ended.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    disk: Arc<dyn Disk>,
    kept_max: usize,
    /// In the order in which they get their second chance.
    kept: Mutex<VecDeque<Weak<KeptFile>>>,
    borrowed_max: usize,
    borrowed: Mutex<usize>,
    returned: Condvar,
}

/// A file that is opened when it is used and may be closed when it is not.
#[derive(Debug)]
pub(crate) struct KeptFile {
    path: PathBuf,
    /// Used since the last look for a file to close.
    used: AtomicBool,
    handle: Mutex<Handle>,
}

#[derive(Debug, Default)]
struct Handle {
    file: Option<Arc<dyn File>>,
    /// The file is in [`OpenFiles::kept`].
    listed: bool,
}

impl OpenFiles {
    /// Keeps up to about `max` files open.
    pub(crate) fn new(disk: Arc<dyn Disk>, max: usize) -> Self {
        let borrowed_max = (max / 4).max(1);
        Self {
            disk,
            kept_max: max.saturating_sub(borrowed_max).max(1),
            kept: Mutex::default(),
            borrowed_max,
            borrowed: Mutex::default(),
            returned: Condvar::new(),
        }
    }

    /// Creates a file that must not exist.
    pub(crate) fn create(&self, path: PathBuf) -> io::Result<Arc<KeptFile>> {
        let file = self.disk.create_new(&path)?;
        let kept = KeptFile::closed(path);
        self.keep(&kept, &mut lock(&kept.handle), file);
        Ok(kept)
    }

    /// The file, which is opened if it is not.
    pub(crate) fn get(&self, kept: &Arc<KeptFile>) -> io::Result<Arc<dyn File>> {
        let mut handle = lock(&kept.handle);
        if let Some(file) = &handle.file {
            kept.used.store(true, Ordering::Relaxed);
            return Ok(Arc::clone(file));
        }
        let file = self.disk.open(&kept.path)?;
        self.keep(kept, &mut handle, Arc::clone(&file));
        Ok(file)
    }

    /// Opens a file for one use. Waits while a quarter of all descriptors is used in this way.
    pub(crate) fn borrow(&self, path: &Path) -> io::Result<BorrowedFile<'_>> {
        let full = |count: &mut usize| *count >= self.borrowed_max;
        let count = self.returned.wait_while(lock(&self.borrowed), full);
        *count.unwrap_or_else(PoisonError::into_inner) += 1;
        // From here on the descriptor is given back, also when opening fails.
        let place = Borrow(self);
        Ok(BorrowedFile { file: self.disk.open(path)?, _place: place })
    }

    fn keep(&self, kept: &Arc<KeptFile>, handle: &mut Handle, file: Arc<dyn File>) {
        if !handle.listed {
            let mut list = lock(&self.kept);
            self.make_room(&mut list);
            list.push_back(Arc::downgrade(kept));
            handle.listed = true;
        }
        handle.file = Some(file);
        kept.used.store(true, Ordering::Relaxed);
    }

    /// Closes the files that were not used for longest until one more fits.
    fn make_room(&self, list: &mut VecDeque<Weak<KeptFile>>) {
        // The first round takes the second chances away.
        for _ in 0..2 * list.len() {
            if list.len() < self.kept_max {
                return;
            }
            let Some(candidate) = list.pop_front() else { return };
            let Some(kept) = candidate.upgrade() else { continue };
            if !kept.close_unused() {
                list.push_back(candidate);
            }
        }
    }
}

impl KeptFile {
    /// An existing file that is not open yet.
    pub(crate) fn closed(path: PathBuf) -> Arc<Self> {
        Arc::new(Self { path, used: AtomicBool::new(false), handle: Mutex::default() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Closes the file until it is used again.
    pub(crate) fn close(&self) {
        lock(&self.handle).file = None;
    }

    /// Closes a file that is not in use and has had its second chance; returns whether it is closed now.
    fn close_unused(&self) -> bool {
        if self.used.swap(false, Ordering::Relaxed) {
            return false;
        }
        // Waiting here could deadlock: the owner may be about to ask for room itself.
        let mut handle = match self.handle.try_lock() {
            Ok(handle) => handle,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        *handle = Handle::default();
        true
    }
}

/// A file opened for one use, closed when dropped.
#[derive(Debug)]
pub(crate) struct BorrowedFile<'a> {
    file: Arc<dyn File>,
    _place: Borrow<'a>,
}

impl BorrowedFile<'_> {
    pub(crate) fn file(&self) -> &dyn File {
        &*self.file
    }
}

/// One of the descriptors for files that are opened for one use.
#[derive(Debug)]
struct Borrow<'a>(&'a OpenFiles);

impl Drop for Borrow<'_> {
    fn drop(&mut self) {
        *lock(&self.0.borrowed) -= 1;
        self.0.returned.notify_one();
    }
}
