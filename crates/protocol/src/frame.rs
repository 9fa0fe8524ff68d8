//! Frames, which nsqd sends: `[size: u32][type: u32][data]`, big-endian, the size counting type and data.

use crate::id::MessageId;

/// The data of the response to most commands.
pub const OK: &[u8] = b"OK";
/// The data of the response that asks a client for a sign of life.
pub const HEARTBEAT: &[u8] = b"_heartbeat_";
/// The data of the response to CLS.
pub const CLOSE_WAIT: &[u8] = b"CLOSE_WAIT";

/// Bytes of a message before its body: timestamp, attempts, id.
pub const MESSAGE_HEAD_BYTES: usize = 8 + 2 + 16;
/// Bytes of a message frame before its body: size, type and the message's head.
pub const MESSAGE_FRAME_HEAD_BYTES: usize = 4 + 4 + MESSAGE_HEAD_BYTES;

/// The kind of a frame, with its number on the wire.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum FrameType {
    /// An answer to a command, or a heartbeat.
    Response = 0,
    /// A [`crate::ClientError`].
    Error = 1,
    /// A message.
    Message = 2,
}

/// A frame as it lies in a buffer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// An answer to a command, or [`HEARTBEAT`].
    Response(&'a [u8]),
    /// The code and text of an error.
    Error(&'a [u8]),
    /// A message.
    Message(MessageFrame<'a>),
}

/// A message as it lies in a buffer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct MessageFrame<'a> {
    /// When nsqd accepted the message, in nanoseconds since the Unix epoch.
    pub timestamp_ns: i64,
    /// How often it has been delivered, this time included.
    pub attempts: u16,
    /// Its id.
    pub id: MessageId,
    /// What was published.
    pub body: &'a [u8],
}

/// Why bytes are not a frame. The connection cannot go on after any of these.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The other end speaks HTTP: the first bytes of its answer are the letters of `HTTP`.
    #[error("the peer answered with HTTP: this is an HTTP endpoint, a TCP endpoint is needed")]
    Http,
    /// The size does not even cover the frame type.
    #[error("frame size {0} is smaller than 4")]
    TooSmall(u32),
    /// The size is over what the caller accepts.
    #[error("frame size {size} is over the maximum of {max}")]
    TooBig {
        /// What was announced.
        size: u32,
        /// What the caller accepts.
        max: u32,
    },
    /// A type other than response, error and message.
    #[error("unknown frame type {0}")]
    UnknownType(u32),
    /// A message frame too short for its head.
    #[error("message of {0} bytes is shorter than its head of 26")]
    ShortMessage(usize),
}

/// Decodes the frame at the front of `buf` and tells how many bytes it takes; `None` while it is incomplete.
///
/// `size_max` bounds the announced size, so that a caller never waits for more than it is willing to hold.
///
/// # Errors
/// [`FrameError`] as soon as the bytes cannot become a frame.
pub fn decode_frame(buf: &[u8], size_max: u32) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((size, rest)) = read_u32(buf) else { return Ok(None) };
    if size == u32::from_be_bytes(*b"HTTP") {
        return Err(FrameError::Http);
    }
    let Some(data_bytes) = size.checked_sub(4) else { return Err(FrameError::TooSmall(size)) };
    if size > size_max {
        return Err(FrameError::TooBig { size, max: size_max });
    }
    let Some((kind, rest)) = read_u32(rest) else { return Ok(None) };
    if kind > FrameType::Message as u32 {
        return Err(FrameError::UnknownType(kind));
    }
    let Some(data) = rest.get(..data_bytes as usize) else { return Ok(None) };
    let frame = match kind {
        0 => Frame::Response(data),
        1 => Frame::Error(data),
        _ => Frame::Message(decode_message(data)?),
    };
    Ok(Some((frame, 8 + data.len())))
}

