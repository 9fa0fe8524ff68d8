//! What the journal of a channel has to learn.

use std::ops::Range;

use crate::Time;
use crate::range_set::RangeSet;

/// Messages a channel has not finished with that are not simply waiting for their first delivery.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Outstanding {
    /// The messages.
    pub range: Range<u64>,
    /// How often they have been delivered.
    pub attempts: u16,
    /// When they become ready, if they are deferred.
    pub due: Option<Time>,
}

/// What happened to a channel since it was last asked.
///
/// Applying changes twice, or older ones again, does no harm: `end` and `cursor` only grow,
/// `finished` is a set that always wins, and `outstanding` tells the whole truth about its
/// messages. A message below the cursor that is neither finished nor ever mentioned in
/// `outstanding` has been delivered once. [`crate::Replay`] is these rules as code.
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
    /// The channel was emptied. The other fields are complete in any case; it is a good moment to
    /// rewrite the journal from [`crate::Channel::state`].
    pub reset: bool,
}

/// The part of [`Changes`] that is collected as it happens.
#[derive(Default, Debug)]
pub(crate) struct Unreported {
    pub(crate) finished: RangeSet,
    pub(crate) reset: bool,
    /// End and cursor as last told.
    pub(crate) told: (u64, u64),
}

/// Appends messages, as a part of the last item when they continue it.
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
