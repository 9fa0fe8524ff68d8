//! Notices of damage and loss: everything that was cut, set aside, rebuilt or reset, and in which file.

use std::{fmt, ops::Range, path::PathBuf};

use crate::extent::Hole;

/// A fault found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The file.
    pub path: PathBuf,
    /// The fault and its repair.
    pub event: Event,
}

/// A fault found in a file, and its repair.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The log ended in an incomplete batch, as after a power cut; the file was cut.
    TailCut {
        /// Where the last good batch ends.
        offset: u64,
        /// How much was cut.
        bytes: u64,
    },
    /// There is damage between good batches; the messages are lost, the rest is kept.
    Damage {
        /// The damaged part of the file.
        bytes: Range<u64>,
        /// The sequence numbers that were in it.
        lost: Range<u64>,
    },
    /// Messages are missing from the file, or the whole file is.
    Missing {
        /// Where they should be.
        offset: u64,
        /// Their sequence numbers.
        lost: Range<u64>,
    },
    /// A file could not be read: those of its messages that are not in memory are lost.
    Quarantined {
        /// The sequence numbers in it.
        lost: Range<u64>,
        /// How many of them were not lost before.
        messages: u64,
    },
    /// A segment file cannot be read; it stays as it is, and its messages are not delivered.
    Unreadable {
        /// The operating system's error.
        error: String,
        /// Sequence numbers that no other file holds.
        lost: Range<u64>,
    },
    /// A segment header was damaged and was rebuilt from the batches.
    HeaderRebuilt,
    /// The file could not be understood, or belongs to something else; renamed to `*.bad`.
    SetAside {
        /// Why.
        reason: &'static str,
        /// Its length.
        bytes: u64,
    },
    /// A journal has an incomplete or damaged record; later records are lost, so messages may come again.
    JournalCut {
        /// Where the last good record ends.
        offset: u64,
        /// How much was cut.
        bytes: u64,
    },
    /// A journal could not be used at all: every kept message will come again on every channel.
    JournalReset {
        /// Why.
        reason: &'static str,
    },
    /// The journal mentioned messages behind the end of the log; its state was cut to fit.
    StateCut {
        /// Where the log ends.
        end: u64,
        /// The end in the journal.
        claimed: u64,
    },
    /// The node file was missing or damaged; id and counters were taken from the segments or made anew.
    NodeRebuilt {
        /// The old node id was found.
        id_kept: bool,
    },
}

impl Event {
    /// Messages that are lost, and the bytes in their place, if any.
    pub(crate) fn lost(hole: Hole) -> Self {
        let Hole { lost, bytes } = hole;
        if bytes.is_empty() {
            Self::Missing { offset: bytes.start, lost }
        } else {
            Self::Damage { bytes, lost }
        }
    }
}

impl Notice {
    /// Returns true if stored messages are lost or out of reach.
    pub fn is_loss(&self) -> bool {
        matches!(
            self.event,
            Event::Damage { .. }
                | Event::Missing { .. }
                | Event::Quarantined { .. }
                | Event::Unreadable { .. }
        )
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        match &self.event {
            Event::TailCut { offset, bytes } => {
                write!(f, "incomplete batch at offset {offset}, cut {bytes} bytes")
            }
            Event::Damage { bytes, lost } => write!(
                f,
                "damage at offsets {} to {}, {} messages lost (sequence {} to {})",
                bytes.start,
                bytes.end,
                lost.end - lost.start,
                lost.start,
                lost.end
            ),
            Event::Missing { offset, lost } => write!(
                f,
                "{} messages missing at offset {offset} (sequence {} to {})",
                lost.end - lost.start,
                lost.start,
                lost.end
            ),
            Event::Quarantined { lost, messages } => write!(
                f,
                "cannot be read, {messages} messages lost (sequence {} to {})",
                lost.start, lost.end
            ),
            Event::Unreadable { error, lost } => write!(
                f,
                "unreadable ({error}), {} messages skipped (sequence {} to {}), file kept",
                lost.end - lost.start,
                lost.start,
                lost.end
            ),
            Event::HeaderRebuilt => f.write_str("damaged header, rebuilt from the batches"),
            Event::SetAside { reason, bytes } => {
                write!(f, "{reason}, {bytes} bytes set aside in a .bad file")
            }
            Event::JournalCut { offset, bytes } => {
                write!(
                    f,
                    "bad record at offset {offset}, cut {bytes} bytes: messages may be delivered again"
                )
            }
            Event::JournalReset { reason } => {
                write!(f, "{reason}: all kept messages will be delivered again")
            }
            Event::StateCut { end, claimed } => {
                write!(f, "mentions sequence {claimed}, but the log ends at {end}: cut to fit")
            }
            Event::NodeRebuilt { id_kept: true } => {
                f.write_str("missing or damaged, rebuilt with the node id found in the segments")
            }
            Event::NodeRebuilt { id_kept: false } => {
                f.write_str("missing or damaged, the node has a new id")
            }
        }
    }
}
