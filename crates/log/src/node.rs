//! The node file: who this node is, how often it came back from a crash, which segment numbers it has reserved, and
//! how its time relates to the machine's clocks.
//!
//! Two slots of 512 bytes, written in turn and in place, so that a start needs no free space; the newest valid one
//! counts. A slot is
//!
//! ```text
//!  0 magic  4 crc  8 version  10 flags (1 = clean)  12 incarnation  16 node id  32 reserved below  36 zero
//! 40 sequence  48 boot id  64 node time - time since boot  72 wall time - node time  80 zeros
//! ```

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use crate::{
    batch::{u16_at, u32_at, u64_at},
    disk::Disk,
    error::{Context, IoError},
    lock,
    segment::{FORMAT_VERSION, HeaderDefect},
};

const MAGIC: [u8; 4] = *b"NSQN";
const SLOT_BYTES: usize = 512;
/// The whole file of earlier versions: the front of a slot with a checksum of its own.
const SHORT_BYTES: usize = 40;
/// Segment numbers are reserved in blocks of this many, and one more for each topic.
const RESERVE: u32 = 1024;
/// The recorded relation to the wall clock may be wrong by this much.
const WALL_TOLERANCE_NS: u64 = 1_000_000_000;

/// The machine's clocks, read when a store is opened.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// The random id of the machine's boot; zeros if unknown.
    pub boot_id: [u8; 16],
    /// Time since the boot, in ns, counting suspensions.
    pub since_boot_ns: u64,
    /// Wall-clock time, ns since 1970.
    pub wall_ns: i64,
}

/// The contents of the node file.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeState {
    pub(crate) id: [u8; 16],
    pub(crate) incarnation: u32,
    pub(crate) clean: bool,
    /// Segment numbers below this may have been used.
    pub(crate) reserved: u32,
    /// Which write of the file this is.
    pub(crate) sequence: u64,
    pub(crate) boot_id: [u8; 16],
    pub(crate) node_minus_boot_ns: i64,
    pub(crate) wall_minus_node_ns: i64,
}

impl NodeState {
    /// The state of a node that has written no node file.
    pub(crate) fn new(id: [u8; 16], incarnation: u32, reserved: u32) -> Self {
        Self {
            id,
            incarnation,
            clean: false,
            reserved,
            sequence: 0,
            boot_id: [0; 16],
            node_minus_boot_ns: 0,
            wall_minus_node_ns: 0,
        }
    }

    fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut out = [0; SLOT_BYTES];
        out[..4].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&FORMAT_VERSION.to_be_bytes());
        out[11] = u8::from(self.clean);
        out[12..16].copy_from_slice(&self.incarnation.to_be_bytes());
        out[16..32].copy_from_slice(&self.id);
        out[32..36].copy_from_slice(&self.reserved.to_be_bytes());
        out[40..48].copy_from_slice(&self.sequence.to_be_bytes());
        out[48..64].copy_from_slice(&self.boot_id);
        out[64..72].copy_from_slice(&self.node_minus_boot_ns.to_be_bytes());
        out[72..80].copy_from_slice(&self.wall_minus_node_ns.to_be_bytes());
        let crc = crc32c::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// Reads the newest valid slot, or a file of an earlier version.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderDefect> {
        let slots = [bytes.get(..SLOT_BYTES), bytes.get(SLOT_BYTES..2 * SLOT_BYTES)];
        let short = bytes.get(..SHORT_BYTES);
        let mut newest: Option<Self> = None;
        for slot in slots.into_iter().chain([short]).flatten() {
            match Self::decode_slot(slot) {
                Ok(state) if newest.is_none_or(|it| it.sequence < state.sequence) => {
                    newest = Some(state);
                }
                Err(HeaderDefect::Version(found)) => return Err(HeaderDefect::Version(found)),
                _ => {}
            }
        }
        newest.ok_or(HeaderDefect::Damaged)
    }

    fn decode_slot(bytes: &[u8]) -> Result<Self, HeaderDefect> {
        if bytes[..4] != MAGIC || crc32c::crc32c(&bytes[8..]) != u32_at(bytes, 4) {
            return Err(HeaderDefect::Damaged);
        }
        if u16_at(bytes, 8) != FORMAT_VERSION {
            return Err(HeaderDefect::Version(u16_at(bytes, 8)));
        }
        let id = |at: usize| bytes[at..at + 16].first_chunk().copied().unwrap_or_default();
        let mut state = Self::new(id(16), u32_at(bytes, 12), u32_at(bytes, 32));
        state.clean = bytes[11] & 1 == 1;
        if bytes.len() == SLOT_BYTES {
            state.sequence = u64_at(bytes, 40);
            state.boot_id = id(48);
            state.node_minus_boot_ns = u64_at(bytes, 64).cast_signed();
            state.wall_minus_node_ns = u64_at(bytes, 72).cast_signed();
        }
        Ok(state)
    }

    /// Node time by these clocks: exact within a boot of the machine, by the wall clock across boots, and never
    /// before `latest_ns`, which was recorded earlier.
    fn time(&self, clocks: &Clocks, latest_ns: u64) -> u64 {
        let same_boot = self.boot_id == clocks.boot_id && self.boot_id != [0; 16];
        let now = if same_boot {
            clocks.since_boot_ns.checked_add_signed(self.node_minus_boot_ns)
        } else {
            u64::try_from(clocks.wall_ns.saturating_sub(self.wall_minus_node_ns)).ok()
        };
        now.unwrap_or(0).max(latest_ns)
    }
}

