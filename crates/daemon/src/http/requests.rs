//! The boundaries of the requests on a connection, and the escaping of their targets.
//!
//! hyper refuses a request target with a raw `"`, `<` or `>` and cuts one at a `#`. NSQ takes all of them, and some
//! clients send `topic=x#ephemeral` unescaped. [`Requests`] sees the bytes of a connection before hyper does and
//! percent-escapes those characters, in request lines only: it follows where each head and body ends.

/// The length of a request's body, as hyper has read it from the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyLength {
    Bytes(u64),
    Chunked,
}

/// The state machine over the bytes of a connection.
///
/// # Invariants
/// 1. Bytes outside of request targets are passed on unchanged.
/// 2. No byte behind a head is looked at before the length of its body is known.
#[derive(Debug, Default)]
pub(super) struct Requests {
    stage: Stage,
}

#[derive(Debug, Default)]
enum Stage {
    /// In front of a request line, where empty lines are allowed.
    #[default]
    Between,
    Method,
    Target,
    Headers(Lines),
    /// Behind a head whose body has a length that is not known yet.
    HeadEnd,
    Body(u64),
    Chunks(Chunks),
    /// The requests cannot be told apart any more; hyper refuses the rest.
    Lost,
}

/// The progress of a chunked body.
#[derive(Debug, Clone, Copy)]
enum Chunks {
    Size(u64),
    Extension(u64),
    Data(u64),
    DataEnd,
    Trailers(Lines),
}

/// Lines that end with an empty one.
#[derive(Debug, Default, Clone, Copy)]
struct Lines {
    is_within_line: bool,
}

impl Lines {
    /// Takes the next byte. Returns whether it ends the empty line.
    fn end_with(&mut self, byte: u8) -> bool {
        let is_end = byte == b'\n' && !self.is_within_line;
        match byte {
            b'\n' => self.is_within_line = false,
            b'\r' => {}
            _ => self.is_within_line = true,
        }
        is_end
    }
}

impl Requests {
    /// Returns whether a request has begun whose head has not ended.
    pub(super) fn is_within_head(&self) -> bool {
        matches!(self.stage, Stage::Method | Stage::Target | Stage::Headers(_))
    }

    /// Returns whether the next byte that is not an empty line begins a request.
    pub(super) fn is_between(&self) -> bool {
        matches!(self.stage, Stage::Between)
    }

    /// Returns whether the length of a body has to be known before [`Requests::pass`] goes on.
    pub(super) fn needs_body_length(&self) -> bool {
        matches!(self.stage, Stage::HeadEnd)
    }

    /// Takes the length of the body behind the head; `None` when hyper did not accept the head.
    pub(super) fn body_follows(&mut self, length: Option<BodyLength>) {
        self.stage = match length {
            Some(BodyLength::Bytes(0)) => Stage::Between,
            Some(BodyLength::Bytes(bytes)) => Stage::Body(bytes),
            Some(BodyLength::Chunked) => Stage::Chunks(Chunks::Size(0)),
            None => Stage::Lost,
        };
    }

    /// The number of bytes that come next and need not be looked at.
    pub(super) fn opaque_bytes(&self) -> u64 {
        match self.stage {
            Stage::Body(bytes) | Stage::Chunks(Chunks::Data(bytes)) => bytes,
            Stage::Lost => u64::MAX,
            _ => 0,
        }
    }

    /// Counts `bytes` of [`Requests::opaque_bytes`] as passed on.
    pub(super) fn skip(&mut self, bytes: u64) {
        match &mut self.stage {
            Stage::Body(left) => {
                *left = left.saturating_sub(bytes);
                if *left == 0 {
                    self.stage = Stage::Between;
                }
            }
            Stage::Chunks(Chunks::Data(left)) => {
                *left = left.saturating_sub(bytes);
                if *left == 0 {
                    self.stage = Stage::Chunks(Chunks::DataEnd);
                }
            }
            _ => {}
        }
    }

    /// Appends a prefix of `input` to `out`, targets escaped, and returns the length of that prefix. It is shorter
    /// than `input` only behind a head.
    pub(super) fn pass(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let mut passed = 0;
        while passed < input.len() && !self.needs_body_length() {
            let rest = &input[passed..];
            let opaque = usize::try_from(self.opaque_bytes()).unwrap_or(usize::MAX).min(rest.len());
            if opaque > 0 {
                out.extend_from_slice(&rest[..opaque]);
                self.skip(opaque as u64);
                passed += opaque;
            } else {
                self.pass_byte(rest[0], out);
                passed += 1;
            }
        }
        passed
    }

