//! Message ids: 16 lower-case hex digits on the wire, 64 bits inside nsqd.

use std::fmt;

/// The id of a message: 16 bytes that clients echo in FIN, REQ and TOUCH and treat as opaque.
///
/// nsqd issues lower-case hex digits, but a client may send any 16 bytes back, so any 16 bytes can be held.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub [u8; 16]);

const NIBBLES: u64 = 0x0f0f_0f0f_0f0f_0f0f;
const ONES: u64 = 0x0101_0101_0101_0101;

impl MessageId {
    /// The id that spells `value` in 16 lower-case hex digits.
    pub fn from_u64(value: u64) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&hex_of_half(value >> 32).to_be_bytes());
        bytes[8..].copy_from_slice(&hex_of_half(value & 0xffff_ffff).to_be_bytes());
        Self(bytes)
    }

    /// The number the id spells, or `None` when the bytes are not what [`MessageId::from_u64`] makes.
    pub fn to_u64(self) -> Option<u64> {
        let (mut high, mut low) = ([0; 8], [0; 8]);
        high.copy_from_slice(&self.0[..8]);
        low.copy_from_slice(&self.0[8..]);
        let value =
            half_of_hex(u64::from_be_bytes(high)) << 32 | half_of_hex(u64::from_be_bytes(low));
        // Encoding the answer again is cheaper than testing each digit, and accepts exactly what we issue.
        (Self::from_u64(value) == self).then_some(value)
    }

    /// The id in a slice of exactly 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// Eight hex digits, most significant first, of the low 32 bits of `half`.
fn hex_of_half(half: u64) -> u64 {
    let x = (half << 16 | half) & 0x0000_ffff_0000_ffff;
    let x = (x << 8 | x) & 0x00ff_00ff_00ff_00ff;
    let x = (x << 4 | x) & NIBBLES;
    let above_nine = ((x + 6 * ONES) >> 4) & ONES;
    x + u64::from(b'0') * ONES + above_nine * u64::from(b'a' - b'0' - 10)
}

/// The 32 bits spelled by eight hex digits; anything when they are not hex digits.
fn half_of_hex(digits: u64) -> u64 {
    let x = (digits & NIBBLES).wrapping_add(((digits >> 6) & ONES) * 9) & NIBBLES;
    let x = (x >> 4 | x) & 0x00ff_00ff_00ff_00ff;
    let x = (x >> 8 | x) & 0x0000_ffff_0000_ffff;
    (x >> 16 | x) & 0xffff_ffff
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_is_sixteen_lower_case_hex_digits() {
        assert_eq!(&MessageId::from_u64(0x18a4_631a_9c26_9000).0, b"18a4631a9c269000");
        assert_eq!(&MessageId::from_u64(u64::MAX).0, b"ffffffffffffffff");
        assert_eq!(&MessageId::from_u64(0).0, b"0000000000000000");
    }

    #[test]
    fn bytes_that_nsqd_never_issues_are_not_a_number() {
        for bytes in [
            b"18A4631A9C269000",
            b"18a4631a9c26900g",
            b"                ",
            b"\xff8a4631a9c26900\x00",
        ] {
            assert_eq!(MessageId(*bytes).to_u64(), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn ids_survive_the_round_trip(value: u64) {
            let id = MessageId::from_u64(value);
            prop_assert_eq!(id.to_string(), format!("{value:016x}"));
            prop_assert_eq!(id.to_u64(), Some(value));
        }

        #[test]
        fn only_canonical_spellings_are_accepted(bytes: [u8; 16]) {
            if let Some(value) = MessageId(bytes).to_u64() {
                prop_assert_eq!(MessageId::from_u64(value).0, bytes);
            }
        }
    }
}