fn decode_message(data: &[u8]) -> Result<MessageFrame<'_>, FrameError> {
    let short = || FrameError::ShortMessage(data.len());
    let (timestamp, rest) = data.split_first_chunk().ok_or_else(short)?;
    let (attempts, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let (id, body) = rest.split_first_chunk().ok_or_else(short)?;
    Ok(MessageFrame {
        timestamp_ns: i64::from_be_bytes(*timestamp),
        attempts: u16::from_be_bytes(*attempts),
        id: MessageId(*id),
        body,
    })
}

fn read_u32(buf: &[u8]) -> Option<(u32, &[u8])> {
    buf.split_first_chunk().map(|(bytes, rest)| (u32::from_be_bytes(*bytes), rest))
}

/// Appends a frame.
///
/// # Panics
/// When `data` is over 4 GiB, which no limit of NSQ allows.
pub fn encode_frame(kind: FrameType, data: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&frame_size(data.len()).to_be_bytes());
    out.extend_from_slice(&(kind as u32).to_be_bytes());
    out.extend_from_slice(data);
}

/// Appends a message frame.
///
/// # Panics
/// When the body is over 4 GiB, which no limit of NSQ allows.
pub fn encode_message_frame(message: MessageFrame<'_>, out: &mut Vec<u8>) {
    let mut head = [0; MESSAGE_FRAME_HEAD_BYTES];
    head[..4].copy_from_slice(&frame_size(MESSAGE_HEAD_BYTES + message.body.len()).to_be_bytes());
    head[4..8].copy_from_slice(&(FrameType::Message as u32).to_be_bytes());
    head[8..16].copy_from_slice(&message.timestamp_ns.to_be_bytes());
    head[16..18].copy_from_slice(&message.attempts.to_be_bytes());
    head[18..].copy_from_slice(&message.id.0);
    out.extend_from_slice(&head);
    out.extend_from_slice(message.body);
}

fn frame_size(data_bytes: usize) -> u32 {
    u32::try_from(data_bytes + 4).expect("limits keep frames far below 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_frame_has_the_layout_of_the_protocol() {
        let mut out = Vec::new();
        let id = MessageId(*b"0123456789abcdef");
        encode_message_frame(
            MessageFrame { timestamp_ns: 1, attempts: 2, id, body: b"hi" },
            &mut out,
        );
        let expected = b"\0\0\0\x20\0\0\0\x02\0\0\0\0\0\0\0\x01\0\x020123456789abcdefhi";
        assert_eq!(out, expected);
    }

    #[test]
    fn a_response_is_size_type_and_data() {
        let mut out = Vec::new();
        encode_frame(FrameType::Response, OK, &mut out);
        assert_eq!(out, b"\0\0\0\x06\0\0\0\0OK");
    }

    #[test]
    fn impossible_frames_are_told_apart() {
        let max = 1 << 20;
        assert_eq!(decode_frame(b"HTTP/1.1 400", max), Err(FrameError::Http));
        assert_eq!(decode_frame(b"\0\0\0\x03", max), Err(FrameError::TooSmall(3)));
        let size = 0xffff_fff0;
        assert_eq!(decode_frame(b"\xff\xff\xff\xf0", max), Err(FrameError::TooBig { size, max }));
        assert_eq!(decode_frame(b"\0\0\0\x04\0\0\0\x03", max), Err(FrameError::UnknownType(3)));
        assert_eq!(decode_frame(b"\0\0\0\x05\0\0\0\x02x", max), Err(FrameError::ShortMessage(1)));
    }

    proptest! {
        #[test]
        fn messages_survive_the_round_trip_at_any_split(
            timestamp_ns: i64, attempts: u16, id: [u8; 16], body: Vec<u8>, split in 0usize..200
        ) {
            let message = MessageFrame { timestamp_ns, attempts, id: MessageId(id), body: &body };
            let mut out = Vec::new();
            encode_message_frame(message, &mut out);
            let whole = decode_frame(&out, u32::MAX);
            prop_assert_eq!(whole, Ok(Some((Frame::Message(message), out.len()))));
            let part = &out[..split.min(out.len() - 1)];
            prop_assert_eq!(decode_frame(part, u32::MAX), Ok(None));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            let _ = decode_frame(&bytes, 1 << 20);
        }
    }
}
