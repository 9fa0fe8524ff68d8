//! Fan-out: when a topic hands its messages to its channels.
//!
//! Messages wait at the topic while it is paused or has no channels. `fanout` is how far they have
//! been handed out; a new channel starts there.
//!
//! # Invariants
//!
//! 1. `fanout <= end`, and neither ever moves back.
//! 2. Fan-outs are contiguous: each starts where the one before it ended.
//! 3. Nothing is fanned out while the topic is paused or has no channels.

use std::{collections::BTreeMap, ops::Range, time::Duration};

/// Messages that a topic hands to each of its channels.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct FanOut {
    /// The messages. It starts where the fan-out before it ended.
    pub range: Range<u64>,
    /// The deferred ones among them: ascending ranges inside `range`, each with its delay, which
    /// starts with the fan-out. Normally empty.
    pub deferred: Vec<(Range<u64>, Duration)>,
}

/// Where a new channel starts.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct ChannelStart {
    /// The sequence number to create the channel with.
    pub start: u64,
    /// The messages that waited for a first channel: to be given to it right after creating it.
    pub fan_out: Option<FanOut>,
}

/// The state of a [`Topic`] that survives a restart.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct TopicState {
    /// One past the last published message.
    pub end: u64,
    /// One past the last message that channels have been given.
    pub fanout: u64,
    /// Set while the topic is paused.
    pub paused: bool,
    /// The number of channels.
    pub channels: usize,
    /// The deferred publishes between `fanout` and `end`, ascending.
    pub deferred: Vec<(Range<u64>, Duration)>,
}

/// The fan-out bookkeeping of one topic.
#[derive(Debug)]
pub struct Topic {
    end: u64,
    fanout: u64,
    paused: bool,
    channels: usize,
    /// Ranges published ahead of a gap: start to end.
    early: BTreeMap<u64, u64>,
    /// Deferred publishes that have not been fanned out: start to end and delay.
    deferred: BTreeMap<u64, (u64, Duration)>,
}

impl Topic {
    /// Creates a topic without messages and channels, whose first message will be `start`.
    pub fn new(start: u64) -> Topic {
        Topic::recover(TopicState { end: start, fanout: start, ..TopicState::default() })
    }

    /// Recreates a topic. Call [`Topic::take_fan_out`] once its channels are there.
    pub fn recover(state: TopicState) -> Topic {
        let TopicState { end, fanout, paused, channels, deferred } = state;
        let deferred = deferred.into_iter().map(|(range, delay)| (range.start, (range.end, delay)));
        Topic {
            end: end.max(fanout),
            fanout,
            paused,
            channels,
            early: BTreeMap::new(),
            deferred: deferred.collect(),
        }
    }

    /// The state that survives a restart. Messages published ahead of a gap are left out.
    pub fn state(&self) -> TopicState {
        let deferred = self.deferred.range(..self.end);
        TopicState {
            end: self.end,
            fanout: self.fanout,
            paused: self.paused,
            channels: self.channels,
            deferred: deferred.map(|(&from, &(to, delay))| (from..to, delay)).collect(),
        }
    }

    /// Records published messages and returns those that go to the channels now.
    ///
    /// Ranges may come in any order: messages behind a gap wait until it is filled. Messages that
    /// were published before are ignored.
    pub fn publish(&mut self, range: Range<u64>, defer: Option<Duration>) -> Option<FanOut> {
        let range = range.start.max(self.end)..range.end;
        if range.is_empty() {
            return None;
        }
        if let Some(delay) = defer.filter(|delay| !delay.is_zero()) {
            self.hold_deferred(range.clone(), delay);
        }
        if range.start > self.end {
            let end = self.early.entry(range.start).or_insert(range.end);
            *end = range.end.max(*end);
            return None;
        }
        self.end = range.end;
        while let Some(early) = self.early.first_entry().filter(|early| *early.key() <= self.end) {
            self.end = self.end.max(early.remove());
        }
        self.take_fan_out()
    }

    /// Removes and returns the messages waiting at the topic, if they may go to its channels.
    pub fn take_fan_out(&mut self) -> Option<FanOut> {
        if self.paused || self.channels == 0 || self.fanout == self.end {
            return None;
        }
        let range = self.fanout..self.end;
        self.fanout = self.end;
        Some(FanOut { range, deferred: self.take_deferred() })
    }

    /// Makes published messages wait at the topic.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Ends a pause; returns the messages that have waited.
    pub fn unpause(&mut self) -> Option<FanOut> {
        self.paused = false;
        self.take_fan_out()
    }

    /// Returns whether messages wait at the topic because of [`Topic::pause`].
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Counts a new channel. The first one gets the messages that have waited at the topic, unless
    /// the topic is paused; later ones get those published from then on.
    pub fn add_channel(&mut self) -> ChannelStart {
        self.channels += 1;
        ChannelStart { start: self.fanout, fan_out: self.take_fan_out() }
    }

    /// Counts a channel as deleted. Without channels, messages wait at the topic.
    pub fn remove_channel(&mut self) {
        self.channels = self.channels.saturating_sub(1);
    }

    /// Drops the messages waiting at the topic. Channels keep theirs, and have to [skip] the dropped ones.
    ///
    /// [skip]: crate::Channel::skip
    pub fn empty(&mut self) {
        self.fanout = self.end;
        self.take_deferred();
    }

    /// The number of messages waiting at the topic.
    pub fn depth(&self) -> u64 {
        self.end - self.fanout
    }

    /// One past the last message before the first gap.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// One past the last message given to the channels.
    pub fn fanout(&self) -> u64 {
        self.fanout
    }

    /// Keeps a delay until the fan-out; publishes in a row with the same delay are one range.
    fn hold_deferred(&mut self, range: Range<u64>, delay: Duration) {
        match self.deferred.range_mut(..=range.start).next_back() {
            Some((_, (end, same))) if *end == range.start && *same == delay => *end = range.end,
            _ => _ = self.deferred.insert(range.start, (range.end, delay)),
        }
    }

    /// Removes and returns the deferred publishes before the end.
    fn take_deferred(&mut self) -> Vec<(Range<u64>, Duration)> {
        let mut taken = Vec::new();
        while let Some(first) = self.deferred.first_entry().filter(|first| *first.key() < self.end)
        {
            let from = *first.key();
            let (to, delay) = first.remove();
            taken.push((from..to, delay));
        }
        taken
    }
}
