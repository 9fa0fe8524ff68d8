//! One TCP connection to nsqd. The [`handshake`] dials, identifies the client and negotiates the [`transport`]; then
//! the [`driver`] serves the connection, and commands are sent through the [`outbox`].

pub(crate) mod dial;
pub(crate) mod driver;
pub(crate) mod handshake;
pub(crate) mod outbox;
pub(crate) mod transport;