    fn pass_byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        if matches!(self.stage, Stage::Target) && needs_escape(byte) {
            push_escaped(byte, out);
            return;
        }
        out.push(byte);
        match &mut self.stage {
            Stage::Between if matches!(byte, b'\r' | b'\n') => {}
            Stage::Between => self.stage = Stage::Method,
            Stage::Method | Stage::Target if byte == b'\n' => {
                self.stage = Stage::Headers(Lines::default());
            }
            Stage::Method if byte == b' ' => self.stage = Stage::Target,
            Stage::Target if byte == b' ' => {
                self.stage = Stage::Headers(Lines { is_within_line: true });
            }
            Stage::Headers(lines) => {
                if lines.end_with(byte) {
                    self.stage = Stage::HeadEnd;
                }
            }
            Stage::Chunks(chunks) => self.stage = chunks.after(byte),
            Stage::Method | Stage::Target | Stage::HeadEnd | Stage::Body(_) | Stage::Lost => {}
        }
    }
}

impl Chunks {
    /// The stage after a byte of the framing.
    fn after(self, byte: u8) -> Stage {
        let is_line_end = byte == b'\n';
        Stage::Chunks(match self {
            Self::Size(0) | Self::Extension(0) if is_line_end => Self::Trailers(Lines::default()),
            Self::Size(size) | Self::Extension(size) if is_line_end => Self::Data(size),
            Self::Size(size) if byte == b'\r' => Self::Size(size),
            Self::Size(size) => match char::from(byte).to_digit(16) {
                Some(_) if size > u64::MAX >> 4 => return Stage::Lost,
                Some(digit) => Self::Size(size << 4 | u64::from(digit)),
                None => Self::Extension(size),
            },
            Self::DataEnd if is_line_end => Self::Size(0),
            Self::Extension(_) | Self::Data(_) | Self::DataEnd => self,
            Self::Trailers(mut lines) => {
                if lines.end_with(byte) {
                    return Stage::Between;
                }
                Self::Trailers(lines)
            }
        })
    }
}

/// Returns whether hyper would refuse a target with this byte, or cut it there.
fn needs_escape(byte: u8) -> bool {
    matches!(byte, b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80..)
}

fn push_escaped(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that come out for `input`, read in pieces of `piece` bytes, with these body lengths.
    fn passed(input: &[u8], piece: usize, lengths: &[BodyLength]) -> String {
        let (mut requests, mut out) = (Requests::default(), Vec::new());
        let mut lengths = lengths.iter().copied();
        for mut piece in input.chunks(piece) {
            while !piece.is_empty() {
                if requests.needs_body_length() {
                    requests.body_follows(lengths.next());
                }
                let used = requests.pass(piece, &mut out);
                piece = &piece[used..];
            }
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn characters_that_a_uri_may_not_contain_are_escaped_in_the_target_only() {
        let input = b"\r\nPOST /pub?topic=x#e&a=\"<>\xc3\xa9 HTTP/1.1\r\nHost: #\r\n\r\n";
        let expected = "\r\nPOST /pub?topic=x%23e&a=%22%3C%3E%C3%A9 HTTP/1.1\r\nHost: #\r\n\r\n";
        for piece in 1..input.len() {
            assert_eq!(passed(input, piece, &[]), expected, "pieces of {piece}");
        }
    }

    #[test]
    fn bodies_are_passed_on_as_they_are_and_the_next_head_is_found() {
        let input = b"POST /a# HTTP/1.1\r\nX: y\r\n\r\nGET /b# \nGET /c# HTTP/1.1\n\n\
                      GET /d# HTTP/1.1\r\n\r\n";
        let expected = "POST /a%23 HTTP/1.1\r\nX: y\r\n\r\nGET /b# \nGET /c%23 HTTP/1.1\n\n\
                        GET /d%23 HTTP/1.1\r\n\r\n";
        for piece in 1..input.len() {
            let lengths = [BodyLength::Bytes(9), BodyLength::Bytes(0)];
            assert_eq!(passed(input, piece, &lengths), expected, "pieces of {piece}");
        }
    }

    #[test]
    fn chunked_bodies_are_passed_on_as_they_are_and_the_next_head_is_found() {
        let input =
            b"POST /a# HTTP/1.1\r\n\r\n0A;x=#\r\nGET /b# \r\n\r\n1\r\n#\r\n0\r\nT: #\r\n\r\n\
                      GET /c# HTTP/1.1\r\n\r\n";
        let expected = "POST /a%23 HTTP/1.1\r\n\r\n0A;x=#\r\nGET /b# \r\n\r\n1\r\n#\r\n0\r\nT: #\r\n\r\n\
             GET /c%23 HTTP/1.1\r\n\r\n";
        for piece in 1..input.len() {
            assert_eq!(passed(input, piece, &[BodyLength::Chunked]), expected, "pieces of {piece}");
        }
    }

    #[test]
    fn nothing_is_changed_behind_a_head_that_was_not_taken_or_a_chunk_without_bounds() {
        let refused = b"GET / HTTP/1.1\r\n\r\nGET /# HTTP/1.1\r\n\r\n";
        assert_eq!(passed(refused, 7, &[]).as_bytes(), refused);
        let endless = b"GET / HTTP/1.1\r\n\r\n11111111111111111\r\nGET /# HTTP/1.1\r\n\r\n";
        assert_eq!(passed(endless, 7, &[BodyLength::Chunked]).as_bytes(), endless);
    }
}
