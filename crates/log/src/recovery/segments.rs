//! The segments of a topic during recovery: their headers, and a walk over those that no waypoint covers.

use std::{ops::Range, path::Path, sync::Arc};

use crate::{
    disk::File,
    error::{Context, IoError, OpenError},
    extent::{BatchAt, Extent},
    id::SEGMENT_MESSAGES_MAX,
    journal::{Deferral, Position, Replayed, Waypoint},
    notice::{Event, Notice},
    segment::{
        FORMAT_VERSION, HeaderDefect, SEGMENT_HEADER_BYTES, Segment, SegmentHeader,
        parse_segment_name, segment_path, spare_header,
    },
    segments::Table,
    shared::Shared,
    walk::{Expected, Trust, Walked as Found, Walker},
};

/// The segments of a topic, oldest first.
pub(super) struct Segments<'a> {
    shared: &'a Shared,
    dir: &'a Path,
    files: Vec<SegmentFile>,
    /// Files that cannot be read, with the number of usable ones before each.
    unreadable: Vec<(usize, IoError)>,
}

/// A segment file with a usable header.
struct SegmentFile {
    header: SegmentHeader,
    bytes: u64,
}

/// The newest segment, which tells where the log ends.
pub(super) struct Newest {
    pub(super) extent: Extent,
    pub(super) end: u64,
    /// Appending may go on in it.
    pub(super) is_resumable: bool,
    holes: Vec<Range<u64>>,
}

/// The result of walking the segments that no waypoint covers.
#[derive(Default)]
pub(super) struct Walked {
    pub(super) newest: Option<Newest>,
    pub(super) deferrals: Vec<Deferral>,
    /// Segments that may not be flushed.
    pub(super) unsynced: Vec<u32>,
    /// The end of the messages that are flushed.
    pub(super) synced: u64,
}

/// The position from which on a walk is needed: an index into the files, and an offset and sequence number there.
#[derive(Copy, Clone)]
struct From {
    index: usize,
    offset: u64,
    seq: u64,
    /// Appending may go on here after a clean stop.
    is_open: bool,
}

impl<'a> Segments<'a> {
    /// Reads the headers of all segments. Files without a usable one are set aside.
    ///
    /// # Errors
    /// When the newest one cannot be read, or a file has an unknown version.
    pub(super) fn scan(
        shared: &'a Shared,
        dir: &'a Path,
        names: &[String],
        topic_id: Option<u64>,
        report: &mut Vec<Notice>,
    ) -> Result<Self, OpenError> {
        let mut numbers: Vec<_> =
            names.iter().filter_map(|name| parse_segment_name(name)).collect();
        numbers.sort_unstable();
        let newest = numbers.last().copied();
        let mut segments = Self { shared, dir, files: Vec::new(), unreadable: Vec::new() };
        for number in numbers {
            match segments.read(number, topic_id, report) {
                Ok(()) => {}
                Err(OpenError::Io(error)) if Some(number) != newest => {
                    segments.unreadable.push((segments.files.len(), error));
                }
                Err(error) => return Err(error),
            }
        }
        segments.set_foreign_aside(report)?;
        Ok(segments)
    }

    /// Adds a segment to the list if its file is usable.
    fn read(
        &mut self,
        number: u32,
        topic_id: Option<u64>,
        report: &mut Vec<Notice>,
    ) -> Result<(), OpenError> {
        let path = segment_path(self.dir, number);
        let file = self.shared.disk.open(&path).context("open", &path)?;
        let bytes = file.len().context("measure", &path)?;
        let mut header = [0; SEGMENT_HEADER_BYTES];
        let read = file.read_at(&mut header, 0).context("read", &path)?;
        if bytes == SEGMENT_HEADER_BYTES as u64 && header == spare_header() {
            // Created ahead and never used.
            return Ok(self.shared.disk.remove(&path).context("remove", &path)?);
        }
        let header = match SegmentHeader::decode(&header[..read]) {
            Ok(header) if header.number == number => Some(header),
            Err(HeaderDefect::Version(found)) => {
                return Err(OpenError::Version { path, found, known: FORMAT_VERSION });
            }
            _ => {
                let rebuilt = self.rebuild_header(&*file, &path, number, bytes, topic_id)?;
                let notice = |_| Notice { path: path.clone(), event: Event::HeaderRebuilt };
                report.extend(rebuilt.map(notice));
                rebuilt
            }
        };
        let previous = self.files.last().map_or(0, |last| last.header.first);
        match header {
            Some(header) if previous <= header.first => {
                self.files.push(SegmentFile { header, bytes });
                Ok(())
            }
            Some(_) => self.set_aside(&path, "sequence numbers go backwards", bytes, report),
            None => self.set_aside(&path, "no usable segment header", bytes, report),
        }
    }

