//! A queue as the Go nsqd has left it: where its unread messages begin, and what of its files can be read.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{
    files::{QueueFiles, data_name, meta_name},
    meta::{Meta, QueuePosition},
    records::{Item, Record, Records},
};
use crate::{
    disk::Disk,
    error::{Context, IoError},
};

/// The longest meta file.
const META_BYTES_MAX: usize = 1024;
/// The most missing files that are named.
const MISSING_FILES_MAX: usize = 8;

/// Something odd about the files of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// `nsqd.dat` does not list the topic or channel, which is created all the same.
    Unlisted,
    /// There is no meta file: everything in the data files is taken for unread.
    MetaMissing,
    /// The meta file makes no sense: everything in the data files is taken for unread.
    MetaUnusable,
    /// Messages lie behind the recorded end of the queue, as after a kill.
    Unrecorded {
        /// How many.
        messages: u64,
    },
    /// Bytes of a data file are no records.
    Unreadable {
        /// The name of the file.
        file: String,
        /// The offset of the first of them.
        offset: u64,
        /// How many, all together.
        bytes: u64,
    },
    /// A data file that should hold unread messages is not there.
    Missing {
        /// The name of the file.
        file: String,
    },
    /// A data file lies before the read position: its messages were consumed.
    Consumed {
        /// The name of the file.
        file: String,
    },
    /// The Go nsqd has set files aside that it could not read to their end, or had read to their end. It has delivered what
    /// it could read of them.
    Bad {
        /// How many.
        files: usize,
        /// Their length together.
        bytes: u64,
    },
    /// The recorded number of messages is another.
    Depth {
        /// The number in the meta file.
        recorded: i64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlisted => f.write_str("not listed in nsqd.dat, created"),
            Self::MetaMissing => f.write_str(
                "no meta file, so the read position is unknown: messages consumed before may come again",
            ),
            Self::MetaUnusable => f.write_str(
                "broken meta file, so the read position is unknown: messages consumed before may come again",
            ),
            Self::Unrecorded { messages } => {
                write!(f, "{messages} messages salvaged from behind the recorded end")
            }
            Self::Unreadable { file, offset, bytes } => {
                write!(f, "{file}: skipped {bytes} bytes without a message from offset {offset} on")
            }
            Self::Missing { file } => write!(f, "{file}: missing, its messages are lost"),
            Self::Consumed { file } => {
                write!(f, "{file}: skipped, it lies before the read position")
            }
            Self::Bad { files, bytes } => write!(
                f,
                "skipped {files} .bad files of {bytes} bytes, which the Go nsqd has set aside"
            ),
            Self::Depth { recorded } => write!(f, "the meta file says {recorded} messages"),
        }
    }
}

/// A queue with its unread messages.
#[derive(Debug)]
pub(crate) struct Queue {
    folder: PathBuf,
    name: String,
    files: QueueFiles,
    /// `None` if the positions are not known.
    meta: Option<Meta>,
    unread_bytes: u64,
}

/// The outcome of reading a queue.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) messages: u64,
    pub(crate) files: u64,
    pub(crate) findings: Vec<Finding>,
    /// Messages behind the recorded end.
    unrecorded: u64,
}

impl Queue {
    /// Reads the positions of a queue and the lengths of its files.
    pub(crate) fn open(
        disk: &dyn Disk,
        folder: &Path,
        name: String,
        files: QueueFiles,
    ) -> Result<Self, IoError> {
        let meta = if files.has_meta {
            Meta::parse(&read_small(disk, &folder.join(meta_name(&name)))?)
        } else {
            None
        };
        let mut queue = Self { folder: folder.to_owned(), name, files, meta, unread_bytes: 0 };
        let start = queue.start();
        for number in queue.files.data.range(start.file..) {
            let path = queue.folder.join(data_name(&queue.name, *number));
            queue.unread_bytes += file_bytes(disk, &path)?.saturating_sub(start.offset_in(*number));
        }
        Ok(queue)
    }

    /// The topic of the queue, and the channel if it belongs to one.
    pub(crate) fn owner(&self) -> (&str, Option<&str>) {
        // Windows has no colons in file names.
        match self.name.split_once([':', ';']) {
            Some((topic, channel)) => (topic, Some(channel)),
            None => (&self.name, None),
        }
    }

    /// The bytes that have not been read.
    pub(crate) fn unread_bytes(&self) -> u64 {
        self.unread_bytes
    }

    /// The position of the first unread message.
    fn start(&self) -> QueuePosition {
        self.meta.map(|meta| meta.read).unwrap_or_default()
    }

