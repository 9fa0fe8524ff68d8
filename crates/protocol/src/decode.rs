//! Decoding of commands, with every check nsqd makes before it acts, in the order it makes them.
//!
//! Which error a client gets depends on that order, so it is part of the protocol: the connection's phase comes
//! before the number of parameters, that before the names, those before the sizes, and a size that is too big is
//! refused before the body is there.

use crate::{
    command::{Bodies, Command},
    error::{ClientError, Code},
    id::MessageId,
    name::{TopicName, is_valid_name},
    quote::quote,
};

/// The longest command line, its line feed included.
pub const LINE_BYTES_MAX: usize = 16384;

/// Where a connection is in its life, as far as it decides which commands are allowed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Connected, not subscribed.
    Init,
    /// Like `Init`, with heartbeats switched off by IDENTIFY: SUB is refused.
    InitWithoutHeartbeats,
    /// Connected in the clear to an nsqd that demands TLS: only IDENTIFY is allowed.
    TlsRequired,
    /// Subscribed to a channel.
    Subscribed,
    /// The client has sent CLS.
    Closing,
}

/// What nsqd accepts, by its flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `--max-body-size`: the body of any command.
    pub body_bytes_max: u32,
    /// `--max-identify-size`: the body of IDENTIFY and of AUTH, which strangers may send.
    pub identify_bytes_max: u32,
    /// `--max-msg-size`: one message.
    pub message_bytes_max: u32,
    /// `--max-rdy-count`.
    pub rdy_count_max: u64,
    /// `--max-req-timeout` in milliseconds: the longest delay of DPUB.
    pub req_timeout_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 5 << 20,
            identify_bytes_max: 64 << 10,
            message_bytes_max: 1 << 20,
            rdy_count_max: 2500,
            req_timeout_ms_max: 3_600_000,
        }
    }
}

/// What stands at the front of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A command, and how many bytes it takes.
    Command(Command<'a>, usize),
    /// RDY after CLS: nsqd passes over it. Holds how many bytes it takes.
    Ignored(usize),
    /// Not a whole command yet: nothing can be said before the buffer holds `needed` bytes.
    Incomplete {
        /// Bytes the buffer must hold before decoding makes progress.
        needed: usize,
        /// What is missing.
        missing: Missing,
        /// The topic of an MPUB whose line is complete: it is authorized before its body is read.
        multi_pub: Option<&'a str>,
    },
    /// The command is refused.
    Rejected(Rejection),
    /// The line is longer than [`LINE_BYTES_MAX`]: nsqd closes the connection without a word.
    LineTooLong,
}

/// A command that is refused; all refusals of the decoder are fatal for the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// What the client is told.
    pub error: ClientError,
    /// A topic that exists from now on all the same: MPUB creates its topic before its body is looked at.
    pub creates: Option<TopicName>,
    /// The body of IDENTIFY or AUTH is longer than the limit for these.
    pub is_long_identify: bool,
}

