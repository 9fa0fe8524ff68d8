//! The refusal of a FIN, REQ or TOUCH.

/// The reason why a FIN, REQ or TOUCH was refused and changed nothing. The texts are those that NSQ's clients see.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Hash, thiserror::Error)]
pub enum Refusal {
    /// The message is ready, deferred, finished, or never existed.
    #[error("ID not in flight")]
    NotInFlight,
    /// The message is in flight to another client.
    #[error("client does not own message")]
    NotOwner,
}
