//! Writing a queue that the Go nsqd can read.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    LENGTH_BYTES,
    files::{data_name, meta_name},
    meta::{Meta, QueuePosition},
};
use crate::{
    batch::{RECORD_HEAD_BYTES as FRAME_HEAD_BYTES, u32_at},
    disk::{Disk, File},
    error::{Context, IoError},
};

/// Bytes gather up to this size before they are written.
const WRITE_BYTES: usize = 1 << 20;
/// The bytes of a frame in front of the part that a queue stores: its size and type.
const FRAME_TYPE_END: usize = 8;
/// The offset of the attempts in a frame.
const ATTEMPTS_AT: usize = 16;

/// A queue that was written.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct WrittenQueue {
    /// The number of messages.
    pub messages: u64,
    /// The size of the largest body.
    pub body_bytes_max: usize,
}

/// Writes the files of one queue. Nothing of it counts before [`QueueWriter::finish`]; their names survive a power cut
/// once the caller has flushed the folder.
#[derive(Debug)]
pub struct QueueWriter {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    queue: String,
    file_bytes_max: u64,
    file: Option<(PathBuf, Arc<dyn File>)>,
    /// The next record goes there.
    at: QueuePosition,
    /// The bytes in front of it that are not written yet.
    buffer: Vec<u8>,
    written: WrittenQueue,
}

impl QueueWriter {
    /// A writer for a queue in `folder`, which holds no file of that queue. A file is closed before it grows beyond
    /// `file_bytes_max`.
    pub fn new(disk: Arc<dyn Disk>, folder: &Path, queue: String, file_bytes_max: u64) -> Self {
        Self {
            disk,
            folder: folder.to_owned(),
            queue,
            file_bytes_max,
            file: None,
            at: QueuePosition::default(),
            buffer: Vec::new(),
            written: WrittenQueue::default(),
        }
    }

    /// Adds the message of a frame, as delivered so often before.
    ///
    /// # Errors
    /// When the file system does not take it.
    pub fn push(&mut self, frame: &[u8], attempts: u16) -> Result<(), IoError> {
        let stored = &frame[FRAME_TYPE_END..];
        let bytes = (LENGTH_BYTES + stored.len()) as u64;
        if self.at.offset > 0 && self.at.offset + bytes > self.file_bytes_max {
            self.close_file()?;
            self.at = QueuePosition { file: self.at.file + 1, offset: 0 };
        }
        let start = self.buffer.len();
        let length = u32::try_from(stored.len()).unwrap_or(u32::MAX);
        self.buffer.extend_from_slice(&length.to_be_bytes());
        self.buffer.extend_from_slice(stored);
        let attempts_at = start + LENGTH_BYTES + ATTEMPTS_AT - FRAME_TYPE_END;
        self.buffer[attempts_at..attempts_at + 2].copy_from_slice(&attempts.to_be_bytes());
        self.at.offset += bytes;
        self.written.messages += 1;
        let body_bytes = frame.len().saturating_sub(FRAME_HEAD_BYTES);
        self.written.body_bytes_max = self.written.body_bytes_max.max(body_bytes);
        if self.buffer.len() < WRITE_BYTES { Ok(()) } else { self.write() }
    }

    /// Adds the messages of consecutive frames.
    ///
    /// # Errors
    /// As [`QueueWriter::push`].
    pub fn push_all(&mut self, mut frames: &[u8], attempts: u16) -> Result<(), IoError> {
        while frames.len() >= FRAME_HEAD_BYTES {
            let (frame, rest) = frames.split_at(4 + u32_at(frames, 0) as usize);
            self.push(frame, attempts)?;
            frames = rest;
        }
        Ok(())
    }

    /// Flushes the queue and writes its meta file, as a clean stop of the Go nsqd does also for an empty queue.
    ///
    /// # Errors
    /// When the file system does not take it.
    pub fn finish(mut self) -> Result<WrittenQueue, IoError> {
        self.close_file()?;
        let depth = i64::try_from(self.written.messages).unwrap_or(i64::MAX);
        let meta = Meta { depth, read: QueuePosition::default(), write: self.at };
        let path = self.folder.join(meta_name(&self.queue));
        let file = self.disk.create(&path).context("create", &path)?;
        file.write_all_at(meta.to_string().as_bytes(), 0).context("write", &path)?;
        file.sync_data().context("sync", &path)?;
        Ok(self.written)
    }

    fn close_file(&mut self) -> Result<(), IoError> {
        self.write()?;
        match self.file.take() {
            Some((path, file)) => file.sync_data().context("sync", &path),
            None => Ok(()),
        }
    }

    fn write(&mut self) -> Result<(), IoError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let offset = self.at.offset - self.buffer.len() as u64;
        let (path, file) = match &mut self.file {
            Some(open) => open,
            None => {
                let path = self.folder.join(data_name(&self.queue, self.at.file));
                let file = self.disk.create_new(&path).context("create", &path)?;
                self.file.insert((path, file))
            }
        };
        file.write_all_at(&self.buffer, offset).context("write", path)?;
        self.buffer.clear();
        Ok(())
    }
}
