//! The good batches in a window of a segment file, and the pieces that they become.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;

use crate::{
    batch::{BATCH_HEADER_BYTES, BatchHeader, checksum, records_end},
    pool::{Buffer, Pool, Pooled},
    read_budget::Lease,
    tail::Pieces,
    walk::Expected,
};

/// Records of batches below this are moved together, so that a backlog of single publishes is read as one slice.
const MERGE_BYTES_MAX: usize = 4 << 10;

/// A good batch in a window.
pub(crate) struct Found {
    first: u64,
    pub(crate) end: u64,
    /// Header and records.
    pub(crate) bytes: Range<usize>,
    count: u32,
}

/// Finds the good batches in a window that begins with the one that holds `seq`: those without gaps, up to `stop`.
pub(crate) fn scan(window: &[u8], expected: &Expected, seq: u64, stop: u64) -> Vec<Found> {
    let mut batches: Vec<Found> = Vec::new();
    let mut at = 0;
    while batches.last().is_none_or(|last| last.end < stop) {
        let Some(header) = header_at(window, at, expected) else { break };
        let follows = match batches.last() {
            Some(last) => header.first == last.end,
            None => (header.first..header.end()).contains(&seq),
        };
        let end = usize::try_from(header.bytes()).unwrap_or(usize::MAX).saturating_add(at);
        let Some(batch) = window.get(at..end).filter(|_| follows) else { break };
        if checksum(batch) != header.crc {
            break;
        }
        let (first, count) = (header.first, header.count);
        batches.push(Found { first, end: header.end(), bytes: at..end, count });
        at = end;
    }
    batches
}

/// The bytes that the first batch of a window needs, if there is one that could be good.
pub(crate) fn first_bytes(window: &[u8], expected: &Expected) -> Option<u64> {
    header_at(window, 0, expected).map(|header| header.bytes())
}

fn header_at(window: &[u8], at: usize, expected: &Expected) -> Option<BatchHeader> {
    let head = window.get(at..)?.first_chunk::<BATCH_HEADER_BYTES>()?;
    BatchHeader::decode(head).filter(|header| expected.accepts(header))
}

/// Makes pieces of the batches in a buffer, moving the records of small ones together.
/// The lease ends with the last reader. `None` when records do not add up, which a checksum does not allow.
pub(crate) fn pieces(
    mut buffer: Buffer,
    batches: &[Found],
    pool: &Arc<Pool>,
    lease: Lease,
) -> Option<Pieces> {
    let mut pieces = Pieces::starting_at(batches.first()?.first);
    let mut spans: Vec<(u64, Range<usize>)> = Vec::new();
    for batch in batches {
        let records = batch.bytes.start + BATCH_HEADER_BYTES..batch.bytes.end;
        let length = records.len();
        let target = match spans.last_mut() {
            Some((_, span)) if length < MERGE_BYTES_MAX => {
                buffer.bytes.copy_within(records, span.end);
                let start = span.end;
                span.end += length;
                start..start + length
            }
            _ => {
                spans.push((batch.first, records.clone()));
                records
            }
        };
        let base = spans.last().map_or(target.start, |(_, span)| span.start);
        let base = u32::try_from(target.start - base).ok()?;
        let whole = records_end(&buffer.bytes[target], batch.count, |end| {
            pieces.push_end(base.saturating_add(end));
        });
        if !whole {
            return None;
        }
    }
    let leased = Leased { bytes: Pooled::new(buffer, Arc::clone(pool)), _lease: lease };
    let bytes = Bytes::from_owner(leased);
    for (first, span) in spans {
        pieces.push_bytes(first, bytes.slice(span), 0);
    }
    Some(pieces)
}

/// Bytes read from disk, which return to the pool and the budget when dropped.
struct Leased {
    bytes: Pooled,
    _lease: Lease,
}

impl AsRef<[u8]> for Leased {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}
