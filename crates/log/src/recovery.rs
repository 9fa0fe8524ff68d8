//! Finding out what a topic's directory holds after a stop of any kind.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nsq_protocol::TopicName;

use crate::{
    appender::{Active, AppenderStart},
    disk::{Disk, File},
    error::{Context, IoError, OpenError},
    extent::Extent,
    id::SEGMENT_MESSAGES_MAX,
    journal::{Deferral, Journal},
    journal_codec::{Journaled, decode},
    notice::{Event, Notice},
    open_files::KeptFile,
    segment::{
        FORMAT_VERSION, HeaderDefect, SEGMENT_HEADER_BYTES, Segment, SegmentHeader,
        parse_segment_name, segment_path, spare_header,
    },
    segments::Table,
    state::{Replayed, TopicState},
    store::Shared,
    topic_log::{Start, TopicLog},
    walk::{Expected, Trust, Walked, Walker},
};

/// What a topic was recovered to.
pub(crate) struct Recovered {
    pub(crate) log: TopicLog,
    pub(crate) state: TopicState,
}

/// Recovers the topic in `dir`. `clean` says that the node was stopped cleanly.
pub(crate) fn recover_topic(
    shared: &Arc<Shared>,
    name: TopicName,
    dir: PathBuf,
    clean: bool,
    report: &mut Vec<Notice>,
) -> Result<Recovered, OpenError> {
    let disk = &shared.disk;
    let mut recovery = Recovery { disk: &**disk, dir: &dir, shared, report };
    let journaled = recovery.read_journal()?;
    let mut files =
        recovery.read_headers(journaled.as_ref().map(|(journal, _)| journal.topic_id))?;
    let newest =
        recovery.read_newest(&mut files, journaled.as_ref().map(|(journal, _)| journal), clean)?;
    let topic_id = match (newest.as_ref(), &journaled) {
        (Some(newest), _) => newest.file.header.topic_id,
        (None, Some((journal, _))) => journal.topic_id,
        (None, None) => shared.random()?,
    };
    let journaled = recovery.check_owner(journaled, topic_id);
    let claimed = journaled.as_ref().map_or(0, |(journal, _)| journal.state.end());
    // Without any segment only the journal knows where the log was.
    let end = newest.as_ref().map_or(claimed, |newest| newest.end);
    let table = recovery.table(&files, newest.as_ref());
    let first = table.segments.first().map_or(end, |segment| segment.first);

    let mut journal = Journal::new(Arc::clone(disk), &dir, topic_id);
    let replayed = recovery.resume_journal(&mut journal, journaled);
    let rewrite = replayed.as_ref().is_some_and(|(_, rewrite)| *rewrite) || claimed > end;
    let replayed = replayed.map(|(state, _)| state);
    let found = newest.as_ref().map_or_else(Vec::new, |newest| newest.deferrals.clone());
    let state = fit(replayed, first..end, &found);
    if claimed > end {
        let event = Event::StateCut { end, claimed };
        recovery.report.push(Notice { path: journal.path().to_owned(), event });
    }
    if rewrite {
        // Before anything is appended: new messages take the sequence numbers that the old state speaks of.
        journal.rewrite(&state)?;
    }

    let mut appender = AppenderStart::default();
    let mut synced = end;
    if let Some(newest) = newest {
        let segment = table.segments.last().map(Arc::clone);
        if newest.resumable {
            journal.restore_active(newest.deferrals);
            let file = KeptFile::closed(segment_path(&dir, newest.file.header.number));
            appender.active = segment.map(|segment| Active::resume(segment, Some(file)));
        } else {
            // What an unclean stop left may be in the operating system's memory only.
            appender.unsynced.push(newest.file.header.number);
            appender.names_dirty = true;
            synced = newest.file.header.first;
            journal.restore_active(newest.deferrals);
            journal.seal_segment()?;
        }
    }
    let start = Start { id: topic_id, end, synced, table, appender, journal };
    let log = TopicLog::new(name, dir, Arc::clone(shared), start);
    Ok(Recovered { log, state })
}

