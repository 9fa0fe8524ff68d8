//! The part of protocol V2 that the load needs: commands encoded ahead, frames parsed in place.
//!
//! ```text
//! command   NAME [SP param]* LF [size:u32 body]
//! MPUB      MPUB topic LF  body_size:u32  count:u32  (size:u32 body)*
//! frame     size:u32 type:u32 data        size counts type and data
//! message   timestamp:u64 attempts:u16 id:16 body
//! ```

use crate::failure::Failure;

/// The first bytes that a client sends.
pub(crate) const MAGIC: &[u8] = b"  V2";
/// The whole frame that answers a publish.
pub(crate) const OK_FRAME: &[u8; 10] = b"\0\0\0\x06\0\0\0\0OK";
/// The data of a heartbeat frame.
pub(crate) const HEARTBEAT: &[u8] = b"_heartbeat_";
/// Bytes of a message frame before the body.
pub(crate) const MESSAGE_HEAD_BYTES: usize = 34;
/// Bytes of a body that hold the sequence number.
pub(crate) const SEQ_BYTES: usize = 8;
/// The longest delay of a deferred message, which is nsqd's default limit.
const DELAY_MS_MAX: usize = 3_600_000;
/// The number of different delays, all of which have the same number of digits.
const DELAY_MS_SPREAD: usize = 600_000;
/// Bytes of one `FIN` command.
pub(crate) const FIN_BYTES: usize = 21;

