//! Replay: the state of a topic from its newest snapshot and the journal files behind it.
//!
//! # Invariants
//! 1. A record is applied only if every record before it is. Records of one file may come in any order and
//!    repeatedly; a file that does not continue the one before it ends the replay.
//! 2. A torn end of a file is no loss if the next file continues behind its last good record.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use nsq_protocol::ChannelName;

use super::{
    Deferral,
    channel::ReplayedChannel,
    decode::RecordReader,
    encode::FileHeader,
    files::{Generations, JournalFiles},
    record::OwnedRecord,
    waypoint::Waypoint,
};
use crate::{
    error::{IoError, OpenError},
    notice::{Event, Notice},
    segment::{FORMAT_VERSION, HeaderDefect},
    state::{Outstanding, TopicState},
};

/// So many deferrals are kept without a look at which of them are needed.
const ADDED_MAX: usize = 16 << 10;

/// The state of a topic during replay.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    pub(crate) fanout: u64,
    pub(crate) paused: bool,
    /// Deferrals of the last topic record.
    pub(super) deferred: Vec<Deferral>,
    /// Deferrals that the log added.
    pub(super) added: Vec<Deferral>,
    /// How many of them there may be before those that are not needed are dropped.
    added_max: usize,
    pub(super) channels: BTreeMap<ChannelName, ReplayedChannel>,
    /// The last waypoint.
    pub(crate) waypoint: Option<Waypoint>,
    /// The last flushed waypoint.
    pub(crate) flushed: Option<Waypoint>,
    /// The latest node time.
    pub(crate) time_ns: u64,
    /// The first part of a channel's next state.
    part: Option<(ChannelName, Vec<Outstanding>)>,
}

impl Replayed {
    fn apply(&mut self, record: OwnedRecord) {
        match record {
            OwnedRecord::Topic { fanout, paused, deferred } => {
                (self.fanout, self.paused, self.deferred) = (fanout, paused, deferred);
            }
            OwnedRecord::ChannelState(channel, state) => {
                let part = self.part.take().filter(|(name, _)| *name == channel);
                let part = part.map_or_else(Vec::new, |(_, part)| part);
                self.channels.insert(channel, ReplayedChannel::from_state(part, state));
            }
            OwnedRecord::ChannelPart(channel, outstanding) => match &mut self.part {
                Some((name, part)) if *name == channel => part.extend(outstanding),
                part => *part = Some((channel, outstanding)),
            },
            OwnedRecord::ChannelDeleted(channel) => {
                self.channels.remove(&channel);
            }
            OwnedRecord::ChannelDelta(channel, delta) => {
                self.channels.entry(channel).or_default().apply(delta);
            }
            OwnedRecord::ChannelPaused(channel, paused) => {
                self.channels.entry(channel).or_default().paused = paused;
            }
            OwnedRecord::Deferrals(deferrals) => self.add_deferrals(deferrals),
            OwnedRecord::Waypoint(waypoint) => {
                self.waypoint = Some(waypoint);
                if waypoint.flushed {
                    self.flushed = self.waypoint;
                }
            }
            OwnedRecord::Time { node_ns } => self.time_ns = self.time_ns.max(node_ns),
        }
    }

    /// Adds deferrals, and drops those that every channel knows when there are twice as many as were left the last time.
    fn add_deferrals(&mut self, deferrals: Vec<Deferral>) {
        self.added.extend(deferrals);
        if self.added.len() >= self.added_max.max(ADDED_MAX) {
            let passed = self.passed();
            self.added.retain(|(range, _)| range.end > passed);
            self.added_max = 2 * self.added.len();
        }
    }

    /// The deferrals of the topic record and those that the log added.
    pub(crate) fn deferrals(&self) -> impl Iterator<Item = &Deferral> {
        self.deferred.iter().chain(&self.added)
    }

    /// The highest sequence number that the state of topic and channels refers to.
    pub(crate) fn claimed_end(&self) -> u64 {
        let channels = self.channels.values();
        channels.map(|channel| channel.end.max(channel.cursor)).fold(self.fanout, u64::max)
    }

