//! The errors of commands that were well formed and failed.

use std::fmt::Display;

use nsq_broker::Refusal;
use nsq_protocol::{ClientError, Code, MessageId};

/// The error of a command that was well formed and failed.
pub(super) fn failed(code: Code, why: impl Display) -> ClientError {
    ClientError::new(code, format!("{} failed {why}", command_of(code)))
}

/// The error of a FIN, REQ or TOUCH.
pub(super) fn not_answered(code: Code, id: MessageId, why: Refusal) -> ClientError {
    let (command, why) = (command_of(code), why.to_string());
    let text = [command.as_bytes(), b" ", &id.0, b" failed ", why.as_bytes()].concat();
    ClientError::new(code, text)
}

/// The command that a code is about.
pub(super) fn command_of(failure: Code) -> &'static str {
    let code = failure.as_str();
    code.strip_prefix("E_").and_then(|code| code.strip_suffix("_FAILED")).unwrap_or(code)
}
