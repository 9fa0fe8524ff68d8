//! A profile, as text and in the format of pprof (`profile.proto`).

use std::{fmt::Write as _, time::Duration};

/// Names with a number each, or several.
#[derive(Debug)]
pub(super) struct Profile {
    /// The name of the profile, as in its path.
    pub(super) name: &'static str,
    /// The meaning of each number, and its unit.
    pub(super) values: Vec<(&'static str, &'static str)>,
    /// The names with as many numbers each as there are `values`.
    pub(super) rows: Vec<(String, Vec<u64>)>,
    /// The time that the profile covers; 0 for a snapshot.
    pub(super) duration: Duration,
    /// A remark for those who read it.
    pub(super) remark: &'static str,
}

impl Profile {
    /// The profile as text: the sum of the last number, then that number with each name.
    pub(super) fn text(&self) -> String {
        let last = |row: &(String, Vec<u64>)| row.1.last().copied().unwrap_or_default();
        let total: u64 = self.rows.iter().map(last).sum();
        let unit = self.values.last().map_or("", |(_, unit)| unit);
        let mut text = format!("{} profile: total {total} {unit}\n", self.name);
        for row in &self.rows {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{} @ {}", last(row), row.0);
        }
        if !self.remark.is_empty() {
            let _ = writeln!(text, "# {}", self.remark);
        }
        text
    }

    /// The profile as a message `perftools.profiles.Profile`. Each name is a function that is a stack of its own.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut strings = Strings::default();
        let mut message = Message::default();
        for (name, unit) in &self.values {
            message.nested(1, |value| {
                value.number(1, strings.index(name));
                value.number(2, strings.index(unit));
            });
        }
        for (id, (name, numbers)) in (1..).zip(&self.rows) {
            message.nested(2, |sample| {
                sample.number(1, id);
                sample.packed(2, numbers);
            });
            message.nested(4, |location| {
                location.number(1, id);
                location.nested(4, |line| line.number(1, id));
            });
            message.nested(5, |function| {
                function.number(1, id);
                function.number(2, strings.index(name));
            });
        }
        message.number(10, u64::try_from(self.duration.as_nanos()).unwrap_or(u64::MAX));
        if !self.remark.is_empty() {
            message.number(13, strings.index(self.remark));
        }
        for string in strings.0 {
            message.bytes(6, string.as_bytes());
        }
        message.0
    }
}

/// The string table of a message. The first string is the empty one.
struct Strings(Vec<String>);

impl Default for Strings {
    fn default() -> Self {
        Self(vec![String::new()])
    }
}

impl Strings {
    fn index(&mut self, string: &str) -> u64 {
        let known = self.0.iter().position(|known| known == string);
        let index = known.unwrap_or_else(|| {
            self.0.push(string.to_owned());
            self.0.len() - 1
        });
        index as u64
    }
}

/// A message of Protocol Buffers.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(&mut self, field: u64, number: u64) {
        varint(&mut self.0, field << 3);
        varint(&mut self.0, number);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        varint(&mut self.0, field << 3 | 2);
        varint(&mut self.0, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn packed(&mut self, field: u64, numbers: &[u64]) {
        let mut bytes = Vec::new();
        numbers.iter().for_each(|number| varint(&mut bytes, *number));
        self.bytes(field, &bytes);
    }

    fn nested(&mut self, field: u64, fill: impl FnOnce(&mut Self)) {
        let mut message = Self::default();
        fill(&mut message);
        self.bytes(field, &message.0);
    }
}

fn varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        Profile {
            name: "sizes",
            values: vec![("count", "count"), ("space", "bytes")],
            rows: vec![("a".to_owned(), vec![1, 300]), ("b".to_owned(), vec![2, 5])],
            duration: Duration::from_nanos(7),
            remark: "all of it",
        }
    }

    #[test]
    fn the_text_has_a_line_for_each_name() {
        assert_eq!(
            profile().text(),
            "sizes profile: total 305 bytes\n300 @ a\n5 @ b\n# all of it\n"
        );
    }

    #[test]
    fn the_encoding_is_the_one_of_protocol_buffers() {
        let expected: &[&[u8]] = &[
            b"\x0a\x04\x08\x01\x10\x01",
            b"\x0a\x04\x08\x02\x10\x03",
            b"\x12\x07\x08\x01\x12\x03\x01\xac\x02",
            b"\x22\x06\x08\x01\x22\x02\x08\x01",
            b"\x2a\x04\x08\x01\x10\x04",
            b"\x12\x06\x08\x02\x12\x02\x02\x05",
            b"\x22\x06\x08\x02\x22\x02\x08\x02",
            b"\x2a\x04\x08\x02\x10\x05",
            b"\x50\x07",
            b"\x68\x06",
            b"\x32\x00",
            b"\x32\x05count",
            b"\x32\x05space",
            b"\x32\x05bytes",
            b"\x32\x01a",
            b"\x32\x01b",
            b"\x32\x09all of it",
        ];
        assert_eq!(profile().encode(), expected.concat());
    }
}
