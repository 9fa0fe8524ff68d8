//! A disk that notes which thread changes it, and on which folders are created only when the test allows it.

use std::{
    io,
    path::Path,
    sync::{Arc, Condvar, Mutex},
    thread,
};

use nsq_log::{DirLock, Disk, File, LockError, RealDisk};

use crate::support::PATIENCE;

/// The real disk, watched.
#[derive(Clone, Debug, Default)]
pub(crate) struct WatchedDisk(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Thread and call of every call that may take long.
    calls: Vec<(String, &'static str)>,
    held: bool,
    /// How many calls wait for their folder.
    waiting: usize,
}

impl WatchedDisk {
    /// Makes [`Disk::create_dir`] wait.
    pub(crate) fn hold_folders(&self) {
        self.0.state.lock().unwrap().held = true;
    }

    pub(crate) fn release_folders(&self) {
        self.0.state.lock().unwrap().held = false;
        self.0.changed.notify_all();
    }

    /// Waits until a call waits for [`WatchedDisk::release_folders`].
    pub(crate) fn wait_for_a_caller(&self) {
        let idle = |state: &mut State| state.waiting == 0;
        let state = self.0.state.lock().unwrap();
        let (_state, timeout) = self.0.changed.wait_timeout_while(state, PATIENCE, idle).unwrap();
        assert!(!timeout.timed_out(), "the disk was not asked");
    }

    /// The calls that may take long, each with the thread that made it, since the last time this was asked.
    pub(crate) fn take_calls(&self) -> Vec<(String, &'static str)> {
        std::mem::take(&mut self.0.state.lock().unwrap().calls)
    }

    fn note(&self, call: &'static str) {
        let thread = thread::current().name().unwrap_or_default().to_owned();
        self.0.state.lock().unwrap().calls.push((thread, call));
    }

    fn watch(&self, file: io::Result<Arc<dyn File>>) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(WatchedFile { file: file?, disk: self.clone() }))
    }
}

impl Disk for WatchedDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.note("create_dir");
        let mut state = self.0.state.lock().unwrap();
        state.waiting += 1;
        self.0.changed.notify_all();
        let mut state = self.0.changed.wait_while(state, |state| state.held).unwrap();
        state.waiting -= 1;
        drop(state);
        RealDisk.create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.note("list");
        RealDisk.list(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.note("create");
        self.watch(RealDisk.create(path))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.note("create_new");
        self.watch(RealDisk.create_new(path))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.watch(RealDisk.open(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("rename");
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.note("remove");
        RealDisk.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.note("remove_dir");
        RealDisk.remove_dir(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.note("sync_dir");
        RealDisk.sync_dir(path)
    }

    fn lock(&self, path: &Path) -> Result<DirLock, LockError> {
        RealDisk.lock(path)
    }

    fn entropy(&self) -> io::Result<[u8; 16]> {
        RealDisk.entropy()
    }
}

#[derive(Debug)]
struct WatchedFile {
    file: Arc<dyn File>,
    disk: WatchedDisk,
}

impl File for WatchedFile {
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
        self.disk.note("sync_data");
        self.file.sync_data()
    }
}
