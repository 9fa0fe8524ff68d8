//! Recovery of a topic from its directory after a stop of any kind.

mod files;
mod segments;

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use nsq_protocol::TopicName;

pub(crate) use self::files::{newest_writer, next_segment, read_file};
use self::segments::{Segments, Walked};
use crate::{
    appender::{Active, AppenderStart},
    error::{Error, OpenError},
    journal::{Deferral, Generations, Journal, JournalFiles, Replay, Replayed, push_deferral},
    notice::{Event, Notice},
    open_files::KeptFile,
    segment::segment_path,
    segments::Table,
    shared::Shared,
    state::TopicState,
    topic_log::{Start, TopicLog},
};

/// A recovered topic.
pub(crate) struct Recovered {
    pub(crate) log: TopicLog,
    pub(crate) state: TopicState,
    /// Damage and loss found.
    pub(crate) report: Vec<Notice>,
    /// The latest node time in the journal.
    pub(crate) time_ns: u64,
}

/// Recovers the topic in `dir`. `clean` says that the node was stopped cleanly.
///
/// # Errors
/// When the journal or the newest segment cannot be read, or a file cannot be mended.
pub(crate) fn recover_topic(
    shared: &Arc<Shared>,
    name: TopicName,
    dir: PathBuf,
    clean: bool,
) -> Result<Recovered, Error> {
    let names = files::clean_and_list(&*shared.disk, &dir)?;
    let mut recovery =
        Recovery { shared, dir: &dir, found: Generations::among(&names), report: Vec::new() };
    let replay = recovery.read_journal()?;
    let segments = Segments::scan(shared, &dir, &names, replay.topic_id(), &mut recovery.report)?;
    let topic_id = match segments.topic_id().or_else(|| replay.topic_id()) {
        Some(topic_id) => topic_id,
        None => shared.random()?,
    };
    let replay = recovery.settle_replay(replay, topic_id, segments.is_empty());
    let state = replay.as_ref().map(|replay| &replay.state);
    let walked = segments.walk(state, clean, &mut recovery.report)?;
    let table = segments.table(&walked, state, &mut recovery.report);

    // Without any segment only the journal knows where the log was.
    let end = walked.newest.as_ref().map(|newest| newest.end);
    let end = end.unwrap_or_else(|| state.map_or(0, Replayed::last_known_end));
    let first = table.segments.first().map_or(end, |segment| segment.first);
    let time_ns = state.map_or(0, |state| state.time_ns);
    let journal = Journal::new(Arc::clone(&shared.disk), &dir, topic_id);
    let state = recovery.resume_journal(&journal, replay, first..end, &walked.deferrals)?;

    let appender = appender(&dir, &table, &walked);
    let synced = walked.synced.min(end);
    journal.restore_noted(walked.deferrals);
    let start = Start { id: topic_id, end, synced, table, appender, journal };
    let report = recovery.report;
    let log = TopicLog::new(name, dir, Arc::clone(shared), start);
    Ok(Recovered { log, state, report, time_ns })
}

/// The outcome of reading a topic's journal.
enum ReadJournal {
    /// There are no files.
    None,
    /// There are files, but none can be used.
    Lost {
        path: PathBuf,
        reason: &'static str,
    },
    Read(Box<Replay>),
}

impl ReadJournal {
    fn topic_id(&self) -> Option<u64> {
        if let Self::Read(replay) = self { Some(replay.topic_id) } else { None }
    }
}

struct Recovery<'a> {
    shared: &'a Arc<Shared>,
    dir: &'a Path,
    found: Generations,
    report: Vec<Notice>,
}

