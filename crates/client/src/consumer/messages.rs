//! Messages pulled by the application instead of being pushed to handlers.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use tokio::sync::futures::OwnedNotified;

use super::{Consumer, DRAIN_LIMIT_DEFAULT, StopMode};
use crate::message::Message;

/// The messages of a consumer, to be pulled with [`Messages::recv`] or as a [`Stream`].
///
/// Pulling slowly is backpressure: no more than `max_in_flight` messages wait here. Every message is answered by its
/// owner; `max_attempts` is left to the application, which sees [`Message::attempts`]. The end comes when the consumer
/// has been stopped. Dropping this stops the consumer and requeues what waits.
pub struct Messages {
    consumer: Consumer,
    waiting: Option<Pin<Box<OwnedNotified>>>,
}

impl Messages {
    pub(super) fn new(consumer: Consumer) -> Self {
        Self { consumer, waiting: None }
    }

    /// The consumer, to connect and to stop it.
    pub fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    /// The next message, or `None` when the consumer has been stopped. Cancelling loses nothing.
    pub async fn recv(&mut self) -> Option<Message> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The next message if one is here.
    pub fn try_recv(&mut self) -> Option<Message> {
        self.consumer.engine().work.queue.try_take_one()
    }

    /// Polls for the next message.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let queue = Arc::clone(&self.consumer.engine().work.queue);
        loop {
            if let Some(message) = queue.try_take_one() {
                return Poll::Ready(Some(message));
            }
            if queue.is_closed() {
                return Poll::Ready(None);
            }
            match &mut self.waiting {
                // What comes between looking and waiting must not be missed: look again once it is armed.
                None => {
                    self.waiting = Some(Box::pin(Arc::clone(queue.ready()).notified_owned()));
                }
                Some(waiting) => {
                    ready!(waiting.as_mut().poll(cx));
                    self.waiting = None;
                }
            }
        }
    }
}

impl Stream for Messages {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.poll_recv(cx)
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.consumer.engine().stop(StopMode::RequeueBuffered, DRAIN_LIMIT_DEFAULT);
        // A stop that was begun with draining waits for messages that nobody can pull any more.
        self.consumer.engine().work.queue.requeue_all();
    }
}