    /// Passes the unread messages to `take` in order.
    pub(crate) fn read<E: From<IoError>>(
        &self,
        disk: &dyn Disk,
        mut take: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<Found, E> {
        let mut found = Found { findings: self.odd_files(), ..Found::default() };
        let start = self.start();
        for &number in self.files.data.range(start.file..) {
            let file = data_name(&self.name, number);
            let path = self.folder.join(&file);
            let mut records = Records::open(disk, path, start.offset_in(number))?;
            let mut skipped: Option<(u64, u64)> = None;
            let before = found.messages;
            while let Some(item) = records.next()? {
                match item {
                    Item::Record { at, record } => {
                        take(record)?;
                        found.messages += 1;
                        found.unrecorded += u64::from(self.is_unrecorded(number, at));
                    }
                    Item::Unreadable(range) => {
                        let (_, bytes) = skipped.get_or_insert((range.start, 0));
                        *bytes += range.end - range.start;
                    }
                }
            }
            found.files += u64::from(found.messages > before);
            found.findings.extend(skipped.map(|(offset, bytes)| Finding::Unreadable {
                file,
                offset,
                bytes,
            }));
        }
        found.findings.extend(self.odd_count(&found));
        found.findings.extend(self.bad_files(disk)?);
        Ok(found)
    }

    fn is_unrecorded(&self, file: u64, offset: u64) -> bool {
        self.meta.is_some_and(|meta| QueuePosition { file, offset } >= meta.write)
    }

    /// The findings that need no file to be read.
    fn odd_files(&self) -> Vec<Finding> {
        let Some(meta) = self.meta else {
            return match (self.files.data.is_empty(), self.files.has_meta) {
                (true, _) => Vec::new(),
                (false, true) => vec![Finding::MetaUnusable],
                (false, false) => vec![Finding::MetaMissing],
            };
        };
        let name = |number| data_name(&self.name, number);
        let consumed = self.files.data.range(..meta.read.file);
        let consumed = consumed.map(|number| Finding::Consumed { file: name(*number) });
        let missing = (meta.read.file..=meta.write.file).filter(|number| {
            let holds_messages = *number < meta.write.file || meta.write.offset > 0;
            let is_read = *number == meta.write.file && meta.read == meta.write;
            let is_bad = self.files.bad.contains(&format!("{}.bad", name(*number)));
            let is_there = is_bad || self.files.data.contains(number);
            holds_messages && !is_read && !is_there
        });
        // A damaged meta file may name any number.
        let missing = missing.take(MISSING_FILES_MAX);
        consumed.chain(missing.map(|number| Finding::Missing { file: name(number) })).collect()
    }

    /// The findings about the number of messages, if it is odd.
    fn odd_count(&self, found: &Found) -> Vec<Finding> {
        let unrecorded = found.unrecorded;
        let mut odd = Vec::new();
        if unrecorded > 0 {
            odd.push(Finding::Unrecorded { messages: unrecorded });
        }
        let Some(Meta { depth: recorded, .. }) = self.meta else { return odd };
        // After a kill the recorded number is as old as the recorded end.
        let up_to_end = i64::try_from(found.messages - unrecorded).unwrap_or(i64::MAX);
        if up_to_end < recorded || (unrecorded == 0 && up_to_end != recorded) {
            odd.push(Finding::Depth { recorded });
        }
        odd
    }

    /// The files that were set aside. They are not read: a busy queue leaves one each time it closes a file.
    fn bad_files(&self, disk: &dyn Disk) -> Result<Option<Finding>, IoError> {
        let mut bytes = 0;
        for name in &self.files.bad {
            bytes += file_bytes(disk, &self.folder.join(name))?;
        }
        let files = self.files.bad.len();
        Ok((files > 0).then_some(Finding::Bad { files, bytes }))
    }
}

impl QueuePosition {
    /// The offset of this position in a file that is not before it.
    fn offset_in(&self, file: u64) -> u64 {
        if file == self.file { self.offset } else { 0 }
    }
}

/// The beginning of a file, which is all of it if it is small.
fn read_small(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, IoError> {
    let mut bytes = vec![0; META_BYTES_MAX];
    let read =
        disk.open(path).and_then(|file| file.read_at(&mut bytes, 0)).context("read", path)?;
    bytes.truncate(read);
    Ok(bytes)
}

fn file_bytes(disk: &dyn Disk, path: &Path) -> Result<u64, IoError> {
    disk.open(path).context("open", path)?.len().context("measure", path)
}