/// What an incomplete command lacks; decides what a client is told that goes away in the middle of it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The end of the line.
    Line,
    /// The size of the body.
    BodySize(&'static str),
    /// The body of IDENTIFY or AUTH.
    Body(&'static str),
    /// The size of the message of PUB or DPUB.
    MessageSize(&'static str),
    /// A message.
    Message(&'static str),
    /// The number of messages of an MPUB.
    MessageCount,
    /// The size of a message of an MPUB, counted from 0.
    MessageSizeAt(u32),
}

impl Missing {
    /// The error for a client that ends its stream here; none in the middle of a line.
    pub fn error(self) -> Option<ClientError> {
        let (code, text) = match self {
            Self::Line => return None,
            Self::BodySize(command) => {
                (Code::BadBody, format!("{command} failed to read body size"))
            }
            Self::Body(command) => (Code::BadBody, format!("{command} failed to read body")),
            Self::MessageSize(command) => {
                (Code::BadMessage, format!("{command} failed to read message body size"))
            }
            Self::Message(command) => {
                (Code::BadMessage, format!("{command} failed to read message body"))
            }
            Self::MessageCount => (Code::BadBody, "MPUB failed to read message count".to_owned()),
            Self::MessageSizeAt(i) => {
                (Code::BadMessage, format!("MPUB failed to read message({i}) body size"))
            }
        };
        Some(ClientError::new(code, text))
    }
}

/// Why decoding stopped short of a command.
enum Stop {
    Incomplete { needed: usize, missing: Missing },
    Rejected(Rejection),
    Ignored,
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        Self::Rejected(Rejection { error, creates: None, is_long_identify: false })
    }
}

/// How far an incomplete MPUB has been checked, for [`resume_command`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Where the first message begins that was not checked, and how many come before it.
    at: usize,
    messages: u32,
}

/// Decodes the command at the front of `buf`.
///
/// Pure: the same bytes give the same answer however they arrived. An incomplete command is answered with the
/// number of bytes worth waiting for, never more than its limits allow.
pub fn decode_command<'a>(buf: &'a [u8], phase: Phase, limits: &Limits) -> Decoded<'a> {
    resume_command(buf, phase, limits, &mut Progress::default())
}

/// Like [`decode_command`], for a reader that asks again when more bytes have come: many messages that arrive
/// little by little are not checked from the first one each time.
///
/// `progress` is what the last call left; the bytes it saw still have to be there.
pub fn resume_command<'a>(
    buf: &'a [u8],
    phase: Phase,
    limits: &Limits,
    progress: &mut Progress,
) -> Decoded<'a> {
    if let Some(id) = plain_fin(buf, phase) {
        return Decoded::Command(Command::Fin(id), FIN_BYTES);
    }
    let window = &buf[..buf.len().min(LINE_BYTES_MAX)];
    let Some(line_end) = window.iter().position(|&b| b == b'\n') else {
        if buf.len() >= LINE_BYTES_MAX {
            return Decoded::LineTooLong;
        }
        let needed = buf.len() + 1;
        return Decoded::Incomplete { needed, missing: Missing::Line, multi_pub: None };
    };
    let line = buf[..line_end].strip_suffix(b"\r").unwrap_or(&buf[..line_end]);
    let progressed = std::mem::take(progress);
    let mut body = Body { buf, at: line_end + 1, progress: progressed, multi_pub: None };
    match decode_line(line, &mut body, phase, limits) {
        Ok(command) => Decoded::Command(command, body.at),
        Err(Stop::Ignored) => Decoded::Ignored(body.at),
        Err(Stop::Incomplete { needed, missing }) => {
            *progress = body.progress;
            Decoded::Incomplete { needed, missing, multi_pub: body.multi_pub }
        }
        Err(Stop::Rejected(rejection)) => Decoded::Rejected(rejection),
    }
}

const FIN_BYTES: usize = b"FIN 0123456789abcdef\n".len();

/// The command that a busy consumer sends almost only, without the detour over parameters.
fn plain_fin(buf: &[u8], phase: Phase) -> Option<MessageId> {
    let line: &[u8; FIN_BYTES] = buf.first_chunk()?;
    let id = line.strip_prefix(b"FIN ")?.strip_suffix(b"\n")?;
    let subscribed = matches!(phase, Phase::Subscribed | Phase::Closing);
    // An id with a space or line feed in it is not one parameter of 16 bytes.
    (subscribed && id.iter().all(u8::is_ascii_alphanumeric)).then(|| MessageId::from_slice(id))?
}

