//! The delivery counts of the messages of an imported channel.

use crate::state::{ChannelDelta, Outstanding};

/// Deliveries gather up to this many before they are written to the journal.
const PART_ENTRIES: usize = 4096;

/// The deliveries of a channel's messages.
///
/// As long as none was delivered before, the messages wait in the log. From the first one on that was, all are
/// outstanding, those before it too, so that they keep their order.
pub(super) struct Deliveries {
    first: u64,
    were_delivered: bool,
    outstanding: Vec<Outstanding>,
}

impl Deliveries {
    /// No deliveries yet, of a channel whose first message is `first`.
    pub(super) fn starting_at(first: u64) -> Self {
        Self { first, were_delivered: false, outstanding: Vec::new() }
    }

    /// Notes the next message.
    pub(super) fn note(&mut self, seq: u64, attempts: u16) {
        if !self.were_delivered && attempts == 0 {
            return;
        }
        if !std::mem::replace(&mut self.were_delivered, true) && self.first < seq {
            let range = self.first..seq;
            self.outstanding.push(Outstanding { range, attempts: 0, due_ns: None });
        }
        match self.outstanding.last_mut() {
            Some(last) if last.range.end == seq && last.attempts == attempts => last.range.end += 1,
            _ => {
                let range = seq..seq + 1;
                self.outstanding.push(Outstanding { range, attempts, due_ns: None });
            }
        }
    }

    /// Takes the deliveries that have gathered, once there are enough for a record.
    pub(super) fn take_part(&mut self) -> Option<ChannelDelta> {
        if self.outstanding.len() < PART_ENTRIES { None } else { self.take_rest() }
    }

    /// Takes all deliveries that have gathered, if any.
    pub(super) fn take_rest(&mut self) -> Option<ChannelDelta> {
        let outstanding = std::mem::take(&mut self.outstanding);
        (!outstanding.is_empty()).then(|| ChannelDelta { outstanding, ..ChannelDelta::default() })
    }
}
