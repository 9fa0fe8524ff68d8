//! `nsqd.dat`: the list of topics and channels, in the format of the Go nsqd, so that its tools can read it
//! and its folders can be taken over.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nsq_broker::Time;
use nsq_log::{Disk, replace_file};
use serde::{Deserialize, Serialize};

use crate::{VERSION, lock::lock};

/// The contents of `nsqd.dat`. Unknown keys are passed over, missing ones are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Catalog {
    /// `null` when there are none, as the Go nsqd writes it.
    pub(crate) topics: Option<Vec<CatalogTopic>>,
    pub(crate) version: String,
}

/// A topic in `nsqd.dat`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CatalogTopic {
    pub(crate) name: String,
    pub(crate) paused: bool,
    pub(crate) channels: Option<Vec<CatalogChannel>>,
}

/// A channel in `nsqd.dat`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CatalogChannel {
    pub(crate) name: String,
    pub(crate) paused: bool,
}

impl Catalog {
    pub(crate) fn new(topics: Vec<CatalogTopic>) -> Self {
        Self { topics: (!topics.is_empty()).then_some(topics), version: VERSION.to_owned() }
    }
}

/// The bytes of the file that are written in a second, in the long run, while topics and channels come and go.
const BYTES_PER_SECOND: u32 = 1 << 20;
/// A shorter rest is not worth a wait.
const REST_MIN: Duration = Duration::from_millis(100);

/// The file.
pub(crate) struct Metadata {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// The number of calls of [`Metadata::write`].
    asked: AtomicU64,
    /// The calls before this one have been written.
    written: Mutex<u64>,
    /// When the file may be written again in the background, in node time.
    rests_until: AtomicU64,
}

impl Metadata {
    pub(crate) fn new(disk: Arc<dyn Disk>, data_path: &Path) -> Self {
        Self {
            disk,
            path: data_path.join("nsqd.dat"),
            asked: AtomicU64::new(0),
            written: Mutex::new(0),
            rests_until: AtomicU64::new(0),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file; a missing one is empty.
    ///
    /// # Errors
    /// When it cannot be read or parsed: it must not be overwritten then.
    pub(crate) fn read(&self) -> Result<Catalog, MetadataError> {
        let failed = |source| MetadataError::Io { path: self.path.clone(), source };
        let file = match self.disk.open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Catalog::default()),
            Err(error) => return Err(failed(error)),
        };
        let length = file.len().map_err(failed)?;
        let mut text = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        let read = file.read_at(&mut text, 0).map_err(failed)?;
        parse(&text[..read])
            .map_err(|source| MetadataError::Parse { path: self.path.clone(), source })
    }

    /// Replaces the file, so that a crash leaves either the old one or the new one. Calls take turns: the last one
    /// writes the newest catalog, and for those that have waited with it.
    ///
    /// # Errors
    /// When the folder cannot take it; the old file stays.
    pub(crate) fn write(&self, catalog: impl FnOnce() -> Catalog, now: Time) -> io::Result<()> {
        let turn = self.asked.fetch_add(1, Ordering::AcqRel);
        let mut written = lock(&self.written);
        if turn < *written {
            return Ok(());
        }
        // Their changes were made before they asked, so the catalog has them.
        let upto = self.asked.load(Ordering::Acquire);
        let text = serde_json::to_vec(&catalog())?;
        replace_file(&*self.disk, &self.path, &text).map_err(io::Error::other)?;
        *written = upto;
        self.rests_until.store((now + rest_after(text.len())).0, Ordering::Release);
        Ok(())
    }

    /// The time until the file may be written again in the background, so that writing all of it at every change stays
    /// cheap however long it is.
    pub(super) fn rest_left(&self, now: Time) -> Duration {
        Time(self.rests_until.load(Ordering::Acquire)).since(now)
    }
}