    /// Makes a header from the first good batch, which knows its segment and its index in it.
    fn rebuild_header(
        &self,
        file: &dyn File,
        path: &Path,
        number: u32,
        bytes: u64,
        topic_id: Option<u64>,
    ) -> Result<Option<SegmentHeader>, IoError> {
        let expected = Expected { topic_id, segment: number, first: None };
        let found = Walker::new(file, bytes, expected).search(0, 0).context("read", path)?;
        let Some((_, batch)) = found else { return Ok(None) };
        let header = SegmentHeader {
            number,
            node_id: self.shared.node_id,
            topic_id: batch.topic_id,
            first: batch.first - u64::from(batch.index),
            created_ns: batch.wall_ns,
            incarnation: batch.incarnation,
        };
        file.write_all_at(&header.encode(), 0).context("write", path)?;
        Ok(Some(header))
    }

    /// Renames a file that cannot be used; one that never held anything is removed.
    fn set_aside(
        &self,
        path: &Path,
        reason: &'static str,
        bytes: u64,
        report: &mut Vec<Notice>,
    ) -> Result<(), OpenError> {
        let event = if bytes <= SEGMENT_HEADER_BYTES as u64 {
            self.shared.disk.remove(path).context("remove", path)?;
            Event::TailCut { offset: 0, bytes }
        } else {
            self.shared.disk.rename(path, &path.with_extension("bad")).context("rename", path)?;
            Event::SetAside { reason, bytes }
        };
        report.push(Notice { path: path.to_owned(), event });
        Ok(())
    }

    /// Sets segments of other topics aside: the newest one was written by the topic that exists now.
    fn set_foreign_aside(&mut self, report: &mut Vec<Notice>) -> Result<(), OpenError> {
        let Some(topic_id) = self.topic_id() else { return Ok(()) };
        let foreign: Vec<_> =
            self.files.iter().filter(|file| file.header.topic_id != topic_id).collect();
        for file in &foreign {
            let path = segment_path(self.dir, file.header.number);
            self.set_aside(&path, "segment of another topic", file.bytes, report)?;
        }
        self.files.retain(|file| file.header.topic_id == topic_id);
        Ok(())
    }

