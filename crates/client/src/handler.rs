//! Handlers: the application's code for messages.

use std::{fmt::Display, future::Future};

use crate::message::Message;

/// Handles messages. Implemented by every `Fn(Message) -> impl Future<Output = Result<(), E>>`.
///
/// `Ok` finishes the message; an error or a panic requeues it with [`Delay::Auto`](crate::Delay::Auto). A handler that
/// has answered the message itself, or has called [`Message::disable_auto_response`], is left to its own answer.
///
/// A handler may await for as long as it likes, but must not block its thread for long: meanwhile tokio may be unable
/// to serve the connection, and nsqd disconnects a client that does not answer heartbeats. Use
/// `tokio::task::spawn_blocking` for blocking work.
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
    /// The error if handling fails; it is logged.
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
