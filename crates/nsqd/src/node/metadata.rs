//! `nsqd.dat`: the list of topics and channels, in the format of the Go nsqd, so that its tools can read it
//! and its folders can be taken over.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

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

/// The file.
pub(crate) struct Metadata {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    writing: Mutex<()>,
}

impl Metadata {
    pub(crate) fn new(disk: Arc<dyn Disk>, data_path: &Path) -> Self {
        Self { disk, path: data_path.join("nsqd.dat"), writing: Mutex::new(()) }
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
    /// writes the newest catalog.
    ///
    /// # Errors
    /// When the folder cannot take it; the old file stays.
    pub(crate) fn write(&self, catalog: impl FnOnce() -> Catalog) -> io::Result<()> {
        let _writing = lock(&self.writing);
        let text = serde_json::to_vec(&catalog())?;
        replace_file(&*self.disk, &self.path, &text).map_err(io::Error::other)
    }
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
    use std::fs;

    use nsq_log::RealDisk;

    use super::*;

    fn metadata(folder: &Path) -> Metadata {
        Metadata::new(Arc::new(RealDisk), folder)
    }

    #[test]
    fn the_file_has_the_bytes_the_original_writes() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = metadata(folder.path());
        metadata.write(|| Catalog::new(Vec::new())).unwrap();
        let read = || fs::read_to_string(metadata.path()).unwrap();
        assert_eq!(read(), r#"{"topics":null,"version":"1.3.0"}"#);
        let channel = CatalogChannel { name: "c".to_owned(), paused: true };
        let topics = vec![
            CatalogTopic { name: "t".to_owned(), paused: false, channels: Some(vec![channel]) },
            CatalogTopic { name: "u".to_owned(), paused: true, channels: None },
        ];
        let catalog = Catalog::new(topics);
        metadata.write(|| catalog.clone()).unwrap();
        let expected = concat!(
            r#"{"topics":[{"name":"t","paused":false,"channels":[{"name":"c","paused":true}]},"#,
            r#"{"name":"u","paused":true,"channels":null}],"version":"1.3.0"}"#
        );
        assert_eq!(read(), expected);
        assert_eq!(metadata.read().unwrap(), catalog);
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
