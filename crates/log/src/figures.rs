//! The figures of a topic's log: its size on disk and the age of its messages.

use std::io;

use crate::{
    error::{Context, IoError},
    extent::BatchAt,
    segment::Segment,
    topic_log::TopicLog,
    walk::{Expected, Walker},
};

impl TopicLog {
    /// The bytes of the topic's files: those of its live segments that hold messages, and its journal.
    pub fn disk_bytes(&self) -> u64 {
        if self.memory_only {
            return 0;
        }
        let segments = self.segments.all();
        let segments: u64 = segments.iter().map(|(segment, _)| segment.extent().bytes).sum();
        segments + self.journal.disk_bytes()
    }

    /// The time at which message `seq` was published, ns since 1970; `None` when the message is not in memory.
    pub fn timestamp_ns(&self, seq: u64) -> Option<i64> {
        self.tail.timestamp_ns(seq)
    }

    /// As [`TopicLog::timestamp_ns`], of a message that is on disk only: the time of the batch that it is in. `None` when
    /// the message is lost or deleted. Damage on the way to it is left for [`TopicLog::load`] to find and report.
    ///
    /// Blocks for as long as the device takes; no lock is held meanwhile.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn load_timestamp_ns(&self, seq: u64) -> Result<Option<i64>, IoError> {
        if self.memory_only || seq >= self.written() {
            return Ok(None);
        }
        let Some((segment, _)) = self.segments.holding(seq) else { return Ok(None) };
        let path = self.segment_path(segment.number);
        let file = match self.shared.open_files.borrow(&path) {
            Ok(file) => file,
            // Released meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(IoError::new("open", &path, error)),
        };
        let expected = Expected {
            topic_id: Some(self.id),
            segment: segment.number,
            first: Some(segment.first),
        };
        let limit = segment.extent().bytes.min(file.file().len().context("measure", &path)?);
        let mut walker = Walker::sparing(file.file(), limit, expected);
        batch_time(&mut walker, &segment, seq).context("read", &path)
    }
}

/// The time of the batch that holds `seq`, found by the headers of those before it.
fn batch_time(walker: &mut Walker<'_>, segment: &Segment, seq: u64) -> io::Result<Option<i64>> {
    let found: Option<BatchAt> = walker.seek(segment.nearest(seq), seq, |_| ())?;
    let Some(at) = found else { return Ok(None) };
    let header = walker.header(at)?;
    Ok(header.filter(|header| (header.first..header.end()).contains(&seq)).map(|it| it.wall_ns))
}
