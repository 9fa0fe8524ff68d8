//! What an application does with messages.

use std::{fmt::Display, future::Future};

use crate::message::Message;

/// Handles messages; implemented by every `Fn(Message) -> impl Future<Output = Result<(), E>>`.
///
/// `Ok` finishes the message, an error or a panic requeues it with [`Delay::Auto`](crate::Delay::Auto), unless the
/// handler has answered itself or has taken the message over with [`Message::disable_auto_response`].
///
/// A handler may wait as long as it likes, but must not keep its thread busy or blocked for long: tokio cannot serve
/// the connection meanwhile, and nsqd gives up a client that answers no heartbeats. Hand such work to
/// `tokio::task::spawn_blocking`.
///
/// ```
/// use nsq_client::{Handler, Message};
///
/// struct Billing {
///     currency: String,
/// }
///
/// impl Handler for Billing {
///     type Error = std::str::Utf8Error;
///
///     async fn handle(&self, message: Message) -> Result<(), Self::Error> {
///         println!("{} {}", std::str::from_utf8(message.body())?, self.currency);
///         Ok(())
///     }
/// }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Why a message could not be handled; it is logged.
    type Error: Display + Send;

    /// Handles one message.
    fn handle(&self, message: Message) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

impl<F, R, E> Handler for F
where
    F: Fn(Message) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), E>> + Send,
    E: Display + Send,
{
    type Error = E;

    fn handle(&self, message: Message) -> impl Future<Output = Result<(), E>> + Send {
        self(message)
    }
}
