//! NSQ's compressed connections: a stream that compresses in both directions.
//!
//! nsqd and its clients share the two formats that IDENTIFY can switch on: snappy's framing format and raw deflate.
//! Written data is compressed into a buffer, and sent when the buffer is full or the stream is flushed. All commands
//! or frames written between two flushes therefore share one compressed block.
//!
//! # Bounds
//!
//! 1. Whatever a peer sends, a read makes at most as much plain data as it has room for, and at most one chunk of
//!    snappy, or one read of deflate, waits to be decompressed.
//! 2. At most two blocks wait to be sent.
//! 3. An idle stream can [give back](Compressed::shrink) everything but the history that the peer may refer to.

mod codec;
mod deflate;
mod snappy;
mod stream;
mod unpacked;

pub use crate::{codec::Codec, stream::Compressed};
