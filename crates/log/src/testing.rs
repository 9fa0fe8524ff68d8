//! A disk in memory that lies: it runs out of space, fails, tears writes, and forgets unflushed writes.
//!
//! It holds two images. Programs see the *live* one, which also survives a kill of the process. A power cut leaves the
//! *durable* one: flushed bytes and names, and any part of those that were not flushed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use rustix::io::Errno;

use crate::{
    disk::{DirLock, Disk, File},
    error::LockError,
    lock,
    node::Clocks,
};

/// A disk in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct FaultyDisk(Arc<Mutex<Inner>>);

/// How the process comes to its end.
#[derive(Copy, Clone, Debug)]
pub enum Stop {
    /// It is killed: everything written stays.
    Kill,
    /// The machine loses power: unflushed writes may be lost, in part or as a whole, in any order; the seed decides.
    PowerCut {
        /// Where the dice start.
        seed: u64,
    },
}

/// Which operations fail, and how, until something else is said.
#[derive(Copy, Clone, Debug, Default)]
pub struct Denied {
    /// Opening and creating files; opening directories, to list or sync them.
    pub open: Option<Errno>,
    /// Writing; half of the bytes are written.
    pub write: Option<Errno>,
    /// Reading.
    pub read: Option<Errno>,
    /// Cutting files.
    pub truncate: Option<Errno>,
    /// Syncing files and directories.
    pub sync: Option<Errno>,
}

#[derive(Debug, Default)]
struct Inner {
    live: Names,
    durable: Names,
    /// Changes to `live` that are not in `durable`, in order.
    pending: Vec<NameChange>,
    files: Vec<Contents>,
    locked: BTreeSet<PathBuf>,
    denied: Denied,
    /// Files and directories that can still be opened, if that is bounded.
    opens_left: Option<u64>,
    /// Files and directories that cannot be opened, listed or renamed.
    broken: BTreeMap<PathBuf, Errno>,
    /// Bytes that all files together may have.
    space: Option<usize>,
    changes: u64,
    syncs: u64,
    bytes_read: u64,
    crash_at: Option<u64>,
    crashed: bool,
    entropy: u64,
    /// How often the machine was booted.
    boots: u8,
}

type Names = BTreeMap<PathBuf, Entry>;

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Entry {
    Dir,
    File(usize),
}

#[derive(Clone, Debug)]
enum NameChange {
    Add(PathBuf, Entry),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Clone, Debug, Default)]
