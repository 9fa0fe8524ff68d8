//! The operating system's file system with slow flushes, as on a busy cloud volume.

use std::{io, path::Path, sync::Arc, thread, time::Duration};

use nsq_log::{DirLock, Disk, File, LockError, RealDisk};

/// A disk on which each flush takes longer. Flushes that overlap do not wait for each other.
#[derive(Debug)]
pub(crate) struct SlowDisk {
    flush_delay: Duration,
}

impl SlowDisk {
    /// Creates a disk on which each flush takes `flush_delay` longer.
    pub(crate) fn new(flush_delay: Duration) -> Self {
        Self { flush_delay }
    }

    fn slow(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(SlowFile { file, flush_delay: self.flush_delay })
    }
}

impl Disk for SlowDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        RealDisk.create(path).map(|file| self.slow(file))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        RealDisk.create_new(path).map(|file| self.slow(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        RealDisk.open(path).map(|file| self.slow(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        thread::sleep(self.flush_delay);
        RealDisk.sync_dir(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(path)
    }

    fn lock(&self, path: &Path) -> Result<DirLock, LockError> {
        RealDisk.lock(path)
    }

    fn entropy(&self) -> io::Result<[u8; 16]> {
        RealDisk.entropy()
    }
}

/// A file of a [`SlowDisk`].
#[derive(Debug)]
struct SlowFile {
    file: Arc<dyn File>,
    flush_delay: Duration,
}

impl File for SlowFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.file.allocate(bytes)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        thread::sleep(self.flush_delay);
        self.file.sync_data()
    }
}
