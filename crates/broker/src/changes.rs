//! The changes of a channel, for its journal.

use std::ops::Range;

use crate::{Time, range_set::RangeSet};

/// Unfinished messages of a channel that are not simply waiting for their first delivery.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Outstanding {
    /// The messages.
    pub range: Range<u64>,
    /// How often they have been delivered.
    pub attempts: u16,
    /// When they become ready, if they are deferred.
    pub due: Option<Time>,
}

/// The changes of a channel since they were last taken.
///
/// Applying changes twice, or older ones again, does no harm: `end` and `cursor` only grow,
/// `finished` is a set that always wins, and `outstanding` tells all there is to know about
/// its messages. A message below the cursor that is neither finished nor ever mentioned in
/// `outstanding` has been delivered once. [`crate::Replay`] implements these rules.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct Changes {
    /// One past the last message the channel was given.
    pub end: u64,
    /// Messages from here on have never been delivered, unless another field says otherwise.
    pub cursor: u64,
    /// Messages that were finished or dropped, ascending and never touching.
    pub finished: Vec<Range<u64>>,
    /// Messages that were requeued with a delay, published deferred, became due, or were
    /// delivered again; ascending.
    pub outstanding: Vec<Outstanding>,
    /// Set when the channel was emptied. The other fields are complete in any case; it is a good
    /// moment to rewrite the journal from [`crate::Channel::state`].
    pub reset: bool,
}

/// The part of [`Changes`] that is collected as it happens.
#[derive(Default, Debug)]
pub(crate) struct Unreported {
    pub(crate) finished: RangeSet,
    pub(crate) reset: bool,
    /// End and cursor as they were last reported.
    pub(crate) told: (u64, u64),
}

/// Appends messages; those that continue the last item become a part of it.
pub(crate) fn push_joining(list: &mut Vec<Outstanding>, next: Outstanding) {
    match list.last_mut() {
        Some(last)
            if last.range.end == next.range.start
                && last.attempts == next.attempts
                && last.due == next.due =>
        {
            last.range.end = next.range.end;
        }
        _ => list.push(next),
    }
}
