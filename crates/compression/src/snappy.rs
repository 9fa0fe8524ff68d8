//! Snappy's framing format: chunks that are compressed each for itself and carry a checksum.
//!
//! Written here, on top of the block format, because an encoder and a decoder of the usual kind hold a quarter of a
//! megabyte for as long as the connection lasts.

use std::io;

use bytes::{Buf, BytesMut};
use crc32c::crc32c;
use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

use crate::unpacked::Unpacked;

/// The most data in a chunk.
const BLOCK_BYTES: usize = 64 * 1024;
/// Data shorter than this is not worth compressing.
const SHORT_BYTES: usize = 64;
/// A chunk begins with its type and three bytes of length.
const HEAD_BYTES: usize = 4;
/// A chunk of data begins with the checksum of the data.
const CHECKSUM_BYTES: usize = 4;

/// The types of chunks.
const COMPRESSED: u8 = 0x00;
const UNCOMPRESSED: u8 = 0x01;
/// Unknown types from here on are passed over.
const FIRST_SKIPPABLE: u8 = 0x80;
const IDENTIFIER: u8 = 0xff;

/// The content of the chunk that begins a stream.
const NAME: &[u8] = b"sNaPpY";

/// The compressor of a connection.
#[derive(Default)]
pub(crate) struct Packer {
    /// Data that waits for a flush or for the rest of a block.
    plain: Vec<u8>,
    bench: Option<Box<Bench>>,
    has_begun: bool,
}

/// The memory that compressing takes.
struct Bench {
    encoder: Encoder,
    room: Vec<u8>,
}

/// The decompressor of a connection.
#[derive(Default)]
pub(crate) struct Unpacker {
    /// How much of the input belongs to a chunk that is passed over.
    skipped: usize,
    /// How much of the input is data of an uncompressed chunk, which has been checked.
    checked: usize,
    /// Data of a compressed chunk that did not fit, and where its unread part begins.
    block: Vec<u8>,
    block_at: usize,
    has_begun: bool,
}

impl Packer {
    pub(crate) fn pack(&mut self, mut plain: &[u8], packed: &mut Vec<u8>) -> io::Result<()> {
        while !plain.is_empty() {
            if self.plain.is_empty() && plain.len() >= BLOCK_BYTES {
                // A whole block need not be gathered.
                let (block, rest) = plain.split_at(BLOCK_BYTES);
                self.chunk(block, packed)?;
                plain = rest;
                continue;
            }
            let (piece, rest) = plain.split_at(plain.len().min(BLOCK_BYTES - self.plain.len()));
            self.plain.extend_from_slice(piece);
            plain = rest;
            if self.plain.len() == BLOCK_BYTES {
                self.flush(packed)?;
            }
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self, packed: &mut Vec<u8>) -> io::Result<()> {
        let mut block = std::mem::take(&mut self.plain);
        if !block.is_empty() {
            self.chunk(&block, packed)?;
        }
        block.clear();
        self.plain = block;
        Ok(())
    }

    pub(crate) fn shrink(&mut self) {
        self.bench = None;
        self.plain = Vec::new();
    }

    fn chunk(&mut self, block: &[u8], packed: &mut Vec<u8>) -> io::Result<()> {
        if !self.has_begun {
            self.has_begun = true;
            put_head(IDENTIFIER, NAME.len(), packed);
            packed.extend_from_slice(NAME);
        }
        let worth = block.len() - block.len() / 8;
        let (kind, content) = match self.compress(block)? {
            Some(shorter) if shorter.len() < worth => (COMPRESSED, shorter),
            _ => (UNCOMPRESSED, block),
        };
        put_head(kind, CHECKSUM_BYTES + content.len(), packed);
        packed.extend_from_slice(&checksum(block).to_le_bytes());
        packed.extend_from_slice(content);
        Ok(())
    }

    fn compress(&mut self, block: &[u8]) -> io::Result<Option<&[u8]>> {
        if block.len() < SHORT_BYTES {
            return Ok(None);
        }
        let bench = self.bench.get_or_insert_with(Bench::new);
        let room = max_compress_len(block.len());
        if bench.room.len() < room {
            bench.room.resize(room, 0);
        }
        let len = bench.encoder.compress(block, &mut bench.room).map_err(io::Error::other)?;
        Ok(Some(&bench.room[..len]))
    }
}

impl Bench {
    fn new() -> Box<Self> {
        Box::new(Self { encoder: Encoder::new(), room: Vec::new() })
    }
}

impl Unpacker {
    pub(crate) fn unpack(
        &mut self,
        packed: &mut BytesMut,
        plain: &mut [u8],
    ) -> io::Result<Unpacked> {
        loop {
            let bytes = self.take_rest(packed, plain);
            if bytes > 0 {
                return Ok(Unpacked::Bytes(bytes));
            }
            let Some((kind, content_bytes)) = self.next_chunk(packed)? else {
                return Ok(Unpacked::Starved);
            };
            packed.advance(HEAD_BYTES);
            match kind {
                IDENTIFIER => {
                    self.has_begun = true;
                    packed.advance(content_bytes);
                }
                COMPRESSED => {
                    let bytes = self.decompress(&packed[..content_bytes], plain)?;
                    packed.advance(content_bytes);
                    if bytes > 0 {
                        return Ok(Unpacked::Bytes(bytes));
                    }
                }
                UNCOMPRESSED => {
                    let (sum, data) = split_checksum(&packed[..content_bytes])?;
                    verify(sum, data)?;
                    self.checked = data.len();
                    packed.advance(CHECKSUM_BYTES);
                }
                _ => self.skipped = content_bytes,
            }
        }
    }