/// The node file while the node runs.
#[derive(Debug)]
pub(crate) struct Node {
    file: Mutex<NodeFile>,
    numbers: Mutex<Numbers>,
    /// How many segment numbers to reserve at once.
    block: u32,
}

/// Segment numbers: the next one, and the first that is not reserved in the file.
#[derive(Debug)]
struct Numbers {
    next: u32,
    reserved: u32,
}

impl Node {
    /// Continues from the state in the file and marks the node as running. No segment number below `unused` is
    /// given out.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn start(
        disk: Arc<dyn Disk>,
        path: &Path,
        found: NodeState,
        unused: u32,
        topics: usize,
    ) -> Result<Self, IoError> {
        let block = RESERVE.saturating_add(u32::try_from(topics).unwrap_or(u32::MAX));
        let next = found.reserved.max(unused);
        let reserved = next.saturating_add(block);
        let mut file = NodeFile { disk, path: path.to_owned(), state: found };
        file.update(|state| {
            state.incarnation = found.incarnation.saturating_add(u32::from(!found.clean));
            state.clean = false;
            state.reserved = reserved;
        })?;
        let numbers = Mutex::new(Numbers { next, reserved });
        Ok(Self { file: Mutex::new(file), numbers, block })
    }

    pub(crate) fn state(&self) -> NodeState {
        lock(&self.file).state
    }

    /// A segment number that was never used on this node. Flushes the file only when the reserved block is used up.
    ///
    /// # Errors
    /// When the file cannot be written, or there are no more numbers.
    pub(crate) fn take_segment(&self) -> Result<u32, IoError> {
        loop {
            {
                let mut numbers = lock(&self.numbers);
                if numbers.next < numbers.reserved {
                    numbers.next += 1;
                    return Ok(numbers.next - 1);
                }
            }
            self.reserve()?;
        }
    }

    /// Returns true if [`Node::reserve`] should be called soon.
    pub(crate) fn is_low(&self) -> bool {
        let numbers = lock(&self.numbers);
        numbers.reserved - numbers.next < self.block / 2
    }

    /// Reserves the next block of segment numbers, without holding up those who take numbers of this one.
    ///
    /// # Errors
    /// When the file cannot be written, or there are no more numbers.
    pub(crate) fn reserve(&self) -> Result<(), IoError> {
        let mut file = lock(&self.file);
        let (next, before) = {
            let numbers = lock(&self.numbers);
            (numbers.next, numbers.reserved)
        };
        if before - next >= self.block {
            return Ok(());
        }
        let reserved = next.saturating_add(self.block);
        if reserved == before {
            let used_up = std::io::Error::other("all 2^32 segment numbers are used up");
            return Err(IoError::new("reserve segment numbers in", &file.path, used_up));
        }
        file.update(|state| state.reserved = reserved)?;
        lock(&self.numbers).reserved = reserved;
        Ok(())
    }

    /// Starts node time; returns its value now.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn start_time(&self, clocks: &Clocks, latest_ns: u64) -> Result<u64, IoError> {
        let mut file = lock(&self.file);
        let now = file.state.time(clocks, latest_ns);
        file.update(|state| {
            state.boot_id = clocks.boot_id;
            state.node_minus_boot_ns = difference(now, clocks.since_boot_ns);
            state.wall_minus_node_ns = clocks.wall_ns.saturating_sub(now.cast_signed());
        })?;
        Ok(now)
    }

    /// Records how far wall time is ahead of node time, unless it has hardly changed.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn note_wall(&self, wall_minus_node_ns: i64) -> Result<(), IoError> {
        let mut file = lock(&self.file);
        let known = file.state.wall_minus_node_ns;
        if known.abs_diff(wall_minus_node_ns) <= WALL_TOLERANCE_NS {
            return Ok(());
        }
        file.update(|state| state.wall_minus_node_ns = wall_minus_node_ns)
    }

    /// Records a clean stop and gives back the rest of the reserved block.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn stop(&self) -> Result<(), IoError> {
        let next = lock(&self.numbers).next;
        lock(&self.file).update(|state| {
            state.clean = true;
            state.reserved = next;
        })
    }
}

fn difference(a: u64, b: u64) -> i64 {
    a.cast_signed().wrapping_sub(b.cast_signed())
}

/// The file and its contents.
#[derive(Debug)]
struct NodeFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    state: NodeState,
}

impl NodeFile {
    /// Writes a changed state to the slot that does not hold the current one.
    fn update(&mut self, change: impl FnOnce(&mut NodeState)) -> Result<(), IoError> {
        let mut state = self.state;
        change(&mut state);
        state.sequence += 1;
        let slot = state.encode();
        match self.disk.open(&self.path) {
            Ok(file) => {
                let at = (state.sequence % 2) * SLOT_BYTES as u64;
                file.write_all_at(&slot, at).context("write", &self.path)?;
                file.sync_data().context("sync", &self.path)?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.create(&slot)?,
            Err(error) => return Err(IoError::new("open", &self.path, error)),
        }
        self.state = state;
        Ok(())
    }

    /// Creates the file with both slots alike; a crash leaves either all of it or nothing.
    fn create(&self, slot: &[u8; SLOT_BYTES]) -> Result<(), IoError> {
        let temp = self.path.with_extension("tmp");
        let file = self.disk.create(&temp).context("create", &temp)?;
        file.write_all_at(&[*slot, *slot].concat(), 0).context("write", &temp)?;
        file.sync_data().context("sync", &temp)?;
        self.disk.rename(&temp, &self.path).context("rename", &temp)?;
        let dir = self.path.parent().unwrap_or_else(|| Path::new("."));
        self.disk.sync_dir(dir).context("sync directory", dir)
    }
}
