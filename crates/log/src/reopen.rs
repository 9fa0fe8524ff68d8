//! Starting a topic again after a failed write or flush: files that may be damaged are checked and written anew.

use std::{ops::Range, path::Path, sync::Arc};

use crate::{
    disk::File,
    error::{Context, Error, IoError},
    extent::{BatchAt, Hole},
    lock,
    notice::{Event, Notice},
    segment::{SEGMENT_HEADER_BYTES, Segment},
    segments::Bounded,
    topic_log::TopicLog,
    walk::{Expected, Trust, Walked, Walker},
};

const COPY_BYTES: usize = 256 << 10;

/// The outcome of [`TopicLog::reopen`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reopened {
    /// The damage that was found.
    pub notices: Vec<Notice>,
    /// The messages that were lost before they were flushed. [`TopicLog::synced`] passes them,
    /// but [`TopicLog::survived`] is false for them from now on.
    pub lost: Vec<Range<u64>>,
}

/// A segment whose file may not hold what was written to it.
struct Suspect {
    segment: Arc<Segment>,
    /// The sequence number and the offset at which it should end.
    end: u64,
    bytes: u64,
}

impl TopicLog {
    /// Tries to start a stopped topic again: checks every segment that was not flushed and copies it into a new file,
    /// since after a failed flush the old one cannot be trusted. Nothing happens if the topic is not stopped.
    ///
    /// # Errors
    /// When the disk still fails. The topic stays stopped. If its newest file cannot even be read,
    /// [`TopicLog::quarantine`] of the last message written lets the next try go on without it.
    pub fn reopen(&self) -> Result<Reopened, Error> {
        let _turn = lock(&self.flushing);
        let mut reopened = Reopened::default();
        let Some(numbers) = self.appender.begin_reopen(&self.site())? else { return Ok(reopened) };
        for suspect in self.suspects(&numbers) {
            if suspect.segment.is_given_up() {
                self.abandon(&suspect, &mut reopened);
            } else {
                self.renew(&suspect, &mut reopened)?;
            }
        }
        self.flush_names()?;
        self.appender.end_reopen(&self.site())?;
        Ok(reopened)
    }

    fn suspects(&self, numbers: &[u32]) -> Vec<Suspect> {
        let mut segments = self.segments.all();
        segments.retain(|(segment, _)| numbers.contains(&segment.number));
        let suspect = |(segment, next): Bounded| {
            let bytes = segment.extent().bytes;
            Suspect { segment, end: next.unwrap_or_else(|| self.written()), bytes }
        };
        segments.into_iter().map(suspect).collect()
    }

    /// Copies the good part of a segment into a new file that takes its place.
    fn renew(&self, suspect: &Suspect, reopened: &mut Reopened) -> Result<(), IoError> {
        let disk = &*self.shared.disk;
        let number = suspect.segment.number;
        let path = self.segment_path(number);
        let temp = path.with_extension("tmp");
        let file = self.shared.open_files.borrow(&path).context("open", &path)?;
        let walked = self.walk_suspect(suspect, file.file(), &path)?;
        let copied = disk.create(&temp).context("create", &temp).and_then(|new| {
            copy(file.file(), &path, &*new, &temp, walked.extent.bytes)?;
            new.sync_data().context("sync", &temp)
        });
        if let Err(error) = copied {
            // Best effort: a start removes what is left.
            let _ = disk.remove(&temp);
            return Err(error);
        }
        disk.rename(&temp, &path).context("rename", &temp)?;
        if !self.segments.contains(number) {
            // Released meanwhile, perhaps before the rename brought the file back.
            let _ = disk.remove(&path);
            return Ok(());
        }
        self.settle(suspect, &walked, &path, reopened);
        if walked.extent.bytes < suspect.bytes {
            // The journal may have waypoints behind the cut. They must not point into later batches.
            self.appender.abandon(number);
        } else {
            self.appender.renewed(number);
        }
        Ok(())
    }

    fn walk_suspect(
        &self,
        suspect: &Suspect,
        file: &dyn File,
        path: &Path,
    ) -> Result<Walked, IoError> {
        let length = file.len().context("measure", path)?.min(suspect.bytes);
        let segment = &suspect.segment;
        let expected = Expected {
            topic_id: Some(self.id),
            segment: segment.number,
            first: Some(segment.first),
        };
        Walker::new(file, length, expected)
            .walk(segment.first, Trust::Nothing)
            .context("read", path)
    }

    /// Takes over the extent found in a suspect, and notes the messages it lost.
    fn settle(&self, suspect: &Suspect, walked: &Walked, path: &Path, reopened: &mut Reopened) {
        *suspect.segment.extent() = walked.extent.clone();
        let tail = Hole::between(
            BatchAt { first: walked.end, offset: walked.extent.bytes },
            BatchAt { first: suspect.end, offset: suspect.bytes },
        );
        for hole in walked.holes.iter().cloned().chain([tail]) {
            let lost = hole.lost.clone();
            if self.segments.add_hole(lost.clone()) == 0 {
                continue;
            }
            reopened.notices.push(Notice { path: path.to_owned(), event: Event::lost(hole) });
            self.note_lost(lost, reopened);
        }
    }

    /// Goes on without a segment that cannot be read. Its file is left as it is.
    fn abandon(&self, suspect: &Suspect, reopened: &mut Reopened) {
        self.appender.abandon(suspect.segment.number);
        self.note_lost(suspect.segment.first..suspect.end, reopened);
    }

    /// Notes messages whose publishers must not be told that they survive a power cut.
    fn note_lost(&self, lost: Range<u64>, reopened: &mut Reopened) {
        let unflushed = lost.start.max(self.synced())..lost.end;
        if !unflushed.is_empty() {
            lock(&self.lost).add(unflushed.clone());
            reopened.lost.push(unflushed);
        }
    }
}

fn copy(
    from: &dyn File,
    from_path: &Path,
    to: &dyn File,
    to_path: &Path,
    bytes: u64,
) -> Result<(), IoError> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut offset = 0;
    while offset < bytes.max(SEGMENT_HEADER_BYTES as u64) {
        let wanted = usize::try_from(bytes - offset).map_or(COPY_BYTES, |n| n.min(COPY_BYTES));
        let read = from.read_at(&mut buffer[..wanted], offset).context("read", from_path)?;
        if read == 0 {
            let short = std::io::ErrorKind::UnexpectedEof.into();
            return Err(IoError::new("read", from_path, short));
        }
        to.write_all_at(&buffer[..read], offset).context("write", to_path)?;
        offset += read as u64;
    }
    Ok(())
}
