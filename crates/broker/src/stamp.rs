//! Stamps: a number that messages in flight carry for the caller.

/// A number given to messages as they are handed out and returned as they are finished. It means nothing to the
/// broker, except that messages with different stamps are entries of their own.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Stamp(pub i64);
