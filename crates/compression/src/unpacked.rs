//! The outcome of an attempt to decompress.

/// The outcome of an attempt to decompress.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unpacked {
    /// So many bytes of plain data.
    Bytes(usize),
    /// Nothing: more input is needed.
    Starved,
    /// Nothing: the stream is over.
    Ended,
}
