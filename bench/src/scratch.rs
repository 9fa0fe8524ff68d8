//! The scratch directory, for the data and logs of servers.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::sys::signal::{SigSet, Signal};

use crate::{failure::Failure, leash};

/// The scratch directory, removed on drop.
pub(crate) struct Scratch {
    root: PathBuf,
    runs: u64,
}

impl Scratch {
    /// Creates a scratch directory in `parent`.
    ///
    /// # Errors
    /// Returns the system's error.
    pub(crate) fn create(parent: &Path) -> Result<Self, Failure> {
        let root = parent.join(format!("nsq-bench-{}", std::process::id()));
        fs::create_dir_all(&root).map_err(Failure::io(format!("create {}", root.display())))?;
        Ok(Self { root, runs: 0 })
    }

    /// When the program is interrupted, kills the servers, removes the directory and exits.
    ///
    /// Must be called before any thread is started, because it blocks the signals for all threads.
    ///
    /// # Errors
    /// Returns the system's error.
    pub(crate) fn clean_up_when_interrupted(&self) -> Result<(), Failure> {
        let signals: SigSet =
            [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        signals.thread_block().map_err(Failure::os("block signals"))?;
        let root = self.root.clone();
        thread::spawn(move || {
            let signal = signals.wait();
            let _held = leash::kill_all();
            remove(&root);
            end(128 + signal.map_or(0, |signal| signal as i32))
        });
        Ok(())
    }

    /// Creates a new directory in the scratch directory.
    ///
    /// # Errors
    /// Returns the system's error.
    pub(crate) fn next(&mut self) -> Result<PathBuf, Failure> {
        self.runs += 1;
        let directory = self.root.join(self.runs.to_string());
        fs::create_dir(&directory)
            .map_err(Failure::io(format!("create {}", directory.display())))?;
        Ok(directory)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.root);
    }
}

/// Removes a directory. A killed server may still create files for a moment, so the removal is
/// retried.
pub(crate) fn remove(directory: &Path) {
    for _ in 0..50 {
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                thread::sleep(Duration::from_millis(20));
            }
            _ => return,
        }
    }
}

#[expect(clippy::exit, reason = "an interrupted benchmark has no caller to return to")]
fn end(code: i32) -> ! {
    std::process::exit(code)
}
