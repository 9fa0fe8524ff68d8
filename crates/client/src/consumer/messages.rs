//! A consumer whose messages are pulled by the application instead of being passed to handlers.

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

/// The messages of a consumer, pulled with [`Messages::recv`] or as a [`Stream`].
///
/// Slow pulling applies back-pressure: at most `max_in_flight` messages are buffered. The application answers every
/// message itself. It must also enforce `max_attempts`, if wanted, by looking at [`Message::attempts`]. The stream ends
/// when the consumer has stopped. Dropping it stops the consumer and requeues buffered messages.
///
/// ```no_run
/// use nsq_client::Consumer;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut messages = Consumer::builder("orders", "billing").into_stream()?;
/// messages.consumer().connect_to_nsqd("10.0.0.1:4150").await?;
/// while let Some(message) = messages.recv().await {
///     println!("{:?}", message.body());
///     message.finish();
/// }
/// # Ok(())
/// # }
/// ```
pub struct Messages {
    consumer: Consumer,
    waiting: Option<Pin<Box<OwnedNotified>>>,
}

impl Messages {
    pub(super) fn new(consumer: Consumer) -> Self {
        Self { consumer, waiting: None }
    }

    /// Returns the consumer, for connecting and stopping it.
    pub fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    /// Waits for the next message; returns `None` when the consumer has stopped. Cancelling the call loses nothing.
    pub async fn recv(&mut self) -> Option<Message> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Returns the next message if one is buffered.
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
                // Look again once the notification is armed, so that no message is missed in between.
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
        // A stop that is draining would wait for messages that can no longer be pulled.
        self.consumer.engine().work.queue.requeue_all();
    }
}
