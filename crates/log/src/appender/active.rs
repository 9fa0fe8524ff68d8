//! The segment being written, and the one created ahead of it.

use std::sync::{Arc, atomic::Ordering::Release};

use crate::{
    error::{Context, IoError},
    extent::{BatchAt, Extent},
    open_files::KeptFile,
    segment::{SEGMENT_HEADER_BYTES, Segment, SegmentHeader, segment_path, spare_header},
    shared::Durability,
    site::Site,
};

/// At level `memory`, batches gather up to this size before they are written.
const GATHER_BYTES: usize = 256 << 10;

/// The segment being written.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) segment: Arc<Segment>,
    /// `None` for ephemeral topics.
    pub(crate) file: Option<Arc<KeptFile>>,
    /// Bytes in the file.
    pub(crate) bytes: u64,
    /// Encoded batches that follow them but are not written yet (level `memory` only).
    pub(crate) pending: Vec<u8>,
}

/// A write that failed.
#[derive(Debug)]
pub(crate) struct WriteError {
    pub(crate) error: IoError,
    /// Nothing of the write remains in the file.
    pub(crate) undone: bool,
}

impl WriteError {
    /// A failure before anything was written.
    pub(crate) fn before(error: IoError) -> Self {
        Self { error, undone: true }
    }
}

impl Active {
    /// A segment that is on disk already, or that never will be.
    pub(crate) fn resume(segment: Arc<Segment>, file: Option<Arc<KeptFile>>) -> Self {
        let bytes = segment.extent().bytes;
        Self { segment, file, bytes, pending: Vec::new() }
    }

    /// The length of the segment with everything appended.
    pub(crate) fn length(&self) -> u64 {
        self.bytes + self.pending.len() as u64
    }

    /// The index that the message `seq` has in this segment.
    pub(crate) fn index_of(&self, seq: u64) -> u32 {
        u32::try_from(seq - self.segment.first).unwrap_or(u32::MAX)
    }

    /// Writes the batch that begins with message `first` and ends before `end`, or keeps it for later at level `memory`.
    pub(crate) fn put(
        &mut self,
        site: &Site<'_>,
        batch: &[u8],
        first: u64,
        end: u64,
    ) -> Result<(), WriteError> {
        if self.file.is_none() {
            self.bytes += batch.len() as u64;
        } else if site.shared.options.durability == Durability::Memory
            && batch.len() <= GATHER_BYTES
        {
            if self.pending.len() + batch.len() > GATHER_BYTES {
                self.write_pending(site, first)?;
            }
            self.segment.extent().note(BatchAt { first, offset: self.length() });
            self.pending.extend_from_slice(batch);
            return Ok(());
        } else {
            self.write_pending(site, first)?;
            let at = BatchAt { first, offset: self.bytes };
            self.write(site, batch, Some(at))?;
        }
        site.marks.written.store(end, Release);
        Ok(())
    }

    /// Writes the batches that have gathered; `end` follows their last message.
    pub(crate) fn write_pending(&mut self, site: &Site<'_>, end: u64) -> Result<(), WriteError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.pending);
        let written = self.write(site, &pending, None);
        if written.is_ok() {
            pending.clear();
            site.marks.written.store(end, Release);
        }
        self.pending = pending;
        written
    }

    /// Writes at the end of the file, of which nothing remains after an error that was undone.
    fn write(
        &mut self,
        site: &Site<'_>,
        bytes: &[u8],
        batch: Option<BatchAt>,
    ) -> Result<(), WriteError> {
        let Some(kept) = &self.file else { return Ok(()) };
        let path = kept.path();
        let file = site.shared.open_files.get(kept).context("open", path);
        let file = file.map_err(WriteError::before)?;
        if let Err(error) = file.write_all_at(bytes, self.bytes).context("write", path) {
            return Err(WriteError { error, undone: file.truncate(self.bytes).is_ok() });
        }
        self.bytes += bytes.len() as u64;
        site.marks.appended_bytes.fetch_add(bytes.len() as u64, Release);
        let mut extent = self.segment.extent();
        if let Some(batch) = batch {
            extent.note(batch);
        }
        // Before `written` moves, so that a cold read finds everything that it may read.
        extent.bytes = self.bytes;
        Ok(())
    }
}

/// A segment that was created ahead, so that beginning it is one small write.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) number: u32,
    /// `None` for ephemeral topics.
    file: Option<Arc<KeptFile>>,
}

impl Spare {
    /// Takes a segment number and creates its file.
    pub(crate) fn create(site: &Site<'_>) -> Result<Self, IoError> {
        let number = site.shared.node.take_segment()?;
        if site.memory_only {
            return Ok(Self { number, file: None });
        }
        let path = segment_path(site.dir, number);
        let file = site.shared.open_files.create(path.clone()).context("create", &path)?;
        let spare = Self { number, file: Some(file) };
        if let Err(error) = spare.write(site, &spare_header()) {
            spare.remove(site);
            return Err(error);
        }
        Ok(spare)
    }

    /// Begins the segment.
    pub(crate) fn begin(
        &self,
        site: &Site<'_>,
        first: u64,
        created_ns: i64,
    ) -> Result<Active, IoError> {
        let header = SegmentHeader {
            number: self.number,
            node_id: site.shared.node_id,
            topic_id: site.id,
            first,
            created_ns,
            incarnation: site.shared.incarnation,
        };
        self.write(site, &header.encode())?;
        let extent = Extent { bytes: SEGMENT_HEADER_BYTES as u64, ..Extent::default() };
        let segment = Arc::new(Segment::new(&header, extent));
        Ok(Active::resume(segment, self.file.clone()))
    }

    fn write(&self, site: &Site<'_>, header: &[u8]) -> Result<(), IoError> {
        let Some(kept) = &self.file else { return Ok(()) };
        let path = kept.path();
        let file = site.shared.open_files.get(kept).context("open", path)?;
        file.write_all_at(header, 0).context("write", path)
    }

    pub(crate) fn rest(&self) {
        if let Some(file) = &self.file {
            file.close();
        }
    }

    /// Removes the file. One that stays is harmless: the next start removes it.
    pub(crate) fn remove(&self, site: &Site<'_>) {
        if let Some(file) = &self.file {
            file.close();
            let _ = site.shared.disk.remove(file.path());
        }
    }
}