fn decode_line<'a>(
    line: &'a [u8],
    body: &mut Body<'a>,
    phase: Phase,
    limits: &Limits,
) -> Result<Command<'a>, Stop> {
    let mut params = line.split(|&b| b == b' ');
    let name = params.next().unwrap_or_default();
    let (first, second) = (params.next(), params.next());
    match name {
        _ if phase == Phase::TlsRequired && name != b"IDENTIFY" => {
            Err(invalid([b"cannot ", name, b" in current state (TLS required)"].concat()))
        }
        b"FIN" => decode_answer("FIN", first, phase).map(Command::Fin),
        b"TOUCH" => decode_answer("TOUCH", first, phase).map(Command::Touch),
        b"REQ" => decode_req(first, second, phase),
        b"RDY" => decode_rdy(first, phase, limits),
        b"PUB" => decode_pub(first, body, limits),
        b"MPUB" => decode_multi_pub(first, body, limits),
        b"DPUB" => decode_deferred_pub(first, second, body, limits),
        b"NOP" => Ok(Command::Nop),
        b"CLS" => match phase {
            Phase::Subscribed => Ok(Command::Cls),
            _ => Err(wrong_phase("CLS")),
        },
        b"SUB" => decode_sub(first, second, phase),
        b"IDENTIFY" => {
            in_init("IDENTIFY", phase)?;
            body.whole("IDENTIFY", limits).map(Command::Identify)
        }
        b"AUTH" => {
            in_init("AUTH", phase)?;
            if first.is_some() {
                return Err(invalid("AUTH invalid number of parameters"));
            }
            body.whole("AUTH", limits).map(Command::Auth)
        }
        _ => Err(invalid([b"invalid command ", name].concat())),
    }
}

fn decode_answer(
    command: &'static str,
    id: Option<&[u8]>,
    phase: Phase,
) -> Result<MessageId, Stop> {
    in_subscription(command, phase)?;
    let id = id.ok_or_else(|| invalid(format!("{command} insufficient number of params")))?;
    MessageId::from_slice(id).ok_or_else(|| invalid("invalid message ID"))
}

fn decode_req<'a>(
    id: Option<&'a [u8]>,
    delay: Option<&'a [u8]>,
    phase: Phase,
) -> Result<Command<'a>, Stop> {
    in_subscription("REQ", phase)?;
    let (Some(id), Some(delay)) = (id, delay) else {
        return Err(invalid("REQ insufficient number of params"));
    };
    let id = MessageId::from_slice(id).ok_or_else(|| invalid("invalid message ID"))?;
    let delay_ms =
        decimal(delay).ok_or_else(|| invalid([b"REQ could not parse timeout ", delay].concat()))?;
    Ok(Command::Req { id, delay_ms })
}

fn decode_rdy<'a>(
    count: Option<&'a [u8]>,
    phase: Phase,
    limits: &Limits,
) -> Result<Command<'a>, Stop> {
    match phase {
        Phase::Closing => return Err(Stop::Ignored),
        _ => in_subscription("RDY", phase)?,
    }
    let Some(raw) = count else { return Ok(Command::Rdy(1)) };
    let count =
        decimal(raw).ok_or_else(|| invalid([b"RDY could not parse count ", raw].concat()))?;
    if count > limits.rdy_count_max {
        // Shown as the signed number it is on the other side of the wire.
        let (shown, max) = (count.cast_signed(), limits.rdy_count_max);
        return Err(invalid(format!("RDY count {shown} out of range 0-{max}")));
    }
    Ok(Command::Rdy(count))
}

fn decode_sub<'a>(
    topic: Option<&'a [u8]>,
    channel: Option<&'a [u8]>,
    phase: Phase,
) -> Result<Command<'a>, Stop> {
    in_init("SUB", phase)?;
    if phase == Phase::InitWithoutHeartbeats {
        return Err(invalid("cannot SUB with heartbeats disabled"));
    }
    let (Some(topic), Some(channel)) = (topic, channel) else {
        return Err(invalid("SUB insufficient number of parameters"));
    };
    let topic = name(topic).ok_or_else(|| bad_name(Code::BadTopic, "SUB topic", topic))?;
    let channel =
        name(channel).ok_or_else(|| bad_name(Code::BadChannel, "SUB channel", channel))?;
    Ok(Command::Sub { topic, channel })
}

fn decode_pub<'a>(
    topic: Option<&'a [u8]>,
    body: &mut Body<'a>,
    limits: &Limits,
) -> Result<Command<'a>, Stop> {
    let topic = topic.ok_or_else(|| invalid("PUB insufficient number of parameters"))?;
    let topic = name(topic).ok_or_else(|| bad_name(Code::BadTopic, "PUB topic", topic))?;
    body.message("PUB", limits).map(|body| Command::Pub { topic, body })
}