/// A segment file with a usable header.
struct SegmentFile {
    header: SegmentHeader,
    bytes: u64,
}

/// The newest segment, which tells where the log ends.
struct Newest {
    file: SegmentFile,
    extent: Extent,
    holes: Vec<Range<u64>>,
    end: u64,
    deferrals: Vec<Deferral>,
    /// Whether appending may go on in it.
    resumable: bool,
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    shared: &'a Shared,
    report: &'a mut Vec<Notice>,
}

impl Recovery<'_> {
    fn notice(&mut self, path: &Path, event: Event) {
        self.report.push(Notice { path: path.to_owned(), event });
    }

    /// The journal and the length of its file, if there is a usable one.
    fn read_journal(&mut self) -> Result<Option<(Journaled, u64)>, OpenError> {
        let path = self.dir.join("journal");
        let Some(bytes) = read_file(self.disk, &path)? else { return Ok(None) };
        match decode(&bytes) {
            Ok(journaled) => Ok(Some((journaled, bytes.len() as u64))),
            Err(HeaderDefect::Version(found)) => {
                Err(OpenError::Version { path, found, known: FORMAT_VERSION })
            }
            // A crash right after the file was created leaves it empty: nothing was recorded yet.
            Err(HeaderDefect::Damaged) if bytes.is_empty() => Ok(None),
            Err(HeaderDefect::Damaged) => {
                self.notice(&path, Event::JournalReset { reason: "damaged header" });
                Ok(None)
            }
        }
    }

    /// Drops a journal that belongs to another topic than the segments do.
    fn check_owner(
        &mut self,
        journaled: Option<(Journaled, u64)>,
        topic_id: u64,
    ) -> Option<(Journaled, u64)> {
        let foreign = journaled.as_ref().is_some_and(|(journal, _)| journal.topic_id != topic_id);
        if foreign {
            let reason = "belongs to another topic than the segments";
            self.notice(&self.dir.join("journal"), Event::JournalReset { reason });
            return None;
        }
        journaled
    }

    /// Reads the headers of all segments, oldest first. Files without a usable one are set aside.
    fn read_headers(&mut self, topic_id: Option<u64>) -> Result<Vec<SegmentFile>, OpenError> {
        let mut numbers = Vec::new();
        for name in self.disk.list(self.dir).context("list", self.dir)? {
            numbers.extend(parse_segment_name(&name));
            if name.ends_with(".tmp") {
                let path = self.dir.join(&name);
                self.disk.remove(&path).context("remove", &path)?;
            }
        }
        numbers.sort_unstable();
        let mut files: Vec<SegmentFile> = Vec::new();
        for number in numbers {
            let path = segment_path(self.dir, number);
            let file = self.disk.open(&path).context("open", &path)?;
            let bytes = file.len().context("measure", &path)?;
            let mut header = [0; SEGMENT_HEADER_BYTES];
            let read = file.read_at(&mut header, 0).context("read", &path)?;
            if header[..read] == spare_header() {
                // Created ahead and never used.
                self.disk.remove(&path).context("remove", &path)?;
                continue;
            }
            let header = match SegmentHeader::decode(&header[..read]) {
                Ok(header) if header.number == number => Some(header),
                Err(HeaderDefect::Version(found)) => {
                    return Err(OpenError::Version { path, found, known: FORMAT_VERSION });
                }
                _ => self.rebuild_header(&*file, &path, number, bytes, topic_id)?,
            };
            match header {
                Some(header)
                    if files.last().is_none_or(|last| last.header.first <= header.first) =>
                {
                    files.push(SegmentFile { header, bytes });
                }
                Some(_) => self.set_aside(&path, "sequence numbers go backwards", bytes)?,
                None => self.set_aside(&path, "no usable segment header", bytes)?,
            }
        }
        // The newest segment was written by the topic that exists now.
        if let Some(topic_id) = files.last().map(|file| file.header.topic_id) {
            let (own, foreign): (Vec<_>, Vec<_>) =
                files.into_iter().partition(|file| file.header.topic_id == topic_id);
            files = own;
            for file in foreign {
                let path = segment_path(self.dir, file.header.number);
                self.set_aside(&path, "segment of another topic", file.bytes)?;
            }
        }
        Ok(files)
    }

    /// Makes a header from the first good batch, which knows its segment and its index in it.
    fn rebuild_header(
        &mut self,
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
        self.notice(path, Event::HeaderRebuilt);
        Ok(Some(header))
    }

    /// Renames a file that cannot be used; one that never held anything is removed.
    fn set_aside(&mut self, path: &Path, reason: &'static str, bytes: u64) -> Result<(), IoError> {
        if bytes <= SEGMENT_HEADER_BYTES as u64 {
            self.disk.remove(path).context("remove", path)?;
            self.notice(path, Event::TailCut { offset: 0, bytes });
        } else {
            self.disk.rename(path, &path.with_extension("bad")).context("rename", path)?;
            self.notice(path, Event::SetAside { reason, bytes });
        }
        Ok(())
    }

    /// Takes the newest segment off the list and finds its end.
    fn read_newest(
        &mut self,
        files: &mut Vec<SegmentFile>,
        journal: Option<&Journaled>,
        clean: bool,
    ) -> Result<Option<Newest>, OpenError> {
        let Some(mut file) = files.pop() else { return Ok(None) };
        if let Some(journal) = journal.filter(|_| clean)
            && let Some((segment, bytes, end)) = journal.state.checkpoint
            && (segment, bytes) == (file.header.number, file.bytes)
            && journal.topic_id == file.header.topic_id
            && end >= file.header.first
        {
            // The state has the deferrals of the whole segment too.
            let first = file.header.first;
            let own = journal.state.deferrals().filter(|(range, _)| range.start >= first);
            let deferrals = merge(own.cloned().collect(), first..end);
            let extent = Extent { bytes, ..Extent::default() };
            let resumable = end - first < SEGMENT_MESSAGES_MAX;
            return Ok(Some(Newest { file, extent, holes: Vec::new(), end, deferrals, resumable }));
        }
        let path = segment_path(self.dir, file.header.number);
        let handle = self.disk.open(&path).context("open", &path)?;
        let walked = self.walk(&file, &*handle, &path)?;
        let cut = file.bytes > walked.extent.bytes;
        if cut {
            let offset = walked.extent.bytes;
            handle.truncate(offset).context("truncate", &path)?;
            self.notice(&path, Event::TailCut { offset, bytes: file.bytes - offset });
            file.bytes = offset;
        }
        for hole in &walked.holes {
            let event = Event::lost(hole.bytes.clone(), hole.lost.clone());
            self.notice(&path, event);
        }
        Ok(Some(Newest {
            // What was cut may have been delivered: its ids must not be given to other messages.
            resumable: false,
            holes: walked.holes.into_iter().map(|hole| hole.lost).collect(),
            extent: walked.extent,
            end: walked.end,
            deferrals: walked.deferrals,
            file,
        }))
    }

    fn walk(&self, file: &SegmentFile, handle: &dyn File, path: &Path) -> Result<Walked, IoError> {
        let expected = Expected {
            topic_id: Some(file.header.topic_id),
            segment: file.header.number,
            first: Some(file.header.first),
        };
        let mut walker = Walker::new(handle, file.bytes, expected);
        walker.walk(file.header.first, Trust::Nothing).context("read", path)
    }

    /// The table of all segments. Where one ends is where the next begins, until somebody reads it.
    fn table(&mut self, files: &[SegmentFile], newest: Option<&Newest>) -> Table {
        let mut table = Table::default();
        for file in files {
            let extent = Extent { bytes: file.bytes, ..Extent::default() };
            table.segments.push(Arc::new(Segment::new(&file.header, extent)));
        }
        if let Some(newest) = newest {
            table.segments.push(Arc::new(Segment::new(&newest.file.header, newest.extent.clone())));
            for hole in &newest.holes {
                table.add_hole(hole.clone());
            }
        }
        table
    }

    /// Continues the journal behind its last good record. Returns its state, and whether the file must be replaced.
    fn resume_journal(
        &mut self,
        journal: &mut Journal,
        journaled: Option<(Journaled, u64)>,
    ) -> Option<(Replayed, bool)> {
        let (journaled, bytes) = journaled?;
        journal.resume(journaled.valid_bytes, journaled.next_number);
        let cut = bytes > journaled.valid_bytes || journaled.orphans > 0;
        if cut {
            let offset = journaled.valid_bytes;
            self.notice(journal.path(), Event::JournalCut { offset, bytes: bytes - offset });
        }
        Some((journaled.state, cut))
    }
}

