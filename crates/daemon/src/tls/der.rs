//! The encoding of certificates, as far as it takes to find a field.
//!
//! rustls shows none of the fields of a certificate, and a parser for all of them is a dozen packages.

/// An element of DER.
#[derive(Debug, Clone, Copy)]
pub struct Element<'a> {
    /// The type.
    pub tag: u8,
    /// The bytes of the element.
    pub whole: &'a [u8],
    /// The bytes without type and length.
    pub content: &'a [u8],
    /// The bytes behind it.
    pub rest: &'a [u8],
}

impl<'a> Element<'a> {
    /// The element that `der` starts with.
    pub fn first_of(der: &'a [u8]) -> Option<Self> {
        let (&[tag, first], rest) = der.split_first_chunk()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // The length is in the next bytes, of which no certificate needs more than three.
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        Some(Self { tag, whole: &der[..der.len() - rest.len()], content, rest })
    }
}
