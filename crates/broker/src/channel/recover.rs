//! What a channel tells its journal, and how it comes back from what the journal kept.

use super::{Channel, ChannelConfig};
use crate::changes::push_joining;
use crate::outstanding::{Entry, State};
use crate::range_set::RangeSet;
use crate::{Changes, ChannelState, Outstanding};

impl Channel {
    /// A channel as it was, without clients and with counters at zero. What was in flight is ready
    /// for redelivery. Ranges may be in any order; where they overlap, `finished` wins, then the
    /// lower start.
    pub fn recover(config: ChannelConfig, state: ChannelState) -> Channel {
        let ChannelState { end, cursor, finished, mut outstanding, paused } = state;
        let cursor = cursor.min(end);
        let mut channel = Channel::new(config, end);
        channel.paused = paused;
        outstanding.sort_by_key(|it| it.range.start);
        let mut settled = RangeSet::default();
        for range in finished {
            settled.insert(range);
        }
        for it in outstanding {
            for range in settled.gaps(it.range.start..it.range.end.min(end)) {
                let (from, to, attempts) = (range.start, range.end, it.attempts);
                settled.insert(range);
                let state = it.due.map_or(State::Ready, |due| State::Deferred { due });
                let entry = Entry { from, to, attempts, changed: false, state };
                match state {
                    State::Ready => channel.make_ready(&entry, false),
                    State::InFlight(_) | State::Deferred { .. } => {
                        channel.outstanding.insert_joining(entry);
                    }
                }
            }
        }
        for range in settled.gaps(cursor..end) {
            channel.ready.push_pending(range);
        }
        channel.unreported.told = (end, channel.cursor());
        channel
    }

    /// All that is worth keeping. What is in flight appears as ready for redelivery.
    pub fn state(&self) -> ChannelState {
        let cursor = self.cursor();
        let mut unfinished = RangeSet::default();
        self.ready.pending().for_each(|range| unfinished.insert(range.clone()));
        let mut outstanding = Vec::new();
        for entry in self.outstanding.iter() {
            push_joining(&mut outstanding, report(entry));
            unfinished.insert(entry.from..entry.to);
        }
        ChannelState {
            end: self.end,
            cursor,
            finished: unfinished.gaps(cursor..self.end),
            outstanding,
            paused: self.paused,
        }
    }

    /// Whether [`Channel::changes`] has anything to tell.
    pub fn has_changes(&self) -> bool {
        let unreported = &self.unreported;
        unreported.reset
            || !unreported.finished.is_empty()
            || self.outstanding.has_changed()
            || unreported.told != (self.end, self.cursor())
    }

    /// What happened since this was last called. Costs nothing to leave uncalled: what is
    /// collected is bounded by the messages not finished.
    pub fn changes(&mut self) -> Changes {
        let mut outstanding = Vec::new();
        for entry in self.outstanding.take_changed() {
            push_joining(&mut outstanding, report(entry));
        }
        let (end, cursor) = (self.end, self.cursor());
        self.unreported.told = (end, cursor);
        Changes {
            end,
            cursor,
            finished: self.unreported.finished.drain(),
            outstanding,
            reset: std::mem::take(&mut self.unreported.reset),
        }
    }

    /// The first message never delivered.
    fn cursor(&self) -> u64 {
        self.ready.first_pending().unwrap_or(self.end)
    }
}

fn report(entry: &Entry) -> Outstanding {
    Outstanding { range: entry.from..entry.to, attempts: entry.attempts, due: entry.due() }
}