/// The rest after a write.
fn rest_after(bytes: usize) -> Duration {
    let rest = Duration::from_secs(bytes as u64) / BYTES_PER_SECOND;
    if rest < REST_MIN { Duration::ZERO } else { rest }
}

/// Parses a catalog, which is an object: serde would take an array for its fields in their order.
fn parse(text: &[u8]) -> serde_json::Result<Catalog> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(text)?;
    Catalog::deserialize(serde_json::Value::Object(object))
}

/// Why `nsqd.dat` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The file cannot be read.
    #[error("failed to read metadata from {} - {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is not JSON of the expected shape.
    #[error("failed to parse metadata in {} - {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Barrier, thread};

    use nsq_log::RealDisk;

    use super::*;

    fn metadata(folder: &Path) -> Metadata {
        Metadata::new(Arc::new(RealDisk), folder)
    }

    #[test]
    fn the_file_has_the_bytes_the_original_writes() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = metadata(folder.path());
        metadata.write(|| Catalog::new(Vec::new()), Time(0)).unwrap();
        let read = || fs::read_to_string(metadata.path()).unwrap();
        assert_eq!(read(), r#"{"topics":null,"version":"1.3.0"}"#);
        let channel = CatalogChannel { name: "c".to_owned(), paused: true };
        let topics = vec![
            CatalogTopic { name: "t".to_owned(), paused: false, channels: Some(vec![channel]) },
            CatalogTopic { name: "u".to_owned(), paused: true, channels: None },
        ];
        let catalog = Catalog::new(topics);
        metadata.write(|| catalog.clone(), Time(0)).unwrap();
        let expected = concat!(
            r#"{"topics":[{"name":"t","paused":false,"channels":[{"name":"c","paused":true}]},"#,
            r#"{"name":"u","paused":true,"channels":null}],"version":"1.3.0"}"#
        );
        assert_eq!(read(), expected);
        assert_eq!(metadata.read().unwrap(), catalog);
    }

    #[test]
    fn a_file_rests_in_proportion_to_its_length_and_a_short_one_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = metadata(folder.path());
        let topic = |number: usize| CatalogTopic {
            name: format!("topic-{number:09}"),
            ..CatalogTopic::default()
        };
        let rest_after = |topics: usize| {
            metadata.write(|| Catalog::new((0..topics).map(topic).collect()), Time(7)).unwrap();
            metadata.rest_left(Time(7))
        };
        assert_eq!(rest_after(1000), Duration::ZERO);
        let (some, many) = (rest_after(10_000), rest_after(100_000));
        assert!((200..1000).contains(&some.as_millis()), "{some:?}");
        assert!((2..10).contains(&many.as_secs()), "{many:?}");
        assert_eq!(metadata.rest_left(Time(7) + many), Duration::ZERO);
    }

    #[test]
    fn calls_that_wait_for_a_write_share_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = metadata(folder.path());
        let writes = AtomicU64::new(0);
        let first_has_begun = Barrier::new(2);
        let write = || {
            writes.fetch_add(1, Ordering::Relaxed);
            Catalog::default()
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                let slow = || {
                    first_has_begun.wait();
                    while metadata.asked.load(Ordering::Acquire) < 9 {
                        thread::yield_now();
                    }
                    write()
                };
                metadata.write(slow, Time(0)).unwrap();
            });
            first_has_begun.wait();
            for _ in 0..8 {
                scope.spawn(|| metadata.write(write, Time(0)).unwrap());
            }
        });
        assert_eq!(writes.into_inner(), 2);
    }

    #[test]
    fn a_missing_file_is_empty_and_a_broken_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = metadata(folder.path());
        assert_eq!(metadata.read().unwrap(), Catalog::default());
        for text in ["", "{", "{}x", "[]", "null", r#"{"topics":7}"#] {
            fs::write(metadata.path(), text).unwrap();
            assert!(
                metadata.read().unwrap_err().to_string().contains("failed to parse metadata"),
                "{text:?}"
            );
        }
    }
}
