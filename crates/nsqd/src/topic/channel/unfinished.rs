//! The messages that a channel still needs.

use std::{iter::once, ops::Range};

use super::Channel;
use crate::lock::lock;

impl Channel {
    /// The messages that are not finished, and maybe some among them that are.
    pub(crate) fn unfinished(&self) -> Vec<Range<u64>> {
        let state = lock(&self.inner).schedule.state();
        let outstanding = state.outstanding.into_iter().map(|it| it.range);
        let not_delivered = once(state.cursor..state.end);
        outstanding.chain(not_delivered).filter(|range| !range.is_empty()).collect()
    }
}