fn decode_deferred_pub<'a>(
    topic: Option<&'a [u8]>,
    delay: Option<&'a [u8]>,
    body: &mut Body<'a>,
    limits: &Limits,
) -> Result<Command<'a>, Stop> {
    let (Some(topic), Some(delay)) = (topic, delay) else {
        return Err(invalid("DPUB insufficient number of parameters"));
    };
    let topic = name(topic).ok_or_else(|| bad_name(Code::BadTopic, "DPUB topic", topic))?;
    let delay_ms = decimal(delay)
        .ok_or_else(|| invalid([b"DPUB could not parse timeout ", delay].concat()))?;
    if delay_ms > limits.req_timeout_ms_max {
        let max = limits.req_timeout_ms_max;
        return Err(invalid(format!("DPUB timeout {delay_ms} out of range 0-{max}")));
    }
    body.message("DPUB", limits).map(|body| Command::DeferredPub { topic, delay_ms, body })
}

fn decode_multi_pub<'a>(
    topic: Option<&'a [u8]>,
    body: &mut Body<'a>,
    limits: &Limits,
) -> Result<Command<'a>, Stop> {
    let topic = topic.ok_or_else(|| invalid("MPUB insufficient number of parameters"))?;
    let topic = name(topic).ok_or_else(|| {
        // The code stands twice on the wire; clients have seen it so for ever.
        let text = format!("E_BAD_TOPIC MPUB topic name {} is not valid", quote(topic));
        ClientError::new(Code::BadTopic, text)
    })?;
    body.multi_pub = Some(topic);
    match body.messages(limits) {
        Ok(bodies) => Ok(Command::MultiPub { topic, bodies }),
        Err(Stop::Rejected(rejection)) => {
            Err(Stop::Rejected(Rejection { creates: TopicName::new(topic).ok(), ..rejection }))
        }
        Err(stop) => Err(stop),
    }
}

fn in_init(command: &str, phase: Phase) -> Result<(), Stop> {
    match phase {
        Phase::Init | Phase::InitWithoutHeartbeats | Phase::TlsRequired => Ok(()),
        Phase::Subscribed | Phase::Closing => Err(wrong_phase(command)),
    }
}

fn in_subscription(command: &str, phase: Phase) -> Result<(), Stop> {
    match phase {
        Phase::Subscribed | Phase::Closing => Ok(()),
        Phase::Init | Phase::InitWithoutHeartbeats | Phase::TlsRequired => {
            Err(wrong_phase(command))
        }
    }
}

fn wrong_phase(command: &str) -> Stop {
    invalid(format!("cannot {command} in current state"))
}

fn invalid(text: impl Into<Vec<u8>>) -> Stop {
    ClientError::new(Code::Invalid, text).into()
}

fn bad_name(code: Code, what: &str, name: &[u8]) -> ClientError {
    ClientError::new(code, format!("{what} name {} is not valid", quote(name)))
}

fn name(bytes: &[u8]) -> Option<&str> {
    if is_valid_name(bytes) { std::str::from_utf8(bytes).ok() } else { None }
}

/// A number in ASCII digits. Nothing is 0, and what does not fit wraps, as NSQ has always read them.
fn decimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, digit| {
        let value = digit.checked_sub(b'0').filter(|value| *value < 10)?;
        Some(number.wrapping_mul(10).wrapping_add(u64::from(value)))
    })
}

/// The bytes behind a command line, taken piece by piece.
struct Body<'a> {
    buf: &'a [u8],
    at: usize,
    progress: Progress,
    /// The topic of the MPUB that the bytes belong to.
    multi_pub: Option<&'a str>,
}