struct Contents {
    live: Vec<u8>,
    /// Bytes that are reserved and, as zeros, part of the file.
    reserved: usize,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl FaultyDisk {
    /// An empty disk with one directory, which is durable.
    pub fn new(root: &Path) -> Self {
        let disk = Self::default();
        let mut inner = lock(&disk.0);
        inner.live.insert(root.to_owned(), Entry::Dir);
        inner.durable.insert(root.to_owned(), Entry::Dir);
        drop(inner);
        disk
    }

    /// The clocks of the machine: every boot has its own id, and time stands still.
    pub fn clocks(&self) -> Clocks {
        let boot_id = [lock(&self.0).boots + 1; 16];
        Clocks { boot_id, since_boot_ns: 1 << 40, wall_ns: 1 << 60 }
    }

    /// Sets which operations fail.
    pub fn deny(&self, denied: Denied) {
        lock(&self.0).denied = denied;
    }

    /// Sets how many more files and directories can be opened before descriptors run out.
    pub fn limit_opens(&self, count: Option<u64>) {
        lock(&self.0).opens_left = count;
    }

    /// Returns whether descriptors have run out.
    pub fn opens_are_used_up(&self) -> bool {
        lock(&self.0).opens_left == Some(0)
    }

    /// Makes a file or directory fail, or work again.
    pub fn break_path(&self, path: &Path, errno: Option<Errno>) {
        let broken = &mut lock(&self.0).broken;
        match errno {
            Some(errno) => drop(broken.insert(path.to_owned(), errno)),
            None => drop(broken.remove(path)),
        }
    }

    /// Bounds the bytes of all files together.
    pub fn limit_space(&self, bytes: Option<usize>) {
        lock(&self.0).space = bytes;
    }

    /// Bytes of all files together.
    pub fn used(&self) -> usize {
        lock(&self.0).used()
    }

    /// The number of changes (writes, syncs, names) made so far.
    pub fn changes(&self) -> u64 {
        lock(&self.0).changes
    }

    /// The number of flushes of files and directories so far.
    pub fn syncs(&self) -> u64 {
        lock(&self.0).syncs
    }

    /// The number of bytes read from files so far.
    pub fn bytes_read(&self) -> u64 {
        lock(&self.0).bytes_read
    }

    /// Stops the world during change number `change`, of which a write is half done.
    pub fn crash_at(&self, change: u64) {
        lock(&self.0).crash_at = Some(change);
    }

    /// Returns true if the world has stopped.
    pub fn crashed(&self) -> bool {
        lock(&self.0).crashed
    }

    /// The disk that the next process finds.
    pub fn restart(&self, stop: Stop) -> Self {
        let inner = lock(&self.0);
        let (names, files) = match stop {
            Stop::Kill => {
                (inner.live.clone(), inner.files.iter().map(|f| f.live.clone()).collect())
            }
            Stop::PowerCut { seed } => inner.after_power_cut(&mut Dice(seed)),
        };
        let settled = |bytes: Vec<u8>| match stop {
            // Writes of a killed process are still only in the operating system's memory.
            Stop::Kill => Contents {
                pending: vec![Change::Write(0, bytes.clone())],
                live: bytes,
                ..Contents::default()
            },
            Stop::PowerCut { .. } => {
                Contents { durable: bytes.clone(), live: bytes, ..Contents::default() }
            }
        };
        let mut files: Vec<Contents> = files.into_iter().map(settled).collect();
        let (mut durable, mut pending) = (names.clone(), Vec::new());
        if let Stop::Kill = stop {
            (durable, pending) = (inner.durable.clone(), inner.pending.clone());
            for (new, old) in files.iter_mut().zip(&inner.files) {
                (new.durable, new.pending) = (old.durable.clone(), old.pending.clone());
                new.reserved = old.reserved;
            }
        }
        let restarted = Inner {
            live: names,
            durable,
            pending,
            files,
            entropy: inner.entropy,
            boots: inner.boots + u8::from(matches!(stop, Stop::PowerCut { .. })),
            ..Inner::default()
        };
        Self(Arc::new(Mutex::new(restarted)))
    }

    /// The files below `dir` and their contents.
    pub fn files(&self, dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let inner = lock(&self.0);
        let below = inner.live.iter().filter(|(path, _)| path.starts_with(dir));
        let files = below.filter_map(|(path, entry)| match entry {
            Entry::File(id) => Some((path.clone(), inner.files[*id].live.clone())),
            Entry::Dir => None,
        });
        files.collect()
    }

    /// Changes a file's contents, as a fault of the device would.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn edit(&self, path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = lock(&self.0);
        let Some(Entry::File(id)) = inner.live.get(path).copied() else {
            panic!("no file {}", path.display());
        };
        edit(&mut inner.files[id].live);
        let bytes = inner.files[id].live.clone();
        inner.files[id] = Contents { durable: bytes.clone(), live: bytes, ..Contents::default() };
    }

    fn change(&self) -> io::Result<(MutexGuard<'_, Inner>, bool)> {
        let mut inner = lock(&self.0);
        inner.alive()?;
        inner.changes += 1;
        let last = inner.crash_at.is_some_and(|at| inner.changes >= at);
        inner.crashed = last;
        Ok((inner, last))
    }

    /// Adds an empty file, in one step for other threads.
    fn add_file(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut id = 0;
        self.rename_with(|inner| {
            inner.parent_exists(path)?;
            if inner.live.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            id = inner.files.len();
            inner.files.push(Contents::default());
            Ok(NameChange::Add(path.to_owned(), Entry::File(id)))
        })?;
        Ok(Arc::new(FaultyFile { disk: self.clone(), id }))
    }

    /// A change of names: done, or, when the world stops here, not.
    fn rename_with(
        &self,
        make: impl FnOnce(&mut Inner) -> io::Result<NameChange>,
    ) -> io::Result<()> {
        let (mut inner, last) = self.change()?;
        if last {
            return Err(crashed());
        }
        let change = make(&mut inner)?;
        apply(&mut inner.live, &change);
        inner.pending.push(change);
        Ok(())
    }
}

impl Inner {
    fn alive(&self) -> io::Result<()> {
        if self.crashed { Err(crashed()) } else { Ok(()) }
    }

    fn used(&self) -> usize {
        let entries = self.live.values();
        let sizes = entries.map(|entry| match entry {
            Entry::File(id) => self.files[*id].len(),
            Entry::Dir => 0,
        });
        sizes.sum()
    }