/// Fits the state to the log: nothing before its first message, nothing behind its end.
fn fit(replayed: Option<Replayed>, log: Range<u64>, found: &[Deferral]) -> TopicState {
    let Some(replayed) = replayed else {
        let deferred = merge(found.to_vec(), log.clone());
        return TopicState { fanout: log.start, deferred, ..TopicState::default() };
    };
    let deferrals = replayed.deferrals().chain(found).cloned().collect();
    let mut state = TopicState {
        fanout: replayed.fanout.clamp(log.start, log.end),
        paused: replayed.paused,
        deferred: Vec::new(),
        channels: replayed.channels.into_iter().collect(),
    };
    for (_, channel) in &mut state.channels {
        channel.fit(&log);
    }
    // What every channel was given is in their outstanding sets if it still waits.
    let passed = state.channels.iter().map(|(_, channel)| channel.end);
    let passed = passed.fold(state.fanout, u64::min);
    state.deferred = merge(deferrals, passed..log.end);
    state
}

/// Sorts deferrals, drops repeats and what lies outside of `within`.
fn merge(mut deferrals: Vec<(Range<u64>, Duration)>, within: Range<u64>) -> Vec<Deferral> {
    deferrals.sort_by_key(|(range, _)| range.start);
    let mut merged: Vec<Deferral> = Vec::new();
    for (range, delay) in deferrals {
        let from = merged.last().map_or(within.start, |(last, _)| last.end).max(range.start);
        let upto = range.end.min(within.end);
        if from < upto {
            crate::journal::push_deferral(&mut merged, from..upto, delay);
        }
    }
    merged
}

