//! The protocol between nsqd and nsqlookupd (V1): commands one way, responses without a frame type the other.
//!
//! nsqd announces what it has with [`Command`]s, each a line, IDENTIFY followed by a body. nsqlookupd answers each
//! with one response, `[size: u32][data]`, in order. Whether a response is an error shows in its text only, see
//! [`error_of`], and every error ends the connection.
//!
//! ```
//! use nsq_protocol::v1::{self, Command, Decoded, Phase};
//!
//! let mut bytes = Vec::new();
//! Command::Register { topic: "orders", channel: Some("billing") }.encode(&mut bytes);
//! assert_eq!(bytes, b"REGISTER orders billing\n");
//! match v1::decode_command(&bytes, Phase::Identified) {
//!     Decoded::Command(Command::Register { topic, channel }, used) => {
//!         assert_eq!((topic, channel, used), ("orders", Some("billing"), bytes.len()));
//!     }
//!     other => panic!("{other:?}"),
//! }
//! ```

use crate::{
    decode::{LINE_BYTES_MAX, Missing},
    error::{ClientError, Code},
    name::is_valid_name,
};

/// The longest body of IDENTIFY that is accepted, in bytes. Those of nsqd have less than a kilobyte.
pub const IDENTIFY_BYTES_MAX: usize = 64 << 10;

/// A command of nsqd.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// `IDENTIFY`: who nsqd is, as JSON.
    Identify(&'a [u8]),
    /// `REGISTER`: nsqd has this topic, or this channel and its topic.
    Register {
        /// The topic, valid when it was decoded.
        topic: &'a str,
        /// The channel, valid when it was decoded.
        channel: Option<&'a str>,
    },
    /// `UNREGISTER`: nsqd no longer has this channel, or this topic and its channels.
    Unregister {
        /// The topic, valid when it was decoded.
        topic: &'a str,
        /// The channel, valid when it was decoded.
        channel: Option<&'a str>,
    },
    /// `PING`: nsqd is alive.
    Ping,
}

impl Command<'_> {
    /// The word the command begins with.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Identify(_) => "IDENTIFY",
            Self::Register { .. } => "REGISTER",
            Self::Unregister { .. } => "UNREGISTER",
            Self::Ping => "PING",
        }
    }

    /// Appends the command as it goes over the wire. Names are not checked here.
    ///
    /// # Panics
    /// When the body of IDENTIFY is over 4 GiB.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.name().as_bytes());
        match *self {
            Self::Identify(body) => {
                out.push(b'\n');
                encode_response(body, out);
            }
            Self::Register { topic, channel } | Self::Unregister { topic, channel } => {
                for name in std::iter::once(topic).chain(channel) {
                    out.push(b' ');
                    out.extend_from_slice(name.as_bytes());
                }
                out.push(b'\n');
            }
            Self::Ping => out.push(b'\n'),
        }
    }
}

/// Where a connection is in its life, as far as it decides which commands are allowed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// IDENTIFY has not come yet: only it and PING are allowed.
    Connected,
    /// IDENTIFY was served; it may not come again.
    Identified,
}

/// What stands at the front of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A command, and how many bytes it takes.
    Command(Command<'a>, usize),
    /// Not a whole command yet: nothing can be said before the buffer holds `needed` bytes.
    Incomplete {
        /// Bytes the buffer must hold before decoding makes progress.
        needed: usize,
        /// What is missing: [`Missing::error`] is what a client is told that goes away here.
        missing: Missing,
    },
    /// The command is refused, and the connection has to be closed after the client was told.
    Rejected(ClientError),
    /// As `Rejected`, for a line or a body over its limit.
    TooLong(ClientError),
}

/// Decodes the command at the front of `buf`.
///
/// A buffer never has to hold more than a line of [`LINE_BYTES_MAX`] and a body of [`IDENTIFY_BYTES_MAX`] for this
/// to come to a decision.
pub fn decode_command(buf: &[u8], phase: Phase) -> Decoded<'_> {
    let Some(end) = buf.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') else {
        if buf.len() >= LINE_BYTES_MAX {
            let text = format!("command line is longer than {LINE_BYTES_MAX} bytes");
            return Decoded::TooLong(ClientError::new(Code::Invalid, text));
        }
        return Decoded::Incomplete { needed: buf.len() + 1, missing: Missing::Line };
    };
    let line_bytes = end + 1;
    let mut words = trim(&buf[..end]).split(|byte| *byte == b' ');
    let name = words.next().unwrap_or_default();
    let decoded = match name {
        b"PING" => Ok(Command::Ping),
        b"IDENTIFY" => return decode_identify(buf, line_bytes, phase),
        b"REGISTER" => names("REGISTER", words, phase)
            .map(|(topic, channel)| Command::Register { topic, channel }),
        b"UNREGISTER" => names("UNREGISTER", words, phase)
            .map(|(topic, channel)| Command::Unregister { topic, channel }),
        _ => Err(ClientError::new(Code::Invalid, [b"invalid command ", name].concat())),
    };
    match decoded {
        Ok(command) => Decoded::Command(command, line_bytes),
        Err(error) => Decoded::Rejected(error),
    }
}

