//! The state of a topic and its channels, as the journal keeps it.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use nsq_protocol::ChannelName;

use crate::journal_codec::JournalRecord;

/// The state of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicState {
    /// Where a new channel starts.
    pub fanout: u64,
    /// Whether channels get nothing more from the topic.
    pub paused: bool,
    /// Messages that were published to be delivered later, with the delay.
    pub deferred: Vec<(Range<u64>, Duration)>,
    /// The channels by name.
    pub channels: Vec<(ChannelName, ChannelState)>,
}

/// The state of a channel. Everything below `cursor` that is not outstanding is finished; everything from
/// `cursor` on waits for its first delivery, unless it is outstanding or finished ahead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelState {
    /// How far the channel may read.
    pub end: u64,
    /// The first message that was never handed out.
    pub cursor: u64,
    /// Messages from `cursor` on that are finished all the same; in order, without overlap.
    pub finished: Vec<Range<u64>>,
    /// What was handed out or put aside and is not finished; in order, without overlap.
    pub outstanding: Vec<Outstanding>,
    /// Whether the channel is paused.
    pub paused: bool,
}

/// Messages of a channel that are not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outstanding {
    /// Their sequence numbers.
    pub range: Range<u64>,
    /// How often they were delivered.
    pub attempts: u16,
    /// When they are to be delivered, ns since 1970; `None` for at once.
    pub due_ns: Option<u64>,
}

/// What changed in a channel. What `cursor` passes has been delivered once, unless the state before or the other
/// fields say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelDelta {
    /// How far the channel may read.
    pub end: u64,
    /// The first message that was never handed out.
    pub cursor: u64,
    /// Messages that are finished. They stay so, whatever `outstanding` says.
    pub finished: Vec<Range<u64>>,
    /// Messages that were delivered again, requeued or deferred.
    pub outstanding: Vec<Outstanding>,
}

impl TopicState {
    /// The records that make this state from nothing.
    pub(crate) fn records(&self) -> impl Iterator<Item = JournalRecord<'_>> {
        let topic = JournalRecord::Topic {
            fanout: self.fanout,
            paused: self.paused,
            deferred: &self.deferred,
        };
        let channels = self.channels.iter();
        std::iter::once(topic).chain(
            channels.map(|(channel, state)| JournalRecord::ChannelSnapshot { channel, state }),
        )
    }
}

/// State in the making, during replay.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    pub(crate) fanout: u64,
    pub(crate) paused: bool,
    pub(crate) deferred: Vec<(Range<u64>, Duration)>,
    pub(crate) channels: BTreeMap<ChannelName, ChannelState>,
    /// Segment, its length, and the end of the log, if the last thing that happened was a clean stop.
    pub(crate) checkpoint: Option<(u32, u64, u64)>,
    added: Vec<(Range<u64>, Duration)>,
}

impl Replayed {
    /// Applies the next record.
    pub(crate) fn apply(&mut self, record: Owned) {
        self.checkpoint = None;
        match record {
            Owned::Topic { fanout, paused, deferred } => {
                (self.fanout, self.paused, self.deferred) = (fanout, paused, deferred);
            }
            Owned::ChannelState(channel, state) => {
                self.channels.insert(channel, state);
            }
            Owned::ChannelDeleted(channel) => {
                self.channels.remove(&channel);
            }
            Owned::ChannelDelta(channel, delta) => {
                self.channels.entry(channel).or_default().apply(delta);
            }
            Owned::ChannelPaused(channel, paused) => {
                self.channels.entry(channel).or_default().paused = paused;
            }
            Owned::Deferrals(deferrals) => self.added.extend(deferrals),
            Owned::Checkpoint { segment, bytes, end } => {
                self.checkpoint = Some((segment, bytes, end));
            }
        }
    }

    /// The deferrals of the topic state and those that the log added.
    pub(crate) fn deferrals(&self) -> impl Iterator<Item = &(Range<u64>, Duration)> {
        self.deferred.iter().chain(&self.added)
    }

