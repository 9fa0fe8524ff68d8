//! A disk with a note of every call that may take long, and with kinds of calls that wait until the test lets
//! them go: whatever completes meanwhile did not wait for them.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    thread,
};

use nsq_log::{DirLock, Disk, File, LockError, RealDisk};

use crate::support::PATIENCE;

/// A call that may take long.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    CreateDir,
    Create,
    Flush,
    List,
    Read,
    Remove,
    Rename,
    SyncDir,
    Write,
}

/// Every call that a thread that serves connections must neither make nor wait for.
pub(crate) const SLOW: &[Call] =
    &[Call::CreateDir, Call::Flush, Call::List, Call::Remove, Call::Rename, Call::SyncDir];

/// A call that was made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) call: Call,
    pub(crate) path: String,
    pub(crate) thread: String,
}

/// A disk, watched and held.
#[derive(Clone, Debug)]
pub(crate) struct HeldDisk {
    disk: Arc<dyn Disk>,
    shared: Arc<Shared>,
}

impl Default for HeldDisk {
    /// The real disk.
    fn default() -> Self {
        Self::of(RealDisk)
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    made: Vec<Made>,
    held: &'static [Call],
    /// Only calls whose paths contain this are held.
    held_part: &'static str,
    waiting: Vec<Made>,
}

/// Holds calls until it is dropped.
#[derive(Debug)]
pub(crate) struct Hold<'a>(&'a HeldDisk);

impl Hold<'_> {
    /// Waits until `count` calls wait whose paths contain `part`.
    #[track_caller]
    pub(crate) fn wait_for(&self, call: Call, part: &str, count: usize) {
        let shared = &*self.0.shared;
        let is_meant = |made: &&Made| made.call == call && made.path.contains(part);
        let fewer = |state: &mut State| state.waiting.iter().filter(is_meant).count() < count;
        let state = shared.state.lock().unwrap();
        let (state, timeout) = shared.changed.wait_timeout_while(state, PATIENCE, fewer).unwrap();
        let waiting = state.waiting.clone();
        // A panic under the lock would be one for everybody who takes it.
        drop(state);
        assert!(!timeout.timed_out(), "{waiting:?}");
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.shared.state.lock().unwrap().held = &[];
        self.0.shared.changed.notify_all();
    }
}

impl HeldDisk {
    pub(crate) fn of(disk: impl Disk + 'static) -> Self {
        Self { disk: Arc::new(disk), shared: Arc::default() }
    }

    /// Makes calls of these kinds wait.
    pub(crate) fn hold(&self, calls: &'static [Call]) -> Hold<'_> {
        self.hold_in("", calls)
    }

    /// Makes calls of these kinds wait whose paths contain `part`.
    pub(crate) fn hold_in(&self, part: &'static str, calls: &'static [Call]) -> Hold<'_> {
        let mut state = self.shared.state.lock().unwrap();
        (state.held, state.held_part) = (calls, part);
        Hold(self)
    }

    /// The calls since the last time this was asked.
    pub(crate) fn take_calls(&self) -> Vec<Made> {
        std::mem::take(&mut self.shared.state.lock().unwrap().made)
    }

    /// Notes a call, and waits as long as it is held.
    fn enter(&self, call: Call, path: &Path) {
        let thread = thread::current().name().unwrap_or_default().to_owned();
        let made = Made { call, path: path.display().to_string(), thread };
        let mut state = self.shared.state.lock().unwrap();
        state.made.push(made.clone());
        state.waiting.push(made.clone());
        self.shared.changed.notify_all();
        let held =
            |state: &mut State| state.held.contains(&call) && made.path.contains(state.held_part);
        let mut state = self.shared.changed.wait_while(state, held).unwrap();
        let is_this = |waiting: &Made| waiting.call == call && waiting.path == made.path;
        let place = state.waiting.iter().position(is_this).unwrap();
        state.waiting.swap_remove(place);
    }

    fn watch(&self, path: &Path, file: io::Result<Arc<dyn File>>) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(HeldFile { file: file?, path: path.to_owned(), disk: self.clone() }))
    }
}

impl Disk for HeldDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.enter(Call::CreateDir, path);
        self.disk.create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.enter(Call::List, path);
        self.disk.list(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.enter(Call::Create, path);
        self.watch(path, self.disk.create(path))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.enter(Call::Create, path);
        self.watch(path, self.disk.create_new(path))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.watch(path, self.disk.open(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.enter(Call::Rename, from);
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.enter(Call::Remove, path);
        self.disk.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.enter(Call::Remove, path);
        self.disk.remove_dir(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.free_bytes(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.enter(Call::SyncDir, path);
        self.disk.sync_dir(path)
    }

    fn lock(&self, path: &Path) -> Result<DirLock, LockError> {
        self.disk.lock(path)
    }

    fn entropy(&self) -> io::Result<[u8; 16]> {
        self.disk.entropy()
    }
}

#[derive(Debug)]
struct HeldFile {
    file: Arc<dyn File>,
    path: PathBuf,
    disk: HeldDisk,
}

impl File for HeldFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.enter(Call::Read, &self.path);
        self.file.read_at(buf, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.enter(Call::Write, &self.path);
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
        self.disk.enter(Call::Flush, &self.path);
        self.file.sync_data()
    }
}