    /// The end of the log as far as the journal knows, for a topic without segments.
    pub(crate) fn last_known_end(&self) -> u64 {
        let waypoints = self.waypoint.iter().chain(&self.flushed);
        waypoints.map(|waypoint| waypoint.position.end).fold(self.claimed_end(), u64::max)
    }

    /// The sequence number below which every channel has been given all messages: those that still wait are in the
    /// channels' outstanding sets, with their due times.
    pub(crate) fn passed(&self) -> u64 {
        let given = self.channels.values().map(|channel| channel.end).min();
        match given {
            // The recorded fan-out may be old: while channels follow the log, it is not recorded.
            Some(given) if !self.paused => given,
            given => given.unwrap_or(u64::MAX).min(self.fanout),
        }
    }

    /// The first message that is not finished.
    pub(crate) fn low(&self) -> u64 {
        let channels = self.channels.values();
        channels.map(ReplayedChannel::low).min().unwrap_or(self.fanout)
    }

    /// The state of topic and channels, without deferrals.
    pub(crate) fn into_topic_state(self) -> TopicState {
        let channels = self.channels.into_iter();
        TopicState {
            fanout: self.fanout,
            paused: self.paused,
            deferred: Vec::new(),
            channels: channels.map(|(name, channel)| (name, channel.into_state())).collect(),
        }
    }
}

/// The outcome of a replay.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) state: Replayed,
    pub(crate) topic_id: u64,
    /// The number of the record after the last one applied.
    pub(crate) next_number: u64,
    /// Length of the snapshot file.
    pub(crate) snapshot_bytes: u64,
    /// Length of the journal files before the newest.
    pub(crate) older_bytes: u64,
    /// The newest journal file that was applied.
    pub(crate) newest: Option<u32>,
    /// Its length up to its last good record.
    pub(crate) newest_bytes: u64,
    /// Where records were lost, if any were.
    pub(crate) cut: Option<Cut>,
}

/// The position in a file from which on nothing could be applied.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// Why nothing could be replayed.
#[derive(Debug)]
pub(crate) struct Unusable {
    pub(crate) path: PathBuf,
    pub(crate) reason: &'static str,
}

impl JournalFiles {
    /// Replays the newest complete snapshot and the journals from its generation on, up to but without `below`.
    ///
    /// # Errors
    /// When a file cannot be read or has an unknown version.
    pub(crate) fn replay(
        &self,
        found: &Generations,
        below: u32,
    ) -> Result<Result<Replay, Unusable>, OpenError> {
        let mut broken = None;
        let snapshots = found.snapshots.iter().filter(|generation| **generation <= below);
        for &generation in snapshots.rev() {
            let path = self.snapshot_path(generation);
            match self.replay_snapshot(&path)? {
                Some(base) if base.cut.is_none() => {
                    return Ok(Ok(self.replay_journals(base, found, generation..below)?));
                }
                partial => broken = broken.or(Some((path, partial))),
            }
        }
        match broken {
            Some((_, Some(partial))) => return Ok(Ok(partial)),
            Some((path, None)) => return Ok(Err(Unusable { path, reason: "damaged header" })),
            None => {}
        }
        let Some(&first) = found.journals.first() else {
            return Ok(Err(Unusable { path: self.journal_path(1), reason: "missing journal" }));
        };
        let path = self.journal_path(first);
        let unusable = |reason| Ok(Err(Unusable { path: path.clone(), reason }));
        match self.header_of(&path)? {
            Some(header) if header.records.is_none() && header.number == 1 => {
                let base = Replay::starting_at(&header);
                Ok(Ok(self.replay_journals(base, found, first..below)?))
            }
            Some(_) => unusable("missing snapshot"),
            None => unusable("damaged header"),
        }
    }

    fn header_of(&self, path: &Path) -> Result<Option<FileHeader>, OpenError> {
        let Some(file) = self.open(path)? else { return Ok(None) };
        read_header(&mut RecordReader::new(&*file, path)?, path)
    }

