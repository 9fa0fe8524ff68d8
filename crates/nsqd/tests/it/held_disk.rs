//! A disk on which folders are created only when the test allows it.

use std::{
    io,
    path::Path,
    sync::{Arc, Condvar, Mutex},
};

use nsq_log::{DirLock, Disk, File, LockError, RealDisk};

use crate::support::PATIENCE;

/// The real disk, whose `create_dir` waits while it is held.
#[derive(Debug, Default)]
pub(crate) struct HeldDisk {
    gate: Mutex<Gate>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Gate {
    held: bool,
    /// How many calls wait.
    callers: usize,
}

impl HeldDisk {
    pub(crate) fn hold(&self) {
        self.gate.lock().unwrap().held = true;
    }

    pub(crate) fn release(&self) {
        self.gate.lock().unwrap().held = false;
        self.changed.notify_all();
    }

    /// Waits until a call waits for [`HeldDisk::release`].
    pub(crate) fn wait_for_a_caller(&self) {
        let idle = |gate: &mut Gate| gate.callers == 0;
        let gate = self.gate.lock().unwrap();
        let (_gate, timeout) = self.changed.wait_timeout_while(gate, PATIENCE, idle).unwrap();
        assert!(!timeout.timed_out(), "the disk was not asked");
    }
}

impl Disk for HeldDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut gate = self.gate.lock().unwrap();
        gate.callers += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(gate, |gate| gate.held).unwrap());
        self.gate.lock().unwrap().callers -= 1;
        RealDisk.create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        RealDisk.create(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        RealDisk.create_new(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        RealDisk.open(path)
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
        RealDisk.sync_dir(path)
    }

    fn lock(&self, path: &Path) -> Result<DirLock, LockError> {
        RealDisk.lock(path)
    }

    fn entropy(&self) -> io::Result<[u8; 16]> {
        RealDisk.entropy()
    }
}
