//! Commands, which clients send: `NAME[ param]*\n`, some followed by `[size: u32][body]`.

use std::io::Write;

use crate::id::MessageId;

/// A command as it lies in a buffer. Names are valid when it was decoded; whoever encodes one checks them.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Tells nsqd about the client; the body is a JSON object.
    Identify(&'a [u8]),
    /// Shows a secret to the authorization server.
    Auth(&'a [u8]),
    /// Subscribes the connection to a channel.
    Sub {
        /// The topic's name.
        topic: &'a str,
        /// The channel's name.
        channel: &'a str,
    },
    /// Publishes one message.
    Pub {
        /// The topic's name.
        topic: &'a str,
        /// The message.
        body: &'a [u8],
    },
    /// Publishes several messages, all or none.
    MultiPub {
        /// The topic's name.
        topic: &'a str,
        /// The messages.
        bodies: Bodies<'a>,
    },
    /// Publishes one message to be delivered after a delay.
    DeferredPub {
        /// The topic's name.
        topic: &'a str,
        /// The delay in milliseconds.
        delay_ms: u64,
        /// The message.
        body: &'a [u8],
    },
    /// Sets how many messages may be in flight to this connection.
    Rdy(u64),
    /// The message has been handled.
    Fin(MessageId),
    /// The message shall come again.
    Req {
        /// The message's id.
        id: MessageId,
        /// After how many milliseconds; 0 at once.
        delay_ms: u64,
    },
    /// The message needs more time.
    Touch(MessageId),
    /// No more messages, please: the client is about to leave.
    Cls,
    /// Nothing; a sign of life.
    Nop,
}

/// The messages of an MPUB: `([size: u32][bytes])*`, checked to be whole.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Bodies<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> Bodies<'a> {
    /// Takes bytes that hold exactly `count` whole messages.
    pub(crate) fn new_unchecked(bytes: &'a [u8], count: usize) -> Self {
        Self { bytes, count }
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// The bytes of the messages together, with four for each size.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no message; never so in a decoded command.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a> IntoIterator for Bodies<'a> {
    type Item = &'a [u8];
    type IntoIter = IntoIter<'a>;

    fn into_iter(self) -> IntoIter<'a> {
        IntoIter { bytes: self.bytes }
    }
}

/// Walks the messages of an MPUB.
#[derive(Clone, Debug)]
pub struct IntoIter<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for IntoIter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (size, rest) = self.bytes.split_first_chunk()?;
        let (body, rest) = rest.split_at_checked(u32::from_be_bytes(*size) as usize)?;
        self.bytes = rest;
        Some(body)
    }
}

impl Command<'_> {
    /// Appends the command as a client sends it.
    ///
    /// # Panics
    /// When a body is over 4 GiB, which no limit of NSQ allows.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Identify(body) => with_body(out, b"IDENTIFY", &[], body),
            Self::Auth(secret) => with_body(out, b"AUTH", &[], secret),
            Self::Sub { topic, channel } => {
                line(out, b"SUB", &[topic.as_bytes(), channel.as_bytes()])
            }
            Self::Pub { topic, body } => with_body(out, b"PUB", &[topic.as_bytes()], body),
            Self::MultiPub { topic, bodies } => {
                line(out, b"MPUB", &[topic.as_bytes()]);
                out.extend_from_slice(&size(4 + bodies.bytes.len()).to_be_bytes());
                out.extend_from_slice(&size(bodies.count).to_be_bytes());
                out.extend_from_slice(bodies.bytes);
            }
            Self::DeferredPub { topic, delay_ms, body } => {
                with_body(out, b"DPUB", &[topic.as_bytes(), decimal(delay_ms, &mut [0; 20])], body);
            }
            Self::Rdy(count) => line(out, b"RDY", &[decimal(count, &mut [0; 20])]),
            Self::Fin(id) => line(out, b"FIN", &[&id.0]),
            Self::Req { id, delay_ms } => {
                line(out, b"REQ", &[&id.0, decimal(delay_ms, &mut [0; 20])])
            }
            Self::Touch(id) => line(out, b"TOUCH", &[&id.0]),
            Self::Cls => line(out, b"CLS", &[]),
            Self::Nop => line(out, b"NOP", &[]),
        }
    }
}

