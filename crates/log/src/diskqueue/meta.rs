//! The meta file of a queue: `<depth>\n<read file>,<read position>\n<write file>,<write position>\n`.

use std::fmt;

/// A position in a queue.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct QueuePosition {
    /// The number of the file.
    pub(super) file: u64,
    /// The offset in the file.
    pub(super) offset: u64,
}

/// The contents of a meta file.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Meta {
    /// The number of messages, which may be wrong, even negative, after a crash.
    pub(super) depth: i64,
    pub(super) read: QueuePosition,
    pub(super) write: QueuePosition,
}

impl Meta {
    /// `None` unless all numbers are there and make sense.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(bytes).ok()?.lines();
        let depth = lines.next()?.trim().parse().ok()?;
        let mut position = || {
            let (file, offset) = lines.next()?.split_once(',')?;
            let (file, offset) = (file.trim().parse().ok()?, offset.trim().parse().ok()?);
            Some(QueuePosition { file, offset })
        };
        let meta = Self { depth, read: position()?, write: position()? };
        (meta.read <= meta.write).then_some(meta)
    }
}

impl fmt::Display for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { depth, read, write } = self;
        write!(f, "{depth}\n{},{}\n{},{}\n", read.file, read.offset, write.file, write.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_file_is_read_as_it_was_written() {
        let text = "-3\n1,20\n2,0\n";
        let meta = Meta::parse(text.as_bytes()).unwrap();
        let position = |file, offset| QueuePosition { file, offset };
        assert_eq!(meta, Meta { depth: -3, read: position(1, 20), write: position(2, 0) });
        assert_eq!(meta.to_string(), text);
    }

    #[test]
    fn a_meta_file_without_all_numbers_in_order_is_not_believed() {
        for text in
            ["", "\0\0\0\0", "1\n", "1\n0,0\n", "x\n0,0\n0,0\n", "1\n-1,0\n0,0\n", "1\n1,0\n0,9\n"]
        {
            assert_eq!(Meta::parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