    pub(crate) fn shrink(&mut self) {
        if self.block_at == self.block.len() {
            self.block_at = 0;
            self.block = Vec::new();
        }
    }

    /// Moves data of the current chunk to `plain`.
    fn take_rest(&mut self, packed: &mut BytesMut, plain: &mut [u8]) -> usize {
        let skipped = self.skipped.min(packed.len());
        packed.advance(skipped);
        self.skipped -= skipped;
        let block = &self.block[self.block_at..];
        let bytes = plain.len().min(block.len() + self.checked);
        if block.is_empty() {
            // The whole chunk was there when it was checked.
            packed.copy_to_slice(&mut plain[..bytes]);
            self.checked -= bytes;
        } else {
            plain[..bytes].copy_from_slice(&block[..bytes]);
            self.block_at += bytes;
        }
        bytes
    }

    /// Returns the type of the chunk at the front of `packed` and the length of its content, once it is there as far
    /// as it has to be.
    fn next_chunk(&self, packed: &[u8]) -> io::Result<Option<(u8, usize)>> {
        let Some(&[kind, a, b, c]) = packed.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let content_bytes = u32::from_le_bytes([a, b, c, 0]) as usize;
        let content = &packed[HEAD_BYTES..];
        match kind {
            IDENTIFIER if content_bytes != NAME.len() => return Err(invalid("stream identifier")),
            IDENTIFIER if content.len() >= NAME.len() && !content.starts_with(NAME) => {
                return Err(invalid("stream identifier"));
            }
            IDENTIFIER => {}
            _ if !self.has_begun => return Err(invalid("chunk before the stream identifier")),
            COMPRESSED | UNCOMPRESSED => {
                let data_bytes_max = match kind {
                    COMPRESSED => max_compress_len(BLOCK_BYTES),
                    _ => BLOCK_BYTES,
                };
                if content_bytes > CHECKSUM_BYTES + data_bytes_max {
                    return Err(invalid("length of a chunk"));
                }
            }
            FIRST_SKIPPABLE.. => return Ok(Some((kind, content_bytes))),
            _ => return Err(invalid("type of a chunk")),
        }
        Ok((content.len() >= content_bytes).then_some((kind, content_bytes)))
    }

    /// Decompresses a chunk, into `plain` if it fits there. Returns how much was written to `plain`.
    fn decompress(&mut self, content: &[u8], plain: &mut [u8]) -> io::Result<usize> {
        let (sum, data) = split_checksum(content)?;
        let len = decompress_len(data).map_err(|_| invalid("block"))?;
        if len > BLOCK_BYTES {
            return Err(invalid("length of a block"));
        }
        let fits = len <= plain.len();
        let room = if fits {
            &mut plain[..len]
        } else {
            self.block_at = 0;
            self.block.resize(len, 0);
            &mut self.block[..]
        };
        Decoder::new().decompress(data, room).map_err(|_| invalid("block"))?;
        verify(sum, room)?;
        Ok(if fits { len } else { 0 })
    }
}

fn put_head(kind: u8, content_bytes: usize, packed: &mut Vec<u8>) {
    let len = u32::try_from(content_bytes).unwrap_or(u32::MAX).to_le_bytes();
    packed.extend_from_slice(&[kind, len[0], len[1], len[2]]);
}

fn split_checksum(content: &[u8]) -> io::Result<(u32, &[u8])> {
    let (sum, data) =
        content.split_first_chunk().ok_or_else(|| invalid("chunk without a checksum"))?;
    Ok((u32::from_le_bytes(*sum), data))
}

fn verify(sum: u32, data: &[u8]) -> io::Result<()> {
    if checksum(data) == sum { Ok(()) } else { Err(invalid("checksum")) }
}

/// The CRC-32C of `data`, masked as the format wants it.
fn checksum(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn invalid(part: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("snappy: invalid {part}"))
}