    /// The highest sequence number that the state speaks of.
    pub(crate) fn end(&self) -> u64 {
        let channels = self.channels.values();
        channels.map(|channel| channel.end.max(channel.cursor)).fold(self.fanout, u64::max)
    }
}

/// A journal record that owns what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owned {
    Topic { fanout: u64, paused: bool, deferred: Vec<(Range<u64>, Duration)> },
    ChannelState(ChannelName, ChannelState),
    ChannelDeleted(ChannelName),
    ChannelDelta(ChannelName, ChannelDelta),
    ChannelPaused(ChannelName, bool),
    Deferrals(Vec<(Range<u64>, Duration)>),
    Checkpoint { segment: u32, bytes: u64, end: u64 },
}

impl ChannelState {
    fn apply(&mut self, delta: ChannelDelta) {
        self.end = self.end.max(delta.end);
        self.pass(delta.cursor);
        for entry in delta.outstanding {
            self.remove(&entry.range);
            self.put(entry);
        }
        for range in &delta.finished {
            self.remove(range);
            let ahead = range.start.max(self.cursor)..range.end;
            if !ahead.is_empty() {
                self.finished.push(ahead);
            }
        }
        self.finished.sort_unstable_by_key(|range| range.start);
        self.finished.dedup_by(|next, last| {
            let joins = next.start <= last.end;
            if joins {
                last.end = last.end.max(next.end);
            }
            joins
        });
    }

    /// Moves the cursor: what it passes was delivered once, unless it was outstanding or finished before.
    fn pass(&mut self, cursor: u64) {
        if cursor <= self.cursor {
            return;
        }
        let outstanding = self.outstanding.iter().map(|o| o.range.clone());
        let mut known: Vec<_> = outstanding.chain(self.finished.iter().cloned()).collect();
        known.sort_unstable_by_key(|range| range.start);
        let mut from = self.cursor;
        for range in known.into_iter().chain(std::iter::once(cursor..cursor)) {
            let until = range.start.min(cursor);
            if from < until {
                self.put(Outstanding { range: from..until, attempts: 1, due_ns: None });
            }
            from = from.max(range.end);
        }
        self.cursor = cursor;
        self.finished.retain_mut(|range| {
            range.start = range.start.max(cursor);
            !range.is_empty()
        });
    }

    fn put(&mut self, entry: Outstanding) {
        let at = self.outstanding.partition_point(|o| o.range.start < entry.range.start);
        self.outstanding.insert(at, entry);
    }

    /// Takes a range out of the outstanding set, splitting what it cuts.
    fn remove(&mut self, range: &Range<u64>) {
        let from = self.outstanding.partition_point(|o| o.range.end <= range.start);
        let to = self.outstanding.partition_point(|o| o.range.start < range.end);
        if from >= to || range.is_empty() {
            return;
        }
        let mut left = self.outstanding[from].clone();
        let mut right = self.outstanding[to - 1].clone();
        left.range.end = range.start;
        right.range.start = range.end;
        let rest = [left, right].into_iter().filter(|o| !o.range.is_empty());
        self.outstanding.splice(from..to, rest);
    }

    /// Cuts off what lies outside of `log`; true when something lay behind its end.
    pub(crate) fn fit(&mut self, log: &Range<u64>) -> bool {
        let beyond = self.end > log.end
            || self.cursor > log.end
            || self.outstanding.iter().any(|o| o.range.end > log.end);
        self.end = self.end.clamp(log.start, log.end);
        self.cursor = self.cursor.clamp(log.start, log.end);
        for entry in &mut self.outstanding {
            entry.range.start = entry.range.start.max(log.start);
            entry.range.end = entry.range.end.min(log.end);
        }
        self.outstanding.retain(|o| !o.range.is_empty());
        for range in &mut self.finished {
            *range = range.start.max(log.start)..range.end.min(log.end);
        }
        self.finished.retain(|range| !range.is_empty());
        beyond
    }
}
