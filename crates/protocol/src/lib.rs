//! The NSQ wire protocol (V2) as pure functions over bytes.
//!
//! Bytes go in, values come out, and the other way round. Nothing here opens a socket, reads a clock or
//! allocates for a message: decoded commands and frames borrow from the caller's buffer, and encoders append to
//! a buffer the caller owns. Every function tolerates any split of its input; what is not there yet is reported
//! as incomplete, with the number of bytes to wait for.
//!
//! - [`decode_command`] is the server's half: one command from the front of a buffer.
//! - [`Command`] is a command, and encodes itself for the client's half.
//! - [`decode_frame`] and [`encode_frame`] are the way back: responses, errors and messages.
//! - [`TopicName`], [`ChannelName`] and [`MessageId`] are parsed once and valid from then on.
//! - [`v1`] is the protocol between nsqd and nsqlookupd, both halves.
//! - [`ClientError`] is what nsqd answers when a command cannot be served.
//!
//! This crate knows nothing of queues: whether a message is in flight is the broker's business.
//!
//! ```
//! use nsq_protocol::{decode_command, Command, Decoded, Limits, Phase};
//!
//! let mut bytes = Vec::new();
//! Command::Pub { topic: "orders", body: b"first" }.encode(&mut bytes);
//! match decode_command(&bytes, Phase::Init, &Limits::default()) {
//!     Decoded::Command(Command::Pub { topic, body }, used) => {
//!         assert_eq!((topic, body, used), ("orders", &b"first"[..], bytes.len()));
//!     }
//!     other => panic!("{other:?}"),
//! }
//! ```

mod command;
mod decode;
mod error;
mod frame;
mod id;
mod name;
mod quote;
pub mod v1;

pub use crate::{
    command::{Bodies, Command, IntoIter, encode_multi_pub},
    decode::{
        Decoded, LINE_BYTES_MAX, Limits, Missing, Phase, Progress, Rejection, decode_command,
        resume_command,
    },
    error::{ClientError, Code},
    frame::{
        CLOSE_WAIT, Frame, FrameError, FrameType, HEARTBEAT, MESSAGE_FRAME_HEAD_BYTES,
        MESSAGE_HEAD_BYTES, MessageFrame, OK, decode_frame, encode_frame, encode_message_frame,
    },
    id::MessageId,
    name::{ChannelName, InvalidName, NAME_BYTES_MAX, TopicName, is_valid_name},
    quote::quote,
};

/// The four bytes a V2 client opens a connection with: two spaces, `V2`.
pub const MAGIC_V2: [u8; 4] = *b"  V2";

/// The four bytes nsqd opens a connection to nsqlookupd with: two spaces, `V1`.
pub const MAGIC_V1: [u8; 4] = *b"  V1";
