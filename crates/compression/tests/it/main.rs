//! Compressed streams, against each other and against other implementations of the formats.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

mod bounds;
mod formats;
mod streams;