    pub(super) fn topic_id(&self) -> Option<u64> {
        self.files.last().map(|file| file.header.topic_id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Walks the segments behind the last usable waypoint: the older ones for their deferred batches, the newest one
    /// also for its end.
    ///
    /// # Errors
    /// When the newest segment cannot be read, or its torn end cannot be cut.
    pub(super) fn walk(
        &self,
        journal: Option<&Replayed>,
        clean: bool,
        report: &mut Vec<Notice>,
    ) -> Result<Walked, IoError> {
        let Some((newest, older)) = self.files.split_last() else { return Ok(Walked::default()) };
        let find = |waypoint: Waypoint| self.find(waypoint.position);
        let flushed = journal.and_then(|journal| journal.flushed).and_then(find);
        let latest = journal.and_then(|journal| journal.waypoint);
        let latest = latest.filter(|it| it.is_usable(self.shared.boot_id)).and_then(find);
        let start = latest.or(flushed).unwrap_or_else(|| self.beginning(0));

        let mut walked = Walked::default();
        for (index, file) in older.iter().enumerate().skip(start.index) {
            let from = if index == start.index { start } else { self.beginning(index) };
            // Damage in here is found when it is read; a file that cannot be read has nothing to add.
            let found = self.walk_file(file, from, Trust::Headers);
            walked.deferrals.extend(found.map(|found| found.deferrals).unwrap_or_default());
        }
        let from = if start.index == older.len() { start } else { self.beginning(older.len()) };
        let mut found = self.walk_newest(newest, from, report)?;
        walked.deferrals.append(&mut found.deferrals);
        let messages = found.end - newest.header.first;
        walked.newest = Some(Newest {
            is_resumable: clean
                && from.is_open
                && from.offset == newest.bytes
                && messages < SEGMENT_MESSAGES_MAX,
            end: found.end,
            extent: found.extent,
            holes: found.holes.into_iter().map(|hole| hole.lost).collect(),
        });
        let synced = flushed.unwrap_or_else(|| self.beginning(0));
        walked.synced = synced.seq;
        if synced.index < older.len() || synced.offset < newest.bytes {
            let unsynced = self.files.iter().skip(synced.index);
            walked.unsynced = unsynced.map(|file| file.header.number).collect();
        }
        Ok(walked)
    }

    /// Where to go on behind a waypoint; `None` if the files contradict it.
    fn find(&self, position: Position) -> Option<From> {
        let index = self.files.iter().position(|file| file.header.number >= position.segment)?;
        let file = &self.files[index];
        if file.header.number > position.segment {
            return Some(self.beginning(index));
        }
        let fits = file.bytes >= position.bytes && file.header.first <= position.end;
        let Position { bytes: offset, end: seq, open: is_open, .. } = position;
        fits.then_some(From { index, offset, seq, is_open })
    }

    fn beginning(&self, index: usize) -> From {
        let seq = self.files[index].header.first;
        From { index, offset: SEGMENT_HEADER_BYTES as u64, seq, is_open: false }
    }

    fn walk_file(&self, file: &SegmentFile, from: From, trust: Trust) -> Result<Found, IoError> {
        if from.offset == file.bytes {
            let extent = Extent { bytes: file.bytes, ..Extent::default() };
            return Ok(Found { extent, end: from.seq, ..Found::default() });
        }
        let path = segment_path(self.dir, file.header.number);
        let handle = self.shared.disk.open(&path).context("open", &path)?;
        let expected = Expected {
            topic_id: Some(file.header.topic_id),
            segment: file.header.number,
            first: Some(file.header.first),
        };
        let mut walker = Walker::new(&*handle, file.bytes, expected);
        let start = BatchAt { first: from.seq, offset: from.offset };
        walker.walk_from(start, trust).context("read", &path)
    }

    /// Finds the end of the log, and cuts off a batch that a power cut or a kill has torn.
    fn walk_newest(
        &self,
        file: &SegmentFile,
        from: From,
        report: &mut Vec<Notice>,
    ) -> Result<Found, IoError> {
        let found = self.walk_file(file, from, Trust::Nothing)?;
        let path = segment_path(self.dir, file.header.number);
        let mut notice = |event| report.push(Notice { path: path.clone(), event });
        let offset = found.extent.bytes;
        if file.bytes > offset {
            let handle = self.shared.disk.open(&path).context("open", &path)?;
            handle.truncate(offset).context("truncate", &path)?;
            notice(Event::TailCut { offset, bytes: file.bytes - offset });
        }
        for hole in &found.holes {
            notice(Event::lost(hole.clone()));
        }
        Ok(found)
    }

    /// The table of all segments. Where one ends is where the next begins, until it is read. Unreadable files
    /// become holes.
    pub(super) fn table(
        &self,
        walked: &Walked,
        journal: Option<&Replayed>,
        report: &mut Vec<Notice>,
    ) -> Table {
        let mut table = Table::default();
        for file in &self.files {
            let extent = Extent { bytes: file.bytes, ..Extent::default() };
            table.segments.push(Arc::new(Segment::new(&file.header, extent)));
        }
        if let (Some(newest), Some(segment)) = (&walked.newest, table.segments.last()) {
            *segment.extent() = newest.extent.clone();
            for hole in &newest.holes {
                table.add_hole(hole.clone());
            }
        }
        for (index, error) in &self.unreadable {
            let lost = self.lost_before(*index, journal);
            if *index > 0 && table.add_hole(lost.clone()) == 0 {
                continue;
            }
            let event = Event::Unreadable { error: error.source.to_string(), lost };
            report.push(Notice { path: error.path.clone(), event });
        }
        table
    }

    /// The messages between the end of the usable segment before `index` and the beginning of the one there.
    fn lost_before(&self, index: usize, journal: Option<&Replayed>) -> Range<u64> {
        let Some(next) = self.files.get(index) else { return 0..0 };
        let end = next.header.first;
        let start = match index.checked_sub(1) {
            Some(before) => {
                let found =
                    self.walk_file(&self.files[before], self.beginning(before), Trust::Headers);
                found.map_or(end, |found| found.end)
            }
            // Only the journal knows which messages of the oldest files were still needed.
            None => journal.map_or(end, Replayed::low),
        };
        start.min(end)..end
    }
}
