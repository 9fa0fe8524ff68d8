//! The time at which the oldest message of a topic or channel was published.

use std::sync::Mutex;

use nsq_log::TopicLog;

use crate::lock::lock;

/// The publish time of the oldest message, remembered because it may have to be read from disk.
#[derive(Debug, Default)]
pub(crate) struct Oldest(Mutex<Option<Known>>);

/// A message and when it was published.
#[derive(Copy, Clone, Debug)]
struct Known {
    seq: u64,
    timestamp_ns: i64,
}

impl Oldest {
    /// Returns when `seq`, the oldest message, was published, in ns since 1970. Each read from disk takes one of `loads`;
    /// once none are left the time of the last message that was looked up has to do. `None` when no time is known.
    ///
    /// May block: call it on a thread that may.
    pub(crate) fn timestamp_ns(&self, log: &TopicLog, seq: u64, loads: &mut usize) -> Option<i64> {
        if let Some(timestamp_ns) = log.timestamp_ns(seq) {
            return Some(timestamp_ns);
        }
        let known = *lock(&self.0);
        if let Some(known) = known.filter(|known| known.seq == seq || *loads == 0) {
            return Some(known.timestamp_ns);
        }
        *loads = loads.checked_sub(1)?;
        // A file that cannot be read is reported by the delivery that needs it.
        let timestamp_ns = log.load_timestamp_ns(seq).ok().flatten()?;
        *lock(&self.0) = Some(Known { seq, timestamp_ns });
        Some(timestamp_ns)
    }
}
