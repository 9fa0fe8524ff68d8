//! Message ids as numbers: log, segment and index packed into 64 bits.

use nsq_protocol::MessageId;

/// Bits of the index within a segment.
const INDEX_BITS: u32 = 22;
/// Bits of the index and the segment together.
const PLACE_BITS: u32 = INDEX_BITS + 32;

/// The most messages that a segment holds.
pub const SEGMENT_MESSAGES_MAX: u64 = 1 << INDEX_BITS;

/// The place of a message, as its id tells it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct IdParts {
    /// The segment's key: its number mixed with the id of the node that wrote it. A topic's
    /// [`segment_of`](crate::TopicLog::segment_of) finds the segment.
    pub segment: u32,
    /// The index of the message in the segment.
    pub index: u32,
}

/// Splits an id into segment key and index; `None` for ids that no node of this kind gives to its own messages.
pub fn split_id(id: MessageId) -> Option<IdParts> {
    let id = id.to_u64()?;
    if id >> PLACE_BITS != 0 {
        return None;
    }
    let segment = u32::try_from(id >> INDEX_BITS).ok()?;
    let index = u32::try_from(id & (SEGMENT_MESSAGES_MAX - 1)).ok()?;
    Some(IdParts { segment, index })
}

/// The id of a message in log 0. `index` is below [`SEGMENT_MESSAGES_MAX`].
pub(crate) fn join_id(segment_key: u32, index: u32) -> u64 {
    u64::from(segment_key) << INDEX_BITS | u64::from(index)
}

/// The key under which a segment appears in ids. XOR keeps keys as distinct as numbers are.
pub(crate) fn segment_key(number: u32, node_id: &[u8; 16]) -> u32 {
    number ^ crc32c::crc32c(node_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_splits_into_what_it_was_joined_from() {
        for (segment, index) in [(0, 0), (u32::MAX, (1 << 22) - 1), (0x1234_5678, 7)] {
            let id = MessageId::from_u64(join_id(segment, index));
            assert_eq!(split_id(id), Some(IdParts { segment, index }));
        }
    }

    #[test]
    fn ids_of_other_logs_and_other_spellings_are_not_ours() {
        assert_eq!(split_id(MessageId::from_u64(1 << 54)), None);
        assert_eq!(split_id(MessageId(*b"not an id at all")), None);
    }
}