/// A whole small file; `None` when there is none.
pub(crate) fn read_file(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, IoError> {
    let file = match disk.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(IoError::new("open", path, error)),
    };
    let length = file.len().context("measure", path)?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    let read = file.read_at(&mut bytes, 0).context("read", path)?;
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// The first segment number above all that are in use.
pub(crate) fn next_segment(disk: &dyn Disk, topics: &[PathBuf]) -> Result<u32, IoError> {
    let mut next = 0;
    for dir in topics {
        let names = disk.list(dir).context("list", dir)?;
        let numbers = names.iter().filter_map(|name| parse_segment_name(name));
        next = numbers.map(|number| number.saturating_add(1)).fold(next, u32::max);
    }
    Ok(next)
}

/// The node id and incarnation in the newest readable segment header.
pub(crate) fn newest_writer(
    disk: &dyn Disk,
    topics: &[PathBuf],
) -> Result<Option<([u8; 16], u32)>, IoError> {
    let mut newest: Option<SegmentHeader> = None;
    for dir in topics {
        for name in disk.list(dir).context("list", dir)? {
            let Some(number) = parse_segment_name(&name) else { continue };
            let path = dir.join(&name);
            let file = disk.open(&path).context("open", &path)?;
            let mut header = [0; SEGMENT_HEADER_BYTES];
            let read = file.read_at(&mut header, 0).context("read", &path)?;
            if let Ok(header) = SegmentHeader::decode(&header[..read])
                && newest.is_none_or(|known| known.number < number)
            {
                newest = Some(header);
            }
        }
    }
    Ok(newest.map(|header| (header.node_id, header.incarnation)))
}
