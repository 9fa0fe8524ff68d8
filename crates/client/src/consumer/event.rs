//! Events: what happens to a consumer, for applications that want to follow it.

use std::time::Duration;

use nsq_protocol::MessageId;
use tokio::sync::broadcast::{Receiver, Sender, error::RecvError};

use crate::{
    error::{ConnectError, ConnectionError, ServerError},
    lookup::LookupError,
};

/// The number of events kept for a slow receiver.
const EVENTS_MAX: usize = 64;

/// Something that happened to a consumer. Receiving and answering a message is not an event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// An nsqd accepted the subscription.
    Connected {
        /// The nsqd's address.
        nsqd: String,
    },
    /// An attempt to connect failed. It is retried unless the consumer has disconnected from the nsqd.
    ConnectFailed {
        /// The nsqd's address.
        nsqd: String,
        /// The error.
        error: ConnectError,
    },
    /// A connection ended.
    Disconnected {
        /// The nsqd's address.
        nsqd: String,
        /// Why it ended.
        reason: ConnectionError,
    },
    /// An nsqlookupd gave no usable answer. It is asked again at the next poll.
    LookupFailed {
        /// The nsqlookupd, as `host:port`.
        nsqlookupd: String,
        /// The error.
        error: LookupError,
    },
    /// A message failed, or not enough have succeeded since: the consumer receives nothing for a while, then tries a
    /// single message.
    BackedOff {
        /// The number of successes needed to run at full speed again.
        level: u32,
        /// The length of the pause.
        pause: Duration,
    },
    /// The consumer runs at full speed again.
    Resumed,
    /// A message had too many attempts.
    GaveUp {
        /// The nsqd it came from.
        nsqd: String,
        /// The message's id.
        id: MessageId,
        /// The number of deliveries, including this one.
        attempts: u16,
    },
    /// nsqd refused an answer, usually because the message had timed out.
    AnswerRefused {
        /// The nsqd's address.
        nsqd: String,
        /// nsqd's error; its text names the message.
        error: ServerError,
    },
}

/// The events of a consumer in order, starting with the call of [`Consumer::events`](crate::Consumer::events).
#[derive(Debug)]
pub struct Events(Receiver<Event>);

impl Events {
    /// Waits for the next event; returns `None` when the consumer is gone.
    ///
    /// A receiver that is more than 64 events behind misses the oldest ones. Cancelling the call loses nothing.
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

/// Sends events to all receivers.
#[derive(Clone)]
pub(crate) struct Emitter(Sender<Event>);

impl Emitter {
    pub(super) fn new() -> Self {
        Self(Sender::new(EVENTS_MAX))
    }

    pub(super) fn subscribe(&self) -> Events {
        Events(self.0.subscribe())
    }

    /// Sends an event, if there is a receiver.
    pub(crate) fn emit(&self, event: impl FnOnce() -> Event) {
        if self.0.receiver_count() > 0 {
            // The last receiver may just have gone.
            let _ = self.0.send(event());
        }
    }
}
