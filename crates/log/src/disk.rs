//! The only way to the file system: a trait small enough that a test can fail any of its operations.

use std::{
    any::Any,
    fmt,
    fs::{self, DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use crate::error::{Context, IoError, LockError};

/// A file system, as far as the log needs one.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Creates a directory; one that exists is fine.
    ///
    /// # Errors
    /// The file system's error; a missing parent is an error.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, without `.` and `..`, in any order. Names that are not UTF-8 are left out.
    ///
    /// # Errors
    /// The file system's error.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Creates a file, or empties the one that exists, for reading and writing.
    ///
    /// # Errors
    /// The file system's error.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Creates a file for reading and writing.
    ///
    /// # Errors
    /// The file system's error; `AlreadyExists` when there is a file of that name, which stays as it is.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// The file system's error; `NotFound` when there is none.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Renames a file or directory, replacing a file that has the new name.
    ///
    /// # Errors
    /// The file system's error.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The file system's error.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// The file system's error.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes creations, renames and removals in a directory survive a power cut.
    ///
    /// # Errors
    /// The file system's error.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// The bytes that can still be written to the file system of a directory.
    ///
    /// # Errors
    /// The file system's error.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Locks a directory against other processes, without waiting, until the value is dropped.
    ///
    /// # Errors
    /// When the directory cannot be opened or is locked already.
    fn lock(&self, path: &Path) -> Result<DirLock, LockError>;

    /// Sixteen random bytes.
    ///
    /// # Errors
    /// The operating system's error.
    fn entropy(&self) -> io::Result<[u8; 16]>;
}

/// An open file, read and written at stated positions.
#[expect(clippy::len_without_is_empty, reason = "a file is not a collection")]
pub trait File: fmt::Debug + Send + Sync {
    /// Reads up to `buf.len()` bytes; fewer only at the end of the file.
    ///
    /// # Errors
    /// The file system's error.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes`; on an error some of them may have been written.
    ///
    /// # Errors
    /// The file system's error.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// The length in bytes.
    ///
    /// # Errors
    /// The file system's error.
    fn len(&self) -> io::Result<u64>;

    /// Reserves space for the first `bytes` of the file, which becomes that long.
    ///
    /// # Errors
    /// The file system's error; it may not know how to do that.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// Cuts the file to `bytes`.
    ///
    /// # Errors
    /// The file system's error.
    fn truncate(&self, bytes: u64) -> io::Result<()>;

    /// Flushes the file: everything written so far survives a power cut.
    ///
    /// # Errors
    /// The file system's error. Earlier writes may then be lost, even if a later call succeeds.
    fn sync_data(&self) -> io::Result<()>;
}

/// Writes a file so that a crash leaves either the old or the new one, whole.
///
/// # Errors
/// When a step fails; the old file stays.
pub fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), IoError> {
    let temp = path.with_extension("tmp");
    let file = disk.create(&temp).context("create", &temp)?;
    let written = file
        .write_all_at(bytes, 0)
        .context("write", &temp)
        .and_then(|()| file.sync_data().context("sync", &temp))
        .and_then(|()| disk.rename(&temp, path).context("rename", &temp));
    if let Err(error) = written {
        // Best effort: what is left is overwritten the next time.
        let _ = disk.remove(&temp);
        return Err(error);
    }
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    disk.sync_dir(dir).context("sync directory", dir)
}

/// A lock on a directory, given back when dropped.
pub struct DirLock(#[expect(dead_code, reason = "held for its Drop")] Box<dyn Any + Send + Sync>);

impl DirLock {
    /// A lock that is held as long as `guard` lives.
    pub fn new(guard: impl Any + Send + Sync) -> Self {
        Self(Box::new(guard))
    }
}

impl fmt::Debug for DirLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DirLock")
    }
}

/// The operating system's file system.
#[derive(Copy, Clone, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            other => other,
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true).mode(0o600);
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create_new(true).mode(0o600);
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile(OpenOptions::new().read(true).write(true).open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let volume = rustix::fs::statvfs(path)?;
        Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
    }

    fn lock(&self, path: &Path) -> Result<DirLock, LockError> {
        let dir = fs::File::open(path)
            .map_err(|source| LockError::Open { path: path.to_owned(), source })?;
        rustix::fs::flock(&dir, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| LockError::Flock { path: path.to_owned(), source: errno.into() })?;
        Ok(DirLock::new(dir))
    }

    fn entropy(&self) -> io::Result<[u8; 16]> {
        let mut bytes = [0; 16];
        // The kernel fills requests of up to 256 bytes whole.
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        Ok(bytes)
    }
}

#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.0.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), 0, bytes)?)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
