//! One TCP connection to nsqd: dialed and introduced by [`handshake`], which agrees with nsqd on the
//! [`transport`], then served by a [`driver`] that writes what lies in the [`outbox`].

pub(crate) mod dial;
pub(crate) mod driver;
pub(crate) mod handshake;
pub(crate) mod outbox;
pub(crate) mod transport;