impl<'a> Body<'a> {
    fn take(&mut self, bytes: usize, missing: Missing) -> Result<&'a [u8], Stop> {
        let end = self.at + bytes;
        let Some(taken) = self.buf.get(self.at..end) else {
            return Err(Stop::Incomplete { needed: end, missing });
        };
        self.at = end;
        Ok(taken)
    }

    fn size(&mut self, missing: Missing) -> Result<i32, Stop> {
        let bytes = self.take(4, missing)?;
        Ok(bytes.try_into().map(i32::from_be_bytes).unwrap_or_default())
    }

    /// The body of IDENTIFY or AUTH.
    fn whole(&mut self, command: &'static str, limits: &Limits) -> Result<&'a [u8], Stop> {
        let size = self.size(Missing::BodySize(command))?;
        let max = limits.identify_bytes_max.min(limits.body_bytes_max);
        match u32::try_from(size) {
            Ok(bytes) if bytes > max => {
                let text = format!("{command} body too big {size} > {max}");
                let error = ClientError::new(Code::BadBody, text);
                Err(Stop::Rejected(Rejection { error, creates: None, is_long_identify: true }))
            }
            Ok(bytes) if bytes > 0 => self.take(bytes as usize, Missing::Body(command)),
            _ => {
                Err(ClientError::new(Code::BadBody, format!("{command} invalid body size {size}"))
                    .into())
            }
        }
    }

    /// The message of PUB or DPUB.
    fn message(&mut self, command: &'static str, limits: &Limits) -> Result<&'a [u8], Stop> {
        let size = self.size(Missing::MessageSize(command))?;
        let max = limits.message_bytes_max;
        match u32::try_from(size) {
            Ok(bytes) if bytes > max => {
                let text = format!("{command} message too big {size} > {max}");
                Err(ClientError::new(Code::BadMessage, text).into())
            }
            Ok(bytes) if bytes > 0 => self.take(bytes as usize, Missing::Message(command)),
            _ => {
                let text = format!("{command} invalid message body size {size}");
                Err(ClientError::new(Code::BadMessage, text).into())
            }
        }
    }

    /// The messages of MPUB. The announced size is only held against its range; the sizes inside decide where
    /// the command ends, but may not lead past the limit for a body.
    fn messages(&mut self, limits: &Limits) -> Result<Bodies<'a>, Stop> {
        let bad_body = |text: String| Stop::from(ClientError::new(Code::BadBody, text));
        let bad_message = |text: String| Stop::from(ClientError::new(Code::BadMessage, text));
        let max = limits.body_bytes_max;
        let body_size = self.size(Missing::BodySize("MPUB"))?;
        match u32::try_from(body_size) {
            Ok(bytes) if bytes > max => {
                return Err(bad_body(format!("MPUB body too big {body_size} > {max}")));
            }
            Ok(bytes) if bytes > 0 => {}
            _ => return Err(bad_body(format!("MPUB invalid body size {body_size}"))),
        }
        let start = self.at;
        let announced = self.size(Missing::MessageCount)?;
        let count = u32::try_from(announced).unwrap_or(0);
        // A message takes 4 bytes for its size and at least one for itself.
        if count == 0 || count > max.saturating_sub(4) / 5 {
            return Err(bad_body(format!("MPUB invalid message count {announced}")));
        }
        let first = self.at;
        let checked = self.progress.messages;
        if checked > 0 {
            self.at = self.progress.at;
        }
        for i in checked..count {
            self.progress = Progress { at: self.at, messages: i };
            let size = self.size(Missing::MessageSizeAt(i))?;
            let bytes = u32::try_from(size).unwrap_or(0);
            if bytes == 0 {
                return Err(bad_message(format!("MPUB invalid message({i}) body size {size}")));
            }
            if bytes > limits.message_bytes_max {
                let max = limits.message_bytes_max;
                return Err(bad_message(format!("MPUB message too big {size} > {max}")));
            }
            let body_bytes = self.at - start + bytes as usize;
            if body_bytes > max as usize {
                return Err(bad_body(format!("MPUB body too big {body_bytes} > {max}")));
            }
            self.take(bytes as usize, Missing::Message("MPUB"))?;
        }
        Ok(Bodies::new_unchecked(&self.buf[first..self.at], count as usize))
    }
}
