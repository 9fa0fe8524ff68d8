//! The watch over the files of a server's TLS.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, sync::PoisonError, time::Duration};

use tokio::time::MissedTickBehavior;

use super::{ServerTls, Settings};
use crate::log::Logger;

/// The state of the files, by which a change shows. A file that is not there has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp(Vec<Option<FileState>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct FileState {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl Stamp {
    pub(super) fn take(settings: &Settings) -> Self {
        let files = [&settings.certificate_file, &settings.key_file].into_iter();
        let files = files.chain(&settings.root_ca_file);
        Self(files.map(|file| FileState::of(file)).collect())
    }
}

impl FileState {
    /// Links are followed: replacing a link is how some tools replace several files at once.
    fn of(file: &Path) -> Option<Self> {
        let file = fs::metadata(file).ok()?;
        Some(Self {
            device: file.dev(),
            inode: file.ino(),
            bytes: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
        })
    }
}

impl ServerTls {
    /// Looks at the files in every `interval`, for ever, and reads them again when they have changed. Files that are
    /// still changing are left alone until the next look, as they are replaced one after the other.
    pub async fn watch(&self, interval: Duration, logger: &Logger) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            ticks.tick().await;
            let (tls, logger) = (self.clone(), logger.clone());
            let looked = tokio::task::spawn_blocking(move || tls.look(seen.as_ref(), &logger));
            // A look that panicked has changed nothing, and the next one may fare better.
            seen = looked.await.ok();
        }
    }

    /// Reads the files again if they have changed, and not since they were `seen` last. Returns their state.
    fn look(&self, seen: Option<&Stamp>, logger: &Logger) -> Stamp {
        let stamp = Stamp::take(&self.shared.settings);
        let is_read = *self.shared.read.lock().unwrap_or_else(PoisonError::into_inner) == stamp;
        if !is_read && seen == Some(&stamp) {
            self.reload(logger);
        }
        stamp
    }
}