/// Appends an MPUB of separate bodies, without gathering them first.
///
/// # Panics
/// When the bodies are over 4 GiB together, which no limit of NSQ allows.
pub fn encode_multi_pub<B: AsRef<[u8]>>(topic: &str, bodies: &[B], out: &mut Vec<u8>) {
    let bytes: usize = bodies.iter().map(|body| 4 + body.as_ref().len()).sum();
    line(out, b"MPUB", &[topic.as_bytes()]);
    out.reserve(8 + bytes);
    out.extend_from_slice(&size(4 + bytes).to_be_bytes());
    out.extend_from_slice(&size(bodies.len()).to_be_bytes());
    for body in bodies {
        out.extend_from_slice(&size(body.as_ref().len()).to_be_bytes());
        out.extend_from_slice(body.as_ref());
    }
}

fn line(out: &mut Vec<u8>, name: &[u8], params: &[&[u8]]) {
    out.extend_from_slice(name);
    for param in params {
        out.push(b' ');
        out.extend_from_slice(param);
    }
    out.push(b'\n');
}

fn with_body(out: &mut Vec<u8>, name: &[u8], params: &[&[u8]], body: &[u8]) {
    line(out, name, params);
    out.extend_from_slice(&size(body.len()).to_be_bytes());
    out.extend_from_slice(body);
}

fn size(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("limits keep bodies far below 4 GiB")
}

fn decimal(number: u64, buf: &mut [u8; 20]) -> &[u8] {
    let mut rest = buf.as_mut_slice();
    // The longest u64 has 20 digits.
    let _ = write!(rest, "{number}");
    let unused = rest.len();
    &buf[..20 - unused]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(command: Command<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        command.encode(&mut out);
        out
    }

    #[test]
    fn every_command_has_the_bytes_of_the_protocol() {
        let id = MessageId(*b"0123456789abcdef");
        assert_eq!(encoded(Command::Identify(b"{}")), b"IDENTIFY\n\0\0\0\x02{}");
        assert_eq!(encoded(Command::Auth(b"s")), b"AUTH\n\0\0\0\x01s");
        assert_eq!(encoded(Command::Sub { topic: "t", channel: "c" }), b"SUB t c\n");
        assert_eq!(encoded(Command::Pub { topic: "t", body: b"hi" }), b"PUB t\n\0\0\0\x02hi");
        let deferred = Command::DeferredPub { topic: "t", delay_ms: 1500, body: b"hi" };
        assert_eq!(encoded(deferred), b"DPUB t 1500\n\0\0\0\x02hi");
        assert_eq!(encoded(Command::Rdy(2500)), b"RDY 2500\n");
        assert_eq!(encoded(Command::Rdy(u64::MAX)), b"RDY 18446744073709551615\n");
        assert_eq!(encoded(Command::Fin(id)), b"FIN 0123456789abcdef\n");
        assert_eq!(encoded(Command::Req { id, delay_ms: 0 }), b"REQ 0123456789abcdef 0\n");
        assert_eq!(encoded(Command::Touch(id)), b"TOUCH 0123456789abcdef\n");
        assert_eq!(encoded(Command::Cls), b"CLS\n");
        assert_eq!(encoded(Command::Nop), b"NOP\n");
    }

    #[test]
    fn an_mpub_announces_its_bytes_its_count_and_each_size() {
        let mut out = Vec::new();
        encode_multi_pub("t", &[&b"a"[..], b"bcd"], &mut out);
        assert_eq!(out, b"MPUB t\n\0\0\0\x10\0\0\0\x02\0\0\0\x01a\0\0\0\x03bcd");
    }
}
