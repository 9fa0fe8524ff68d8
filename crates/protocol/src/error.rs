//! The errors nsqd answers a client with.

use std::fmt;

macro_rules! codes {
    ($($variant:ident = $text:literal, $doc:literal;)*) => {
        /// The code an error frame begins with, as NSQ spells it on the wire.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $doc] $variant,)*
        }

        impl Code {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The code as it stands on the wire.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// The code that `token` spells, if any.
            pub fn from_token(token: &[u8]) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.as_str().as_bytes() == token)
            }
        }
    };
}

codes! {
    BadProtocol = "E_BAD_PROTOCOL", "The connection did not begin with a known magic.";
    Invalid = "E_INVALID", "The command is unknown, malformed, or not allowed now.";
    BadTopic = "E_BAD_TOPIC", "The topic name breaks the rules.";
    BadChannel = "E_BAD_CHANNEL", "The channel name breaks the rules.";
    BadBody = "E_BAD_BODY", "The body of IDENTIFY, AUTH or MPUB is unusable.";
    BadMessage = "E_BAD_MESSAGE", "A message body is empty, too big or missing.";
    PubFailed = "E_PUB_FAILED", "PUB was understood but could not be carried out.";
    MultiPubFailed = "E_MPUB_FAILED", "MPUB was understood but could not be carried out.";
    DeferredPubFailed = "E_DPUB_FAILED", "DPUB was understood but could not be carried out.";
    FinFailed = "E_FIN_FAILED", "The message is not in flight to this client.";
    ReqFailed = "E_REQ_FAILED", "The message is not in flight to this client.";
    TouchFailed = "E_TOUCH_FAILED", "The message is not in flight to this client.";
    SubFailed = "E_SUB_FAILED", "SUB was understood but could not be carried out.";
    IdentifyFailed = "E_IDENTIFY_FAILED", "The negotiated features could not be switched on.";
    AuthDisabled = "E_AUTH_DISABLED", "AUTH was sent to an nsqd without authorization.";
    AuthFailed = "E_AUTH_FAILED", "The authorization server refused or could not be asked.";
    AuthFirst = "E_AUTH_FIRST", "AUTH has to come before this command.";
    AuthError = "E_AUTH_ERROR", "The answer to AUTH could not be sent.";
    Unauthorized = "E_UNAUTHORIZED", "The client may not do this.";
}

/// What nsqd answers when it cannot serve a command: the data of an error frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ClientError {
    /// What kind of error it is.
    pub code: Code,
    /// The text after the code; raw bytes, because it may echo what the client sent.
    pub detail: Vec<u8>,
}

impl ClientError {
    /// An error with a text.
    pub fn new(code: Code, detail: impl Into<Vec<u8>>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// Whether nsqd closes the connection after this error. Only a refused FIN, REQ or TOUCH leaves it open.
    pub fn is_fatal(&self) -> bool {
        !matches!(self.code, Code::FinFailed | Code::ReqFailed | Code::TouchFailed)
    }

    /// Appends the data of the error frame: the code and, after a space, the text if there is one.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.code.as_str().as_bytes());
        // A bare code only exists for E_BAD_PROTOCOL; the others keep their space even before an empty text.
        if self.code != Code::BadProtocol {
            out.push(b' ');
            out.extend_from_slice(&self.detail);
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        f.write_str(&String::from_utf8_lossy(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_by_its_token() {
        for code in Code::ALL {
            assert_eq!(Code::from_token(code.as_str().as_bytes()), Some(*code));
        }
        assert_eq!(Code::from_token(b"E_NOVEL"), None);
    }

    #[test]
    fn only_refused_answers_to_messages_keep_the_connection() {
        let open: Vec<_> =
            Code::ALL.iter().filter(|code| !ClientError::new(**code, "x").is_fatal()).collect();
        assert_eq!(open, [&Code::FinFailed, &Code::ReqFailed, &Code::TouchFailed]);
    }

    #[test]
    fn a_bad_protocol_error_is_the_bare_code() {
        assert_eq!(ClientError::new(Code::BadProtocol, "").to_string(), "E_BAD_PROTOCOL");
        assert_eq!(
            ClientError::new(Code::Invalid, "invalid command ").to_string(),
            "E_INVALID invalid command "
        );
    }
}