    fn take_descriptor(&mut self) -> io::Result<()> {
        check(self.denied.open)?;
        match &mut self.opens_left {
            Some(0) => Err(Errno::MFILE.into()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn check_path(&self, path: &Path) -> io::Result<()> {
        check(self.broken.get(path).copied())
    }

    fn parent_exists(&self, path: &Path) -> io::Result<()> {
        match path.parent().and_then(|parent| self.live.get(parent)) {
            Some(Entry::Dir) => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn after_power_cut(&self, dice: &mut Dice) -> (Names, Vec<Vec<u8>>) {
        let mut names = self.durable.clone();
        // File systems keep the order of names, not that of names and bytes.
        let kept = dice.below(self.pending.len() as u64 + 1);
        for change in self.pending.iter().take(usize::try_from(kept).unwrap_or(0)) {
            apply(&mut names, change);
        }
        let paths: Vec<_> = names.keys().cloned().collect();
        for path in paths {
            let orphan = path.parent().is_some_and(|parent| {
                !self.is_root(&path) && names.get(parent) != Some(&Entry::Dir)
            });
            if orphan {
                names.remove(&path);
            }
        }
        (names, self.files.iter().map(|file| file.after_power_cut(dice)).collect())
    }

    fn is_root(&self, path: &Path) -> bool {
        let is_known = |path| self.live.contains_key(path) || self.durable.contains_key(path);
        !path.ancestors().skip(1).any(is_known)
    }
}

impl Contents {
    fn len(&self) -> usize {
        self.live.len().max(self.reserved)
    }

    fn after_power_cut(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        match dice.below(4) {
            0 => return bytes,
            1 => return self.live.clone(),
            _ => {}
        }
        for change in &self.pending {
            match (dice.below(3), change) {
                (0, _) => {}
                (1, Change::Write(at, data)) => {
                    let torn = dice.below(data.len() as u64 + 1);
                    write(&mut bytes, *at, &data[..usize::try_from(torn).unwrap_or(0)]);
                }
                (_, Change::Write(at, data)) => write(&mut bytes, *at, data),
                (_, Change::Truncate(length)) => bytes.truncate(*length),
            }
        }
        bytes
    }
}

fn apply(names: &mut Names, change: &NameChange) {
    match change {
        NameChange::Add(path, entry) => {
            names.insert(path.clone(), *entry);
        }
        NameChange::Remove(path) => {
            names.remove(path);
        }
        NameChange::Rename(from, to) => {
            let moved: Vec<_> =
                names.keys().filter(|path| path.starts_with(from)).cloned().collect();
            for path in moved {
                let Some(entry) = names.remove(&path) else { continue };
                let rest = path.strip_prefix(from).unwrap_or_else(|_| Path::new(""));
                let target = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                names.insert(target, entry);
            }
        }
    }
}

fn write(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    if bytes.len() < at + data.len() {
        bytes.resize(at + data.len(), 0);
    }
    bytes[at..at + data.len()].copy_from_slice(data);
}

fn crashed() -> io::Error {
    io::Error::other("the machine has stopped")
}

fn check(denied: Option<Errno>) -> io::Result<()> {
    denied.map_or(Ok(()), |errno| Err(errno.into()))
}

/// A small generator of pseudo-random numbers (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

impl Disk for FaultyDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if let Some(Entry::Dir) = lock(&self.0).live.get(path) {
            return Ok(());
        }
        self.rename_with(|inner| {
            inner.parent_exists(path)?;
            Ok(NameChange::Add(path.to_owned(), Entry::Dir))
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut inner = lock(&self.0);
        inner.alive()?;
        inner.take_descriptor()?;
        inner.check_path(path)?;
        match inner.live.get(path) {
            Some(Entry::Dir) => {}
            Some(Entry::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        let entries = inner.live.keys().filter(|entry| entry.parent() == Some(path));
        let names = entries.filter_map(|entry| entry.file_name()?.to_str().map(str::to_owned));
        Ok(names.collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        lock(&self.0).take_descriptor()?;
        let existing = lock(&self.0).live.get(path).copied();
        if let Some(Entry::File(id)) = existing {
            let file = FaultyFile { disk: self.clone(), id };
            file.truncate(0)?;
            return Ok(Arc::new(file));
        }
        self.add_file(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        if lock(&self.0).live.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        lock(&self.0).take_descriptor()?;
        self.add_file(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut inner = lock(&self.0);
        inner.alive()?;
        inner.take_descriptor()?;
        inner.check_path(path)?;
        match inner.live.get(path) {
            Some(Entry::File(id)) => Ok(Arc::new(FaultyFile { disk: self.clone(), id: *id })),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        lock(&self.0).check_path(from)?;
        self.rename_with(|inner| {
            if !inner.live.contains_key(from) {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(NameChange::Rename(from.to_owned(), to.to_owned()))
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.rename_with(|inner| match inner.live.get(path) {
            Some(Entry::File(_)) => Ok(NameChange::Remove(path.to_owned())),
            _ => Err(io::ErrorKind::NotFound.into()),
        })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.rename_with(|inner| {
            if inner.live.keys().any(|entry| entry.parent() == Some(path)) {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            Ok(NameChange::Remove(path.to_owned()))
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        lock(&self.0).take_descriptor()?;
        let (mut inner, last) = self.change()?;
        check(inner.denied.sync)?;
        inner.syncs += 1;
        if last {
            return Err(crashed());
        }
        let pending = std::mem::take(&mut inner.pending);
        for change in pending {
            let (NameChange::Add(name, _) | NameChange::Remove(name) | NameChange::Rename(_, name)) =
                &change;
            if name.parent() == Some(path) {
                apply(&mut inner.durable, &change);
            } else {
                inner.pending.push(change);
            }
        }
        Ok(())
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let inner = lock(&self.0);
        inner.alive()?;
        let free = inner.space.map_or(usize::MAX, |space| space.saturating_sub(inner.used()));
        Ok(free as u64)
    }

    fn lock(&self, path: &Path) -> Result<DirLock, LockError> {
        let mut inner = lock(&self.0);
        if inner.live.get(path) != Some(&Entry::Dir) {
            let source = Errno::NOENT.into();
            return Err(LockError::Open { path: path.to_owned(), source });
        }
        if !inner.locked.insert(path.to_owned()) {
            let source = Errno::WOULDBLOCK.into();
            return Err(LockError::Flock { path: path.to_owned(), source });
        }
        Ok(DirLock::new(Unlock { disk: self.clone(), path: path.to_owned() }))
    }

    fn entropy(&self) -> io::Result<[u8; 16]> {
        let mut inner = lock(&self.0);
        inner.alive()?;
        inner.entropy += 1;
        let mut dice = Dice(inner.entropy);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&dice.next().to_be_bytes());
        bytes[8..].copy_from_slice(&dice.next().to_be_bytes());
        Ok(bytes)
    }
}

struct Unlock {
    disk: FaultyDisk,
    path: PathBuf,
}

impl Drop for Unlock {
    fn drop(&mut self) {
        lock(&self.disk.0).locked.remove(&self.path);
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyDisk,
    id: usize,
}

fn to_usize(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

impl File for FaultyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut inner = lock(&self.disk.0);
        inner.alive()?;
        check(inner.denied.read)?;
        let bytes = inner.files[self.id].live.get(to_usize(offset)..).unwrap_or(&[]);
        let count = bytes.len().min(buf.len());
        buf[..count].copy_from_slice(&bytes[..count]);
        inner.bytes_read += count as u64;
        Ok(count)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (mut inner, last) = self.disk.change()?;
        let at = to_usize(offset);
        let grown = (at + bytes.len()).saturating_sub(inner.files[self.id].live.len());
        let space = inner.space.filter(|_| grown > 0);
        let missing = space.map_or(0, |space| (inner.used() + grown).saturating_sub(space));
        let result = if last {
            Err(crashed())
        } else if missing > 0 {
            Err(Errno::NOSPC.into())
        } else {
            check(inner.denied.write)
        };
        let done = match &result {
            Ok(()) => bytes.len(),
            Err(_) if missing > 0 => bytes.len().saturating_sub(missing),
            Err(_) => bytes.len() / 2,
        };
        let file = &mut inner.files[self.id];
        write(&mut file.live, at, &bytes[..done]);
        file.pending.push(Change::Write(at, bytes[..done].to_vec()));
        result
    }

    fn len(&self) -> io::Result<u64> {
        let inner = lock(&self.disk.0);
        inner.alive()?;
        Ok(inner.files[self.id].len() as u64)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let (mut inner, last) = self.disk.change()?;
        if last {
            return Err(crashed());
        }
        let grown = to_usize(bytes).saturating_sub(inner.files[self.id].len());
        if inner.space.is_some_and(|space| inner.used() + grown > space) {
            return Err(Errno::NOSPC.into());
        }
        inner.files[self.id].reserved = to_usize(bytes);
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let (mut inner, last) = self.disk.change()?;
        check(inner.denied.truncate)?;
        if last {
            return Err(crashed());
        }
        let file = &mut inner.files[self.id];
        file.live.truncate(to_usize(bytes));
        file.pending.push(Change::Truncate(to_usize(bytes)));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut inner, last) = self.disk.change()?;
        check(inner.denied.sync)?;
        inner.syncs += 1;
        if last {
            return Err(crashed());
        }
        let file = &mut inner.files[self.id];
        file.durable.clone_from(&file.live);
        file.pending.clear();
        Ok(())
    }
}
