//! Messages as they are read: slices of the log.

use bytes::Bytes;

use crate::batch::{RECORD_HEAD_BYTES, u32_at, u64_at};

/// Offset of the timestamp in a record: after size and type.
const TIMESTAMP_AT: usize = 8;

/// Consecutive whole records, as they go on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The records.
    pub bytes: Bytes,
    /// Sequence number of the first message.
    pub first: u64,
    /// Number of messages.
    pub count: u64,
    /// Offset of the last record in `bytes`.
    pub last_at: usize,
}

impl Slice {
    /// The time at which the first message was published, ns since 1970.
    pub fn timestamp_ns(&self) -> Option<i64> {
        timestamp(&self.bytes)
    }

    /// The timestamps of the messages as runs: the number of messages, and their time in ns.
    ///
    /// The messages of a batch share one timestamp, and a large batch is a slice of its own: then only the first and
    /// the last record are looked at. All between two of the same nanosecond are taken to be of it too: they are,
    /// unless the clock was set back to the very nanosecond.
    pub fn timestamps(&self) -> impl Iterator<Item = (u64, i64)> + '_ {
        let last = self.bytes.get(self.last_at..).and_then(timestamp);
        let (mut rest, mut left) = (&self.bytes[..], self.count);
        std::iter::from_fn(move || {
            let time = timestamp(rest).filter(|_| left > 0)?;
            let count = if Some(time) == last { left } else { skip_all_of(time, &mut rest) };
            left = left.saturating_sub(count);
            Some((count, time))
        })
    }
}

/// The timestamp of the first record.
pub(crate) fn timestamp(records: &[u8]) -> Option<i64> {
    (records.len() >= RECORD_HEAD_BYTES).then(|| u64_at(records, TIMESTAMP_AT).cast_signed())
}

/// Skips the records of this time at the beginning; returns how many.
fn skip_all_of(time: i64, records: &mut &[u8]) -> u64 {
    let mut count = 0;
    while timestamp(records) == Some(time) {
        let end = 4 + u32_at(records, 0) as usize;
        *records = records.get(end..).unwrap_or_default();
        count += 1;
    }
    count
}
