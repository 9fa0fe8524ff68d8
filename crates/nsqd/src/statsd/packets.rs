//! Lines of statsd, packed into packets.

use std::fmt::{Arguments, Write as _};

/// Packets of whole lines.
pub(super) struct Packets {
    /// The beginning of every line.
    prefix: String,
    bytes_max: usize,
    full: Vec<String>,
    open: String,
}

impl Packets {
    /// Packets of up to `bytes_max` bytes. A line that is longer has a packet of its own.
    pub(super) fn new(prefix: String, bytes_max: usize) -> Self {
        Self { prefix, bytes_max, full: Vec::new(), open: String::new() }
    }

    /// Adds the growth of a counter.
    pub(super) fn count(&mut self, name: Arguments<'_>, growth: u64) {
        self.line(name, growth, 'c');
    }

    /// Adds a value.
    pub(super) fn gauge(&mut self, name: Arguments<'_>, value: u64) {
        self.line(name, value, 'g');
    }

    fn line(&mut self, name: Arguments<'_>, value: u64, kind: char) {
        let start = self.open.len();
        // Writing to a string does not fail.
        let _ = writeln!(self.open, "{}{name}:{value}|{kind}", self.prefix);
        if self.open.len() > self.bytes_max && start > 0 {
            let next = self.open.split_off(start);
            self.full.push(std::mem::replace(&mut self.open, next));
        }
    }

    /// All packets, in the order of their lines.
    pub(super) fn finish(mut self) -> Vec<String> {
        if !self.open.is_empty() {
            self.full.push(self.open);
        }
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_packed_as_long_as_they_fit_and_never_split() {
        let packed = |bytes_max| {
            let mut packets = Packets::new("p.".to_owned(), bytes_max);
            packets.count(format_args!("a"), 1);
            packets.gauge(format_args!("b"), 22);
            packets.gauge(format_args!("{}", "c".repeat(30)), 3);
            packets.count(format_args!("d"), 4);
            packets.finish()
        };
        let (a, b, d) = ("p.a:1|c\n", "p.b:22|g\n", "p.d:4|c\n");
        let c = format!("p.{}:3|g\n", "c".repeat(30));
        assert_eq!(packed(16), [a, b, &c, d]);
        assert_eq!(packed(17), [&format!("{a}{b}"), &c, d]);
        assert_eq!(packed(508), [format!("{a}{b}{c}{d}")]);
        assert_eq!(packed(0), [a, b, &c, d]);
        assert!(Packets::new("p.".to_owned(), 508).finish().is_empty());
    }
}