/// One frame, borrowed from the read buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// `OK`, `CLOSE_WAIT`, `_heartbeat_` or JSON.
    Response(&'a [u8]),
    /// Code and description.
    Error(&'a [u8]),
    /// A delivered message.
    Message {
        /// The message id.
        id: &'a [u8; 16],
        /// The message's content.
        body: &'a [u8],
    },
}

/// Returns an `IDENTIFY` with this body.
pub(crate) fn identify(json: &str) -> Vec<u8> {
    let mut bytes = b"IDENTIFY\n".to_vec();
    bytes.extend_from_slice(&u32::try_from(json.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(json.as_bytes());
    bytes
}

/// Parses the first whole frame of `bytes`; returns it with its size.
///
/// Returns `None` while the frame is incomplete.
///
/// # Errors
/// Returns [`Failure::Unexpected`] if the bytes are not a frame.
pub(crate) fn next_frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Failure> {
    let Some((size, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let size = u32::from_be_bytes(*size) as usize;
    if size < 4 {
        return Err(Failure::Unexpected(format!("frame of {size} bytes")));
    }
    let Some((payload, _)) = rest.split_at_checked(size) else { return Ok(None) };
    let Some((kind, data)) = payload.split_first_chunk::<4>() else { return Ok(None) };
    let frame = match u32::from_be_bytes(*kind) {
        0 => Frame::Response(data),
        1 => Frame::Error(data),
        2 => message(data)?,
        other => return Err(Failure::Unexpected(format!("frame of type {other}"))),
    };
    Ok(Some((frame, 4 + size)))
}

fn message(data: &[u8]) -> Result<Frame<'_>, Failure> {
    data.split_at_checked(10)
        .and_then(|(_, rest)| rest.split_first_chunk::<16>())
        .map(|(id, body)| Frame::Message { id, body })
        .ok_or_else(|| Failure::Unexpected(format!("message frame of {} bytes", data.len())))
}

/// Appends a message frame, as a server sends it, to `out`.
pub(crate) fn put_message_frame(out: &mut Vec<u8>, id: &[u8; 16], body: &[u8]) {
    put_u32(out, MESSAGE_HEAD_BYTES - 4 + body.len());
    put_u32(out, 2);
    out.extend_from_slice(&1_700_000_000_000_000_000_u64.to_be_bytes());
    out.extend_from_slice(&1_u16.to_be_bytes());
    out.extend_from_slice(id);
    out.extend_from_slice(body);
}

/// Appends a response frame to `out`.
pub(crate) fn put_response_frame(out: &mut Vec<u8>, data: &[u8]) {
    put_u32(out, 4 + data.len());
    put_u32(out, 0);
    out.extend_from_slice(data);
}

/// Appends `FIN id` to `out`.
#[inline]
pub(crate) fn put_fin(out: &mut Vec<u8>, id: &[u8; 16]) {
    let mut line = *b"FIN                 \n";
    line[4..20].copy_from_slice(id);
    out.extend_from_slice(&line);
}

/// Appends `REQ id delay_ms` to `out`.
pub(crate) fn put_req(out: &mut Vec<u8>, id: &[u8; 16], delay_ms: usize) {
    out.extend_from_slice(b"REQ ");
    out.extend_from_slice(id);
    out.extend_from_slice(format!(" {delay_ms}\n").as_bytes());
}

fn put_u32(out: &mut Vec<u8>, number: usize) {
    let number = u32::try_from(number).expect("the load's own sizes are small");
    out.extend_from_slice(&number.to_be_bytes());
}

/// Encoded publish commands, one after another, ready to be written. Sequence numbers are stamped
/// into their bodies.
pub(crate) struct Commands {
    bytes: Vec<u8>,
    command_bytes: usize,
    first_body_offset: usize,
    message_bytes: usize,
    messages_per_command: usize,
}

impl Commands {
    /// Encodes `count` `PUB`s.
    pub(crate) fn pub_one(topic: &str, body_bytes: usize, count: usize) -> Self {
        let mut one = format!("PUB {topic}\n").into_bytes();
        put_body(&mut one, body_bytes, 0);
        Self::repeat(&one, body_bytes, 1, count)
    }

    /// Encodes `count` `DPUB`s with different delays.
    pub(crate) fn dpub(topic: &str, body_bytes: usize, count: usize) -> Self {
        let one = |index: usize| {
            let delay_ms = DELAY_MS_MAX - index % DELAY_MS_SPREAD;
            let mut one = format!("DPUB {topic} {delay_ms}\n").into_bytes();
            put_body(&mut one, body_bytes, index);
            one
        };
        let commands = Self::repeat(&one(0), body_bytes, 1, 1);
        Self { bytes: (0..count).flat_map(one).collect(), ..commands }
    }

    /// Encodes `count` `MPUB`s of `messages` bodies each.
    pub(crate) fn mpub(topic: &str, body_bytes: usize, messages: usize, count: usize) -> Self {
        let mut one = format!("MPUB {topic}\n").into_bytes();
        put_u32(&mut one, 4 + messages * (4 + body_bytes));
        put_u32(&mut one, messages);
        for index in 0..messages {
            put_body(&mut one, body_bytes, index);
        }
        Self::repeat(&one, body_bytes, messages, count)
    }

    fn repeat(one: &[u8], body_bytes: usize, messages_per_command: usize, count: usize) -> Self {
        Self {
            bytes: one.repeat(count),
            command_bytes: one.len(),
            first_body_offset: one.len() - messages_per_command * (4 + body_bytes) + 4,
            message_bytes: 4 + body_bytes,
            messages_per_command,
        }
    }

    /// Returns the number of messages in one command.
    pub(crate) fn messages_per_command(&self) -> usize {
        self.messages_per_command
    }

    /// Returns the first `count` commands, their messages numbered from `first_seq`.
    pub(crate) fn numbered(&mut self, count: usize, first_seq: usize) -> &[u8] {
        let mut seq = first_seq as u64;
        for command in 0..count {
            let mut offset = command * self.command_bytes + self.first_body_offset;
            for _ in 0..self.messages_per_command {
                self.bytes[offset..offset + SEQ_BYTES].copy_from_slice(&seq.to_be_bytes());
                offset += self.message_bytes;
                seq += 1;
            }
        }
        &self.bytes[..count * self.command_bytes]
    }
}

/// Appends size and body. Bodies differ, so that no server benefits from equal ones.
fn put_body(out: &mut Vec<u8>, body_bytes: usize, salt: usize) {
    put_u32(out, body_bytes);
    out.extend_from_slice(&body(body_bytes, salt));
}

/// Returns a body of `body_bytes` printable bytes.
pub(crate) fn body(body_bytes: usize, salt: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(salt as u64 + 1);
    (0..body_bytes)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            b'a' + (state >> 33).to_be_bytes()[7] % 26
        })
        .collect()
}

/// Returns the sequence number in a body.
#[inline]
pub(crate) fn seq_of(body: &[u8]) -> Option<usize> {
    let (seq, _) = body.split_first_chunk::<SEQ_BYTES>()?;
    usize::try_from(u64::from_be_bytes(*seq)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_frame_reads_back_as_it_was_made() {
        let mut bytes = Vec::new();
        put_message_frame(&mut bytes, b"0123456789abcdef", b"hello");
        assert_eq!(bytes.len(), MESSAGE_HEAD_BYTES + 5);
        let whole = Frame::Message { id: b"0123456789abcdef", body: b"hello" };
        assert_eq!(next_frame(&bytes).unwrap(), Some((whole, bytes.len())));
    }

    #[test]
    fn a_frame_is_not_taken_before_its_last_byte_has_come() {
        let mut bytes = Vec::new();
        put_response_frame(&mut bytes, b"OK");
        assert_eq!(&bytes, OK_FRAME);
        for cut in 0..bytes.len() {
            assert_eq!(next_frame(&bytes[..cut]).unwrap(), None);
        }
        assert_eq!(next_frame(&bytes).unwrap(), Some((Frame::Response(b"OK"), 10)));
    }

    #[test]
    fn bytes_that_cannot_be_a_frame_are_refused() {
        assert!(next_frame(&[0, 0, 0, 3, 0, 0, 0]).is_err());
        assert!(next_frame(&[0, 0, 0, 4, 0, 0, 0, 9]).is_err());
        assert!(next_frame(&[0, 0, 0, 6, 0, 0, 0, 2, 1, 1]).is_err());
    }

    #[test]
    fn commands_have_the_sizes_the_protocol_asks_for() {
        let mut commands = Commands::mpub("t", 10, 3, 2);
        let bytes = commands.numbered(2, 7);
        assert_eq!(bytes.len(), 2 * (7 + 8 + 3 * 14));
        assert_eq!(&bytes[..15], b"MPUB t\n\0\0\0\x2e\0\0\0\x03");
        assert_eq!(&bytes[15..19], [0, 0, 0, 10]);
        assert_eq!(seq_of(&bytes[19..]), Some(7));
        assert_eq!(seq_of(&bytes[57 + 19..]), Some(10));

        let mut commands = Commands::pub_one("t", 8, 2);
        let bytes = commands.numbered(2, 300);
        assert_eq!(&bytes[..18], b"PUB t\n\0\0\0\x08\0\0\0\0\0\0\x01\x2c");
        assert_eq!(seq_of(&bytes[18 + 10..]), Some(301));
    }

    #[test]
    fn deferred_messages_are_numbered_and_have_delays_of_their_own() {
        let mut commands = Commands::dpub("t", 8, 2);
        let expected = b"DPUB t 3600000\n\0\0\0\x08\0\0\0\0\0\0\0\x05\
                         DPUB t 3599999\n\0\0\0\x08\0\0\0\0\0\0\0\x06";
        assert_eq!(commands.numbered(2, 5), expected);
    }

    #[test]
    fn a_fin_is_one_line_with_the_id() {
        let mut out = Vec::new();
        put_fin(&mut out, b"0123456789abcdef");
        assert_eq!(out, b"FIN 0123456789abcdef\n");
        assert_eq!(out.len(), FIN_BYTES);
    }

    #[test]
    fn a_req_is_one_line_with_the_id_and_the_delay() {
        let mut out = Vec::new();
        put_req(&mut out, b"0123456789abcdef", 100);
        assert_eq!(out, b"REQ 0123456789abcdef 100\n");
    }
}
