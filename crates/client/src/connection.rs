//! One TCP connection to nsqd: dialed and introduced by [`handshake`], then served by a [`driver`] that writes what
//! lies in the [`outbox`].

pub(crate) mod driver;
pub(crate) mod handshake;
pub(crate) mod outbox;
