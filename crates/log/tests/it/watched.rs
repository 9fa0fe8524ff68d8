//! A disk that records what is done to it, counts open files, and can hold operations up.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use nsq_log::{DirLock, Disk, File, LockError, testing::FaultyDisk};

/// A [`FaultyDisk`] under observation. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct WatchedDisk {
    pub(crate) disk: FaultyDisk,
    watch: Arc<Watch>,
}

#[derive(Debug, Default)]
struct Watch {
    state: Mutex<State>,
    changed: Condvar,
    open: AtomicUsize,
    open_most: AtomicUsize,
    read_bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    done: Vec<String>,
    /// Operations that begin with this wait.
    held: Option<&'static str>,
    waiting: usize,
}

impl WatchedDisk {
    pub(crate) fn new(disk: FaultyDisk) -> Self {
        Self { disk, watch: Arc::default() }
    }

    /// The operations since the last call: a verb and the name of the file.
    pub(crate) fn take_done(&self) -> Vec<String> {
        std::mem::take(&mut self.watch.state.lock().unwrap().done)
    }

    /// Holds up all operations with this verb until the value is dropped.
    pub(crate) fn hold(&self, verb: &'static str) -> Held<'_> {
        self.watch.state.lock().unwrap().held = Some(verb);
        Held(&self.watch)
    }

    pub(crate) fn open_files(&self) -> usize {
        self.watch.open.load(Ordering::SeqCst)
    }

    /// The most files that were open at once.
    pub(crate) fn open_most(&self) -> usize {
        self.watch.open_most.load(Ordering::SeqCst)
    }

    /// Bytes read since the last call.
    pub(crate) fn take_read_bytes(&self) -> usize {
        self.watch.read_bytes.swap(0, Ordering::SeqCst)
    }

    fn opened(&self, path: &Path, file: Arc<dyn File>) -> Arc<dyn File> {
        let open = self.watch.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.watch.open_most.fetch_max(open, Ordering::SeqCst);
        Arc::new(WatchedFile { path: path.to_owned(), file, watch: Arc::clone(&self.watch) })
    }
}

/// Operations that are held up.
pub(crate) struct Held<'a>(&'a Watch);

impl Held<'_> {
    /// Waits until there is one.
    pub(crate) fn wait(&self) {
        let mut state = self.0.state.lock().unwrap();
        while state.waiting == 0 {
            state = self.0.changed.wait(state).unwrap();
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().held = None;
        self.0.changed.notify_all();
    }
}

impl Watch {
    /// Waits while the operation is held up, and records it.
    fn note(&self, verb: &str, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut state = self.state.lock().unwrap();
        while state.held == Some(verb) {
            state.waiting += 1;
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap();
            state.waiting -= 1;
        }
        state.done.push(format!("{verb} {name}"));
    }
}

impl Disk for WatchedDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.watch.note("create directory", path);
        self.disk.create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.disk.list(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.watch.note("create", path);
        Ok(self.opened(path, self.disk.create(path)?))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.watch.note("create", path);
        Ok(self.opened(path, self.disk.create_new(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.opened(path, self.disk.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.watch.note("rename", from);
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.watch.note("remove", path);
        self.disk.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.watch.note("remove", path);
        self.disk.remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.watch.note("sync", path);
        self.disk.sync_dir(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.free_bytes(path)
    }

    fn lock(&self, path: &Path) -> Result<DirLock, LockError> {
        self.disk.lock(path)
    }

    fn entropy(&self) -> io::Result<[u8; 16]> {
        self.disk.entropy()
    }
}

#[derive(Debug)]
struct WatchedFile {
    path: PathBuf,
    file: Arc<dyn File>,
    watch: Arc<Watch>,
}

impl Drop for WatchedFile {
    fn drop(&mut self) {
        self.watch.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl File for WatchedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.file.read_at(buf, offset)?;
        self.watch.read_bytes.fetch_add(read, Ordering::SeqCst);
        Ok(read)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.watch.note("write", &self.path);
        self.file.write_all_at(bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.file.allocate(bytes)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.watch.note("truncate", &self.path);
        self.file.truncate(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.watch.note("sync", &self.path);
        self.file.sync_data()
    }
}