impl Recovery<'_> {
    fn read_journal(&self) -> Result<ReadJournal, OpenError> {
        if self.found.is_empty() {
            return Ok(ReadJournal::None);
        }
        let files = JournalFiles::new(Arc::clone(&self.shared.disk), self.dir);
        Ok(match files.replay(&self.found, u32::MAX)? {
            Ok(replay) => ReadJournal::Read(Box::new(replay)),
            Err(unusable) => ReadJournal::Lost { path: unusable.path, reason: unusable.reason },
        })
    }

    /// Reports loss in the journal and drops one that belongs to another topic than the segments.
    fn settle_replay(
        &mut self,
        replay: ReadJournal,
        topic_id: u64,
        is_new: bool,
    ) -> Option<Replay> {
        let (path, reason) = match replay {
            ReadJournal::Read(replay) if replay.topic_id == topic_id => {
                self.report.extend(replay.cut.as_ref().map(|cut| cut.notice()));
                return Some(*replay);
            }
            ReadJournal::Read(_) => {
                (self.journal_path(), "belongs to another topic than the segments")
            }
            ReadJournal::Lost { path, reason } => (path, reason),
            ReadJournal::None => (self.journal_path(), "missing journal"),
        };
        // A topic whose creation was interrupted has lost nothing.
        if !is_new {
            self.report.push(Notice { path, event: Event::JournalReset { reason } });
        }
        None
    }

    /// Lets the journal go on behind its last good record, or begin anew if the state does not fit the log or
    /// records are missing.
    fn resume_journal(
        &mut self,
        journal: &Journal,
        replay: Option<Replay>,
        log: Range<u64>,
        found: &[Deferral],
    ) -> Result<TopicState, Error> {
        let Some(mut replay) = replay else {
            let deferred = merge(found.to_vec(), log.clone());
            let state = TopicState { fanout: log.start, deferred, ..TopicState::default() };
            journal.replace(None, &self.found, state.clone())?;
            return Ok(state);
        };
        let claimed = replay.state.claimed_end();
        if claimed > log.end {
            let event = Event::StateCut { end: log.end, claimed };
            self.report.push(Notice { path: self.journal_path(), event });
        }
        let is_whole = replay.cut.is_none() && claimed <= log.end;
        if is_whole {
            journal.resume(&replay, &self.found)?;
        }
        let state = fit(std::mem::take(&mut replay.state), &log, found);
        if !is_whole {
            journal.replace(Some(&replay), &self.found, state.clone())?;
        }
        Ok(state)
    }

    fn journal_path(&self) -> PathBuf {
        JournalFiles::new(Arc::clone(&self.shared.disk), self.dir).newest_path(&self.found)
    }
}

/// An appender that goes on in the newest segment or begins a new one.
fn appender(dir: &Path, table: &Table, walked: &Walked) -> AppenderStart {
    let mut appender = AppenderStart {
        // Left by an unclean stop, perhaps in the operating system's memory only.
        unsynced: walked.unsynced.clone(),
        names_dirty: !walked.unsynced.is_empty(),
        ..AppenderStart::default()
    };
    if let (Some(newest), Some(segment)) = (&walked.newest, table.segments.last())
        && newest.is_resumable
    {
        let file = KeptFile::closed(segment_path(dir, segment.number));
        appender.active = Some(Active::resume(Arc::clone(segment), Some(file)));
    }
    appender
}

/// Fits the state to the log: nothing before its first message, nothing behind its end.
fn fit(replayed: Replayed, log: &Range<u64>, found: &[Deferral]) -> TopicState {
    let deferrals = replayed.deferrals().chain(found).cloned().collect();
    // Messages that every channel was given are in the channels' outstanding sets if they still wait.
    let passed = replayed.passed().clamp(log.start, log.end);
    let mut state = replayed.into_topic_state();
    state.fanout = state.fanout.clamp(log.start, log.end);
    for (_, channel) in &mut state.channels {
        channel.fit(log);
    }
    state.deferred = merge(deferrals, passed..log.end);
    state
}

/// Sorts deferrals, cuts them to `within`, and lets the first of two that overlap win.
fn merge(mut deferrals: Vec<Deferral>, within: Range<u64>) -> Vec<Deferral> {
    deferrals.sort_by_key(|(range, _)| range.start);
    let mut merged: Vec<Deferral> = Vec::new();
    for (range, delay) in deferrals {
        let from = merged.last().map_or(within.start, |(last, _)| last.end).max(range.start);
        let upto = range.end.min(within.end);
        if from < upto {
            push_deferral(&mut merged, from..upto, delay);
        }
    }
    merged
}
