//! Starting a topic again after a failed write or sync: what may be damaged is read, checked and written anew.

use std::{ops::Range, path::Path, sync::atomic::Ordering::Release};

use crate::{
    disk::File,
    error::{Context, Error, IoError},
    lock,
    notice::{Event, Notice},
    segment::{SEGMENT_HEADER_BYTES, Table},
    topic_log::TopicLog,
    walk::{Expected, Trust, Walked, Walker},
    writer::{State, Writer},
};

const COPY_BYTES: usize = 256 << 10;

/// A segment whose file may not hold what was written to it.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    number: u32,
    first: u64,
    /// What the file should hold.
    end: u64,
    bytes: u64,
}

impl TopicLog {
    /// Tries to start a stopped topic again: every segment that was not synced is checked and copied into
    /// a new file, since after a failed sync the old one cannot be trusted. Reports what was lost on disk.
    /// Nothing happens if the topic is not stopped.
    ///
    /// # Errors
    /// When the disk still fails; the topic stays stopped.
    pub fn reopen(&self) -> Result<Vec<Notice>, Error> {
        let _turn = lock(&self.syncing);
        let suspects = {
            let mut writer = lock(&self.writer);
            writer.check_open(&self.name)?;
            if writer.state == State::Open {
                return Ok(Vec::new());
            }
            if let Some(active) = writer.active.as_mut() {
                active.file = None;
            }
            self.suspects(&writer)
        };
        let mut notices = Vec::new();
        for suspect in &suspects {
            self.renew(*suspect, &mut notices)?;
        }
        let disk = &*self.shared.disk;
        disk.sync_dir(&self.dir).context("sync directory", &self.dir)?;
        let topics = self.dir.parent().unwrap_or(&self.dir);
        disk.sync_dir(topics).context("sync directory", topics)?;
        let mut writer = lock(&self.writer);
        writer.check_open(&self.name)?;
        writer.unsynced.clear();
        writer.names_dirty = false;
        writer.state = State::Open;
        writer.shortage = None;
        self.marks.synced.store(self.written(), Release);
        Ok(notices)
    }

    fn suspects(&self, writer: &Writer) -> Vec<Suspect> {
        let table = lock(&self.table);
        let active = writer.active.as_ref().map(|active| active.segment.number);
        let ends = table.segments.iter().skip(1).map(|next| next.first).chain([self.written()]);
        let segments = table.segments.iter().zip(ends);
        let suspects = segments.filter(|(segment, _)| {
            Some(segment.number) == active || writer.unsynced.contains(&segment.number)
        });
        suspects
            .map(|(segment, end)| {
                let bytes = segment.extent().bytes;
                Suspect { number: segment.number, first: segment.first, end, bytes }
            })
            .collect()
    }

    /// Copies what is good of a segment into a new file that takes its place.
    fn renew(&self, suspect: Suspect, notices: &mut Vec<Notice>) -> Result<(), IoError> {
        let disk = &*self.shared.disk;
        let path = self.segment_path(suspect.number);
        let temp = path.with_extension("tmp");
        let file = disk.open(&path).context("open", &path)?;
        let length = file.len().context("measure", &path)?.min(suspect.bytes);
        let expected = Expected {
            topic_id: Some(self.id),
            segment: suspect.number,
            first: Some(suspect.first),
        };
        let walked = Walker::new(&*file, length, expected).walk(suspect.first, Trust::Nothing);
        let walked = walked.context("read", &path)?;
        let copied = disk.create(&temp).context("create", &temp).and_then(|new| {
            copy(&*file, &path, &*new, &temp, walked.extent.bytes)?;
            new.sync_data().context("sync", &temp)
        });
        if let Err(error) = copied {
            // Best effort: a start removes what is left.
            let _ = disk.remove(&temp);
            return Err(error);
        }
        // Under the lock, so that a segment released meanwhile does not come back.
        let mut table = lock(&self.table);
        if table.segments.iter().all(|segment| segment.number != suspect.number) {
            return disk.remove(&temp).context("remove", &temp);
        }
        disk.rename(&temp, &path).context("rename", &temp)?;
        notices.extend(settle(&mut table, suspect, &walked, &path));
        drop(table);
        if let Some(active) = lock(&self.writer).active.as_mut()
            && active.segment.number == suspect.number
        {
            active.bytes = walked.extent.bytes;
            active.file = None;
        }
        Ok(())
    }
}

/// Notes what a suspect turned out to hold.
fn settle(table: &mut Table, suspect: Suspect, walked: &Walked, path: &Path) -> Vec<Notice> {
    for segment in table.segments.iter().filter(|segment| segment.number == suspect.number) {
        *segment.extent() = walked.extent.clone();
    }
    let tail = (walked.extent.bytes..suspect.bytes, walked.end..suspect.end);
    let holes = walked.holes.iter().map(|hole| (hole.bytes.clone(), hole.lost.clone()));
    let known = |(bytes, lost): (Range<u64>, Range<u64>)| {
        table
            .add_hole(lost.clone())
            .then(|| Notice { path: path.to_owned(), event: Event::lost(bytes, lost) })
    };
    holes.chain([tail]).filter_map(known).collect()
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
