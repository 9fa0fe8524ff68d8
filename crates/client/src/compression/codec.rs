//! NSQ's compression formats: raw deflate, without a zlib header, and snappy's framing format.

use std::io::{self, Read, Write};

use bytes::{Buf, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use snap::{read::FrameDecoder, write::FrameEncoder};

/// The space that deflate gets at a time.
const DEFLATE_ROOM: usize = 4 * 1024;
/// A chunk of snappy's framing format begins with its type and three bytes of length.
const CHUNK_HEAD_BYTES: usize = 4;
/// An upper bound for a chunk, which holds at most 64 KiB of data.
const CHUNK_BYTES_MAX: usize = 80 * 1024;

/// A compressor and decompressor for one format.
#[expect(clippy::large_enum_variant, reason = "there is one per connection, in a box")]
pub(crate) enum Codec {
    Deflate(Deflate),
    Snappy(Snappy),
}

/// Raw RFC 1951.
pub(crate) struct Deflate {
    compress: Compress,
    decompress: Decompress,
}

/// Snappy's framing format.
pub(crate) struct Snappy {
    encoder: FrameEncoder<Vec<u8>>,
    decoder: FrameDecoder<WholeChunks>,
}

/// The input of the snappy decoder, which cannot stop within a chunk.
#[derive(Default)]
struct WholeChunks(BytesMut);

impl Codec {
    /// Creates a codec for deflate that compresses at `level`, from 1 to 9.
    pub(crate) fn deflate(level: u8) -> Self {
        let level = Compression::new(level.into());
        Self::Deflate(Deflate {
            compress: Compress::new(level, false),
            decompress: Decompress::new(false),
        })
    }

    /// Creates a codec for snappy.
    pub(crate) fn snappy() -> Self {
        let encoder = FrameEncoder::new(Vec::new());
        Self::Snappy(Snappy { encoder, decoder: FrameDecoder::new(WholeChunks::default()) })
    }

    /// Compresses all of `plain`. Output may be held back until [`Codec::flush`].
    pub(crate) fn compress(&mut self, plain: &[u8], packed: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Deflate(deflate) => deflate.pack(plain, packed, FlushCompress::None),
            Self::Snappy(snappy) => {
                snappy.encoder.write_all(plain)?;
                packed.append(snappy.encoder.get_mut());
                Ok(())
            }
        }
    }

    /// Ends the block, so that the peer can decompress everything compressed so far.
    pub(crate) fn flush(&mut self, packed: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Deflate(deflate) => deflate.pack(&[], packed, FlushCompress::Sync),
            Self::Snappy(snappy) => {
                snappy.encoder.flush()?;
                packed.append(snappy.encoder.get_mut());
                Ok(())
            }
        }
    }

    /// Decompresses as much from the front of `packed` as fits into `plain`. Returns the number of bytes written to
    /// `plain`; 0 means that more input is needed or that the stream has ended.
    pub(crate) fn decompress(
        &mut self,
        packed: &mut BytesMut,
        plain: &mut [u8],
    ) -> io::Result<usize> {
        match self {
            Self::Deflate(deflate) => deflate.unpack(packed, plain),
            Self::Snappy(snappy) => {
                snappy.decoder.get_mut().take_from(packed)?;
                snappy.decoder.read(plain)
            }
        }
    }
}

impl Deflate {
    fn pack(
        &mut self,
        mut plain: &[u8],
        packed: &mut Vec<u8>,
        flush: FlushCompress,
    ) -> io::Result<()> {
        loop {
            packed.reserve(DEFLATE_ROOM);
            let before = self.compress.total_in();
            self.compress.compress_vec(plain, packed, flush)?;
            plain = &plain[moved(before, self.compress.total_in())..];
            // If space is left, nothing is held back.
            if plain.is_empty() && packed.len() < packed.capacity() {
                return Ok(());
            }
        }
    }

    fn unpack(&mut self, packed: &mut BytesMut, plain: &mut [u8]) -> io::Result<usize> {
        loop {
            let (read, written) = (self.decompress.total_in(), self.decompress.total_out());
            let status = self.decompress.decompress(packed, plain, FlushDecompress::None)?;
            let read = moved(read, self.decompress.total_in());
            let written = moved(written, self.decompress.total_out());
            packed.advance(read);
            if written > 0 || read == 0 || packed.is_empty() || status == Status::StreamEnd {
                return Ok(written);
            }
        }
    }
}

/// Returns the difference of two counts of bytes in memory.
fn moved(before: u64, after: u64) -> usize {
    usize::try_from(after - before).unwrap_or(usize::MAX)
}

impl WholeChunks {
    /// Takes all whole chunks from the front of `packed`.
    fn take_from(&mut self, packed: &mut BytesMut) -> io::Result<()> {
        let mut whole = 0;
        while let Some(&[_, a, b, c]) = packed[whole..].first_chunk::<CHUNK_HEAD_BYTES>() {
            let chunk = CHUNK_HEAD_BYTES + u32::from_le_bytes([a, b, c, 0]) as usize;
            if chunk > CHUNK_BYTES_MAX {
                let problem = format!("snappy chunk of {chunk} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
            if packed.len() - whole < chunk {
                break;
            }
            whole += chunk;
        }
        if whole > 0 {
            self.0.unsplit(packed.split_to(whole));
        }
        Ok(())
    }
}

impl Read for WholeChunks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = out.len().min(self.0.len());
        self.0.copy_to_slice(&mut out[..n]);
        Ok(n)
    }
}
