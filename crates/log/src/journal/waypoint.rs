//! Waypoints: places in the log before which recovery need not look.

/// A position in the log: the end of a batch.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The number of the segment.
    pub(crate) segment: u32,
    /// The length of its file up to here.
    pub(crate) bytes: u64,
    /// The sequence number of the next message.
    pub(crate) end: u64,
    /// Appending may go on in the segment after a clean stop.
    pub(crate) open: bool,
}

/// States that everything before a position is complete, and that its deferred batches are in the journal.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waypoint {
    pub(crate) position: Position,
    /// The segments were flushed up to the position before the record was written.
    pub(crate) flushed: bool,
    /// The boot of the machine during which the record was written; zeros for an unknown one.
    pub(crate) boot_id: [u8; 16],
}

impl Waypoint {
    /// Returns true if the segments still hold everything up to the position in a machine that runs as `boot_id`.
    pub(crate) fn is_usable(&self, boot_id: [u8; 16]) -> bool {
        self.flushed || (self.boot_id == boot_id && boot_id != [0; 16])
    }
}
