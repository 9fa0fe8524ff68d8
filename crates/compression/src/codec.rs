//! The choice of a format.

use std::io;

use bytes::BytesMut;

use crate::{
    deflate::{Deflater, Inflater},
    snappy,
    unpacked::Unpacked,
};

/// A compressor and decompressor for one format.
pub struct Codec(Format);

#[expect(clippy::large_enum_variant, reason = "there is one per connection, in a box")]
enum Format {
    Deflate(Deflater, Inflater),
    Snappy(snappy::Packer, snappy::Unpacker),
}

impl Codec {
    /// Creates a codec for raw deflate that compresses at `level`, from 1 to 9.
    pub fn deflate(level: u8) -> Self {
        Self(Format::Deflate(Deflater::new(level), Inflater::default()))
    }

    /// Creates a codec for snappy.
    pub fn snappy() -> Self {
        Self(Format::Snappy(snappy::Packer::default(), snappy::Unpacker::default()))
    }

    /// Compresses all of `plain`. Output may be held back until [`Codec::flush`].
    pub(crate) fn pack(&mut self, plain: &[u8], packed: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.0 {
            Format::Deflate(deflater, _) => deflater.pack(plain, packed),
            Format::Snappy(packer, _) => packer.pack(plain, packed),
        }
    }

    /// Ends the block, so that the peer can decompress everything compressed so far.
    pub(crate) fn flush(&mut self, packed: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.0 {
            Format::Deflate(deflater, _) => deflater.flush(packed),
            Format::Snappy(packer, _) => packer.flush(packed),
        }
    }

    /// Decompresses as much from the front of `packed` as fits into `plain`, which is not empty.
    pub(crate) fn unpack(
        &mut self,
        packed: &mut BytesMut,
        plain: &mut [u8],
    ) -> io::Result<Unpacked> {
        match &mut self.0 {
            Format::Deflate(_, inflater) => inflater.unpack(packed, plain),
            Format::Snappy(_, unpacker) => unpacker.unpack(packed, plain),
        }
    }

    /// Gives back the memory that is not needed between two blocks. Everything packed must have been flushed.
    pub(crate) fn shrink(&mut self) {
        match &mut self.0 {
            Format::Deflate(deflater, _) => deflater.shrink(),
            Format::Snappy(packer, unpacker) => {
                packer.shrink();
                unpacker.shrink();
            }
        }
    }
}
