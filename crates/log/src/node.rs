//! The node file: who this node is, how often it came back from a crash, which segment numbers it has used.
//!
//! ```text
//!  0 magic  4 crc  8 version  10 flags (1 = clean)  12 incarnation  16 node id  32 reserved below  36 zero
//! ```

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    batch::{u16_at, u32_at},
    disk::Disk,
    error::IoError,
    journal::replace_file,
    segment::{FORMAT_VERSION, HeaderDefect},
};

const MAGIC: [u8; 4] = *b"NSQN";
pub(crate) const NODE_BYTES: usize = 40;
/// Segment numbers are reserved in blocks, so that few rolls need the node file.
const RESERVE: u32 = 64;

/// What the node file says.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeState {
    pub(crate) id: [u8; 16],
    pub(crate) incarnation: u32,
    pub(crate) clean: bool,
    /// Segment numbers below this may have been used.
    pub(crate) reserved: u32,
}

impl NodeState {
    pub(crate) fn encode(&self) -> [u8; NODE_BYTES] {
        let mut out = [0; NODE_BYTES];
        out[..4].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&FORMAT_VERSION.to_be_bytes());
        out[11] = u8::from(self.clean);
        out[12..16].copy_from_slice(&self.incarnation.to_be_bytes());
        out[16..32].copy_from_slice(&self.id);
        out[32..36].copy_from_slice(&self.reserved.to_be_bytes());
        let crc = crc32c::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_be_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderDefect> {
        let bytes = bytes.get(..NODE_BYTES).ok_or(HeaderDefect::Damaged)?;
        if bytes[..4] != MAGIC || crc32c::crc32c(&bytes[8..]) != u32_at(bytes, 4) {
            return Err(HeaderDefect::Damaged);
        }
        if u16_at(bytes, 8) != FORMAT_VERSION {
            return Err(HeaderDefect::Version(u16_at(bytes, 8)));
        }
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[16..32]);
        Ok(Self {
            id,
            incarnation: u32_at(bytes, 12),
            clean: bytes[11] & 1 == 1,
            reserved: u32_at(bytes, 32),
        })
    }
}

/// The node's counters while it runs.
#[derive(Debug)]
pub(crate) struct Node {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    state: NodeState,
    next: u32,
}

impl Node {
    /// Takes over from what was found and marks the node as running.
    pub(crate) fn start(
        disk: Arc<dyn Disk>,
        path: &Path,
        found: NodeState,
    ) -> Result<Self, IoError> {
        let incarnation = found.incarnation.saturating_add(u32::from(!found.clean));
        let state = NodeState { incarnation, clean: false, ..found };
        let node = Self { disk, path: path.to_owned(), state, next: found.reserved };
        node.write()?;
        Ok(node)
    }

    pub(crate) fn state(&self) -> &NodeState {
        &self.state
    }

    /// A segment number that was never used on this node.
    pub(crate) fn take_segment(&mut self) -> Result<u32, IoError> {
        if self.next >= self.state.reserved {
            let more = self.next.saturating_add(RESERVE);
            let reserved = std::mem::replace(&mut self.state.reserved, more);
            if let Err(error) = self.write() {
                self.state.reserved = reserved;
                return Err(error);
            }
        }
        let number = self.next;
        self.next = number.saturating_add(1);
        Ok(number)
    }

    /// Makes sure that no number below `unused` is given out.
    pub(crate) fn skip_to(&mut self, unused: u32) {
        self.next = self.next.max(unused);
    }

    /// Notes a clean stop; the rest of the reserved block is given back.
    pub(crate) fn stop(&mut self) -> Result<(), IoError> {
        self.state.clean = true;
        self.state.reserved = self.next;
        self.write()
    }

    fn write(&self) -> Result<(), IoError> {
        replace_file(&*self.disk, &self.path, &self.state.encode())
    }
}
