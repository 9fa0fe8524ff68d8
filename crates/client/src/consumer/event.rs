//! What a consumer tells about itself, for applications that want to know.

use std::time::Duration;

use nsq_protocol::MessageId;
use tokio::sync::broadcast::{Receiver, Sender, error::RecvError};

use crate::{
    error::{ConnectError, ConnectionError, ServerError},
    lookup::LookupError,
};

/// How many events wait for one who listens slowly.
const EVENTS_MAX: usize = 64;

/// Something that happened to a consumer. None is sent for a message that is received and answered.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// An nsqd has accepted the subscription.
    Connected {
        /// The nsqd's address.
        nsqd: String,
    },
    /// An attempt to connect failed; another one follows, unless the address was given up.
    ConnectFailed {
        /// The nsqd's address.
        nsqd: String,
        /// What went wrong.
        error: ConnectError,
    },
    /// A connection has ended.
    Disconnected {
        /// The nsqd's address.
        nsqd: String,
        /// How it ended.
        reason: ConnectionError,
    },
    /// An nsqlookupd gave no answer; it is asked again with the next poll.
    LookupFailed {
        /// The nsqlookupd, as `host:port`.
        nsqlookupd: String,
        /// What went wrong.
        error: LookupError,
    },
    /// Handling failed, or has not recovered enough: no messages come for a while, then one to try.
    BackedOff {
        /// How many successes it takes to get over it.
        level: u32,
        /// How long no messages come.
        pause: Duration,
    },
    /// Handling works again, and messages come as before.
    Resumed,
    /// A message had too many attempts.
    GaveUp {
        /// The nsqd it came from.
        nsqd: String,
        /// The message.
        id: MessageId,
        /// How often it was delivered.
        attempts: u16,
    },
    /// nsqd refused an answer, usually because the message had timed out.
    AnswerRefused {
        /// The nsqd's address.
        nsqd: String,
        /// What nsqd said; its text names the message.
        error: ServerError,
    },
}

/// The events of a consumer from [`Consumer::events`](crate::Consumer::events) on, in their order.
#[derive(Debug)]
pub struct Events(Receiver<Event>);

impl Events {
    /// The next event, or `None` when the consumer has ended. Whoever is more than 64 events behind misses the oldest.
    /// Cancelling loses nothing.
    pub async fn recv(&mut self) -> Option<Event> {
        loop {
            match self.0.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(missed)) => tracing::debug!(missed, "events missed"),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// Where events come from.
#[derive(Clone)]
pub(crate) struct Emitter(Sender<Event>);

impl Emitter {
    pub(super) fn new() -> Self {
        Self(Sender::new(EVENTS_MAX))
    }

    pub(super) fn subscribe(&self) -> Events {
        Events(self.0.subscribe())
    }

    /// Tells those who listen.
    pub(crate) fn emit(&self, event: impl FnOnce() -> Event) {
        if self.0.receiver_count() > 0 {
            // The last one may have stopped listening just now.
            let _ = self.0.send(event());
        }
    }
}