fn decode_identify(buf: &[u8], line_bytes: usize, phase: Phase) -> Decoded<'_> {
    if phase == Phase::Identified {
        return Decoded::Rejected(ClientError::new(Code::Invalid, "cannot IDENTIFY again"));
    }
    let rest = &buf[line_bytes..];
    let body_at = line_bytes + 4;
    let Some((size, rest)) = rest.split_first_chunk() else {
        let missing = Missing::BodySize("IDENTIFY");
        return Decoded::Incomplete { needed: body_at, missing };
    };
    let size = i32::from_be_bytes(*size);
    let Ok(bytes) = usize::try_from(size) else {
        return Decoded::Rejected(ClientError::new(
            Code::BadBody,
            "IDENTIFY failed to read body size",
        ));
    };
    if bytes > IDENTIFY_BYTES_MAX {
        let text = format!("IDENTIFY body too big {size} > {IDENTIFY_BYTES_MAX}");
        return Decoded::TooLong(ClientError::new(Code::BadBody, text));
    }
    match rest.get(..bytes) {
        Some(body) => Decoded::Command(Command::Identify(body), body_at + bytes),
        None => Decoded::Incomplete { needed: body_at + bytes, missing: Missing::Body("IDENTIFY") },
    }
}

/// The topic and channel of `command`. An empty channel is none, an empty topic is an invalid one.
fn names<'a>(
    command: &str,
    mut words: impl Iterator<Item = &'a [u8]>,
    phase: Phase,
) -> Result<(&'a str, Option<&'a str>), ClientError> {
    if phase == Phase::Connected {
        return Err(ClientError::new(Code::Invalid, "client must IDENTIFY"));
    }
    let topic = words.next().ok_or_else(|| {
        let text = format!("{command} insufficient number of params");
        ClientError::new(Code::Invalid, text)
    })?;
    let bad = |code, what: &str, name: &[u8]| {
        let mut text = format!("{command} {what} name '").into_bytes();
        text.extend_from_slice(name);
        text.extend_from_slice(b"' is not valid");
        ClientError::new(code, text)
    };
    let channel = words.next().filter(|channel| !channel.is_empty());
    let topic = name(topic).ok_or_else(|| bad(Code::BadTopic, "topic", topic))?;
    let channel = channel
        .map(|channel| name(channel).ok_or_else(|| bad(Code::BadChannel, "channel", channel)))
        .transpose()?;
    Ok((topic, channel))
}

fn name(bytes: &[u8]) -> Option<&str> {
    if is_valid_name(bytes) { std::str::from_utf8(bytes).ok() } else { None }
}

/// `line` without white space at its ends.
fn trim(line: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b'\t'..=b'\r' | b' ');
    let Some(start) = line.iter().position(|byte| !is_space(byte)) else { return &[] };
    let end = line.iter().rposition(|byte| !is_space(byte)).unwrap_or(start);
    &line[start..=end]
}

/// Appends a response: `data` after its size.
///
/// # Panics
/// When `data` is over 4 GiB.
pub fn encode_response(data: &[u8], out: &mut Vec<u8>) {
    let size = u32::try_from(data.len()).expect("responses and bodies are far below 4 GiB");
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(data);
}

/// Appends the response that tells of `error`.
pub fn encode_error(error: &ClientError, out: &mut Vec<u8>) {
    let mut data = Vec::new();
    error.encode(&mut data);
    encode_response(&data, out);
}

/// Why bytes are not a response. The connection cannot go on after any of these.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// The other end speaks HTTP: the first bytes of its answer are the letters of `HTTP`.
    #[error("the peer answered with HTTP: this is an HTTP endpoint, a TCP endpoint is needed")]
    Http,
    /// The size is negative or over what the caller accepts.
    #[error("response size {size} is not within 0 and {max}")]
    Size {
        /// What was announced.
        size: i32,
        /// What the caller accepts.
        max: u32,
    },
}

/// Decodes the response at the front of `buf` and tells how many bytes it takes; `None` while it is incomplete.
///
/// `size_max` bounds the announced size, so that a caller never waits for more than it is willing to hold.
///
/// # Errors
/// [`ResponseError`] as soon as the bytes cannot become a response.
pub fn decode_response(buf: &[u8], size_max: u32) -> Result<Option<(&[u8], usize)>, ResponseError> {
    let Some((size, rest)) = buf.split_first_chunk() else { return Ok(None) };
    if size == b"HTTP" {
        return Err(ResponseError::Http);
    }
    let size = i32::from_be_bytes(*size);
    let bytes = u32::try_from(size)
        .ok()
        .filter(|bytes| *bytes <= size_max)
        .ok_or(ResponseError::Size { size, max: size_max })?;
    Ok(rest.get(..bytes as usize).map(|data| (data, 4 + data.len())))
}

/// The error that a response tells of, if it is one: a known code, alone or with a text after a space.
pub fn error_of(data: &[u8]) -> Option<ClientError> {
    let mut parts = data.splitn(2, |byte| *byte == b' ');
    let code = Code::from_token(parts.next()?)?;
    Some(ClientError::new(code, parts.next().unwrap_or_default()))
}
