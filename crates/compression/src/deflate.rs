//! Raw RFC 1951, without a zlib header.
//!
//! A compressor takes a quarter of a megabyte, so a connection has one only while it has something to compress: a few
//! bytes, such as a heartbeat or `OK`, become a stored block, and an idle connection drops its compressor. The peer
//! does not notice, because a block after a flush need not refer to the data before it.

use std::io;

use bytes::{Buf, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::unpacked::Unpacked;

/// The space that the compressor gets at a time.
const ROOM: usize = 4 * 1024;
/// The most data that is stored rather than compressed, while there is no compressor.
const STORED_BYTES_MAX: usize = 64;
/// The head of a stored block that is not the last; its length follows.
const STORED: u8 = 0;
/// An empty stored block, with which a flush ends: decoders pass on what they have when they come across it.
const EMPTY_BLOCK: &[u8] = &[STORED, 0, 0, 0xff, 0xff];

/// The compressor of a connection.
pub(crate) struct Deflater {
    level: u8,
    compress: Option<Compress>,
    /// Data that waits for a flush or for enough to compress. Empty while there is a compressor.
    stored: Vec<u8>,
}

/// The decompressor of a connection.
#[derive(Default)]
pub(crate) struct Inflater {
    /// Created with the first data: it holds the 32 KiB that the peer may refer to.
    decompress: Option<Decompress>,
}

impl Deflater {
    pub(crate) fn new(level: u8) -> Self {
        Self { level, compress: None, stored: Vec::new() }
    }

    pub(crate) fn pack(&mut self, plain: &[u8], packed: &mut Vec<u8>) -> io::Result<()> {
        let Some(compress) = &mut self.compress else {
            self.stored.extend_from_slice(plain);
            if self.stored.len() <= STORED_BYTES_MAX {
                return Ok(());
            }
            let plain = std::mem::take(&mut self.stored);
            let level = Compression::new(self.level.into());
            let compress = self.compress.insert(Compress::new(level, false));
            return run(compress, &plain, packed, FlushCompress::None);
        };
        run(compress, plain, packed, FlushCompress::None)
    }

    pub(crate) fn flush(&mut self, packed: &mut Vec<u8>) -> io::Result<()> {
        if let Some(compress) = &mut self.compress {
            return run(compress, &[], packed, FlushCompress::Sync);
        }
        let len = u16::try_from(self.stored.len()).unwrap_or(u16::MAX);
        packed.push(STORED);
        packed.extend(len.to_le_bytes());
        packed.extend((!len).to_le_bytes());
        packed.append(&mut self.stored);
        packed.extend(EMPTY_BLOCK);
        Ok(())
    }

    pub(crate) fn shrink(&mut self) {
        self.compress = None;
    }
}

impl Inflater {
    pub(crate) fn unpack(
        &mut self,
        packed: &mut BytesMut,
        plain: &mut [u8],
    ) -> io::Result<Unpacked> {
        let decompress = self.decompress.get_or_insert_with(|| Decompress::new(false));
        loop {
            let (read, written) = (decompress.total_in(), decompress.total_out());
            let status = decompress.decompress(packed, plain, FlushDecompress::None)?;
            let read = moved(read, decompress.total_in());
            let written = moved(written, decompress.total_out());
            packed.advance(read);
            if written > 0 {
                return Ok(Unpacked::Bytes(written));
            }
            if status == Status::StreamEnd {
                return Ok(Unpacked::Ended);
            }
            if read == 0 || packed.is_empty() {
                return Ok(Unpacked::Starved);
            }
        }
    }
}

/// Compresses all of `plain`.
fn run(
    compress: &mut Compress,
    mut plain: &[u8],
    packed: &mut Vec<u8>,
    flush: FlushCompress,
) -> io::Result<()> {
    loop {
        packed.reserve(ROOM);
        let before = compress.total_in();
        compress.compress_vec(plain, packed, flush)?;
        plain = &plain[moved(before, compress.total_in())..];
        // If space is left, nothing is held back.
        if plain.is_empty() && packed.len() < packed.capacity() {
            return Ok(());
        }
    }
}

/// Returns the difference of two counts of bytes in memory.
fn moved(before: u64, after: u64) -> usize {
    usize::try_from(after - before).unwrap_or(usize::MAX)
}
