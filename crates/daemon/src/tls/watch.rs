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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        log::{Capture, Level},
        tls::{ClientAuth, MinVersion},
    };

    /// Files with a certificate, a server that has read them, and its log.
    fn server() -> (tempfile::TempDir, ServerTls, Capture, Logger) {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            certificate_file: folder.path().join("server.pem"),
            key_file: folder.path().join("server.key"),
            client_auth: ClientAuth::NotRequested,
            root_ca_file: None,
            min_version: MinVersion::Tls12,
        };
        replace_key_first(folder.path(), || ());
        let log = Capture::new();
        let logger = Logger::with_sink("", Level::Info, log.clone());
        (folder, ServerTls::load(settings).unwrap(), log, logger)
    }

    fn replace_key_first(folder: &Path, meanwhile: impl FnOnce()) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        put(folder, "server.key", &made.key_pair.serialize_pem());
        meanwhile();
        put(folder, "server.pem", &made.cert.pem());
    }

    fn put(folder: &Path, name: &str, content: &str) {
        fs::write(folder.join("fresh"), content).unwrap();
        fs::rename(folder.join("fresh"), folder.join(name)).unwrap();
    }

    #[test]
    fn files_are_read_again_when_they_have_stopped_changing() {
        let (folder, tls, log, logger) = server();
        let mut seen = None;
        let mut look = || seen = Some(tls.look(seen.as_ref(), &logger));
        look();
        look();
        replace_key_first(folder.path(), &mut look);
        look();
        assert!(log.texts().is_empty(), "{:?}", log.texts());
        look();
        look();
        assert_eq!(log.texts().len(), 1, "{:?}", log.texts());
        assert!(log.texts()[0].starts_with("INFO: TLS: now using the certificate in "));
    }

    #[test]
    fn files_that_stay_bad_are_reported_once() {
        let (folder, tls, log, logger) = server();
        put(folder.path(), "server.key", "no key");
        let mut seen = None;
        for _ in 0..5 {
            seen = Some(tls.look(seen.as_ref(), &logger));
        }
        fs::remove_file(folder.path().join("server.pem")).unwrap();
        for _ in 0..5 {
            seen = Some(tls.look(seen.as_ref(), &logger));
        }
        let log = log.texts();
        assert_eq!(log.len(), 2, "{log:?}");
        assert!(log[0].starts_with("ERROR: TLS: keeping the certificate in use - "), "{log:?}");
        assert!(log[1].ends_with("no such file or directory"), "{log:?}");
    }
}