    /// The state in a snapshot file; with a cut if the file is incomplete, `None` if it is not even a snapshot.
    fn replay_snapshot(&self, path: &Path) -> Result<Option<Replay>, OpenError> {
        let Some(file) = self.open(path)? else { return Ok(None) };
        let mut reader = RecordReader::new(&*file, path)?;
        let Some(header) = read_header(&mut reader, path)? else { return Ok(None) };
        let Some(records) = header.records else { return Ok(None) };
        let mut replay = Replay { next_number: 1, ..Replay::starting_at(&header) };
        replay.apply_file(&mut reader)?;
        if replay.next_number != 1 + u64::from(records) {
            replay.cut = Some(Cut::behind(&reader, path));
        }
        replay.next_number = header.number;
        replay.snapshot_bytes = reader.length();
        Ok(Some(replay))
    }

    fn replay_journals(
        &self,
        mut replay: Replay,
        found: &Generations,
        generations: Range<u32>,
    ) -> Result<Replay, OpenError> {
        let journals = found.journals.iter().filter(|generation| generations.contains(generation));
        for &generation in journals {
            let path = self.journal_path(generation);
            let Some(file) = self.open(&path)? else { continue };
            let mut reader = RecordReader::new(&*file, &path)?;
            if reader.length() == 0 {
                // The process stopped before the file was put to use.
                continue;
            }
            let header = read_header(&mut reader, &path)?.filter(|header| {
                header.records.is_none()
                    && header.topic_id == replay.topic_id
                    && header.number <= replay.next_number
            });
            if header.is_none() {
                replay.cut.get_or_insert_with(|| Cut::behind(&reader, &path));
                break;
            }
            replay.older_bytes += std::mem::take(&mut replay.newest_bytes);
            let orphans = replay.apply_file(&mut reader)?;
            (replay.newest, replay.newest_bytes) = (Some(generation), reader.offset());
            let whole = reader.offset() == reader.length() && orphans == 0;
            replay.cut = (!whole).then(|| Cut::behind(&reader, &path));
        }
        Ok(replay)
    }
}

impl Replay {
    fn starting_at(header: &FileHeader) -> Self {
        Self {
            state: Replayed::default(),
            topic_id: header.topic_id,
            next_number: header.number,
            snapshot_bytes: 0,
            older_bytes: 0,
            newest: None,
            newest_bytes: 0,
            cut: None,
        }
    }

    /// Applies the records of a file; returns the number of good ones that a missing one made useless.
    fn apply_file(&mut self, reader: &mut RecordReader<'_>) -> Result<usize, IoError> {
        let mut early = BTreeMap::new();
        while let Some((number, record)) = reader.next()? {
            if number > self.next_number {
                early.entry(number).or_insert(record);
            } else if number == self.next_number {
                self.state.apply(record);
                self.next_number += 1;
                while let Some(record) = early.remove(&self.next_number) {
                    self.state.apply(record);
                    self.next_number += 1;
                }
            }
        }
        Ok(early.len())
    }
}

impl Cut {
    pub(crate) fn notice(&self) -> Notice {
        let event = Event::JournalCut { offset: self.offset, bytes: self.bytes };
        Notice { path: self.path.clone(), event }
    }

    fn behind(reader: &RecordReader<'_>, path: &Path) -> Self {
        let offset = reader.offset();
        Self { path: path.to_owned(), offset, bytes: reader.length() - offset }
    }
}

/// The header of a file; `None` if it is damaged.
fn read_header(
    reader: &mut RecordReader<'_>,
    path: &Path,
) -> Result<Option<FileHeader>, OpenError> {
    match reader.header()? {
        Ok(header) => Ok(Some(header)),
        Err(HeaderDefect::Damaged) => Ok(None),
        Err(HeaderDefect::Version(found)) => {
            Err(OpenError::Version { path: path.to_owned(), found, known: FORMAT_VERSION })
        }
    }
}
