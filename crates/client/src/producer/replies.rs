//! A producer's side of its connection: commands in flight, whose answers arrive in the same order.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};

use crate::{
    connection::{
        driver::{MessageHead, Role},
        outbox::Outbox,
    },
    error::{ConnectionError, PublishError, ServerError},
};

/// Commands in the outbox or in flight.
#[derive(Default)]
pub(crate) struct Outstanding {
    commands: VecDeque<Waiting>,
    /// The number of commands, at the end of the queue, that are still in the outbox.
    unsent: usize,
    /// Callers that wait until the outbox has been written.
    flushes: Vec<oneshot::Sender<()>>,
}

/// A command that waits for its answer.
struct Waiting {
    publisher: oneshot::Sender<Result<(), PublishError>>,
    /// The number of slots to give back.
    slots: u32,
}

impl Outstanding {
    /// Adds a command that has just been appended to the outbox.
    pub(crate) fn push(
        &mut self,
        publisher: oneshot::Sender<Result<(), PublishError>>,
        slots: u32,
    ) {
        self.commands.push_back(Waiting { publisher, slots });
        self.unsent += 1;
    }

    /// Resolves `flushed` when the outbox has been written.
    pub(crate) fn on_flush(&mut self, flushed: oneshot::Sender<()>) {
        self.flushes.push(flushed);
    }
}

/// Receives the connection's frames, each of which answers the oldest command.
pub(crate) struct Replies {
    outbox: Arc<Outbox<Outstanding>>,
    slots: Arc<Semaphore>,
    /// The answers of the current read.
    answers: Vec<Result<(), ServerError>>,
    flushes: Vec<oneshot::Sender<()>>,
}

impl Replies {
    pub(crate) fn new(outbox: Arc<Outbox<Outstanding>>, slots: Arc<Semaphore>) -> Self {
        Self { outbox, slots, answers: Vec::new(), flushes: Vec::new() }
    }
}

impl Role for Replies {
    type Extra = Outstanding;

    fn on_message(&mut self, _: MessageHead, _: Bytes) -> Result<(), ConnectionError> {
        Err(ConnectionError::Unexpected("message for a producer"))
    }

    fn on_response(&mut self, _: &[u8]) -> Result<(), ConnectionError> {
        self.answers.push(Ok(()));
        Ok(())
    }

    fn on_error(&mut self, error: ServerError) -> Result<(), ConnectionError> {
        self.answers.push(Err(error));
        Ok(())
    }

    fn on_read_end(&mut self) -> Result<(), ConnectionError> {
        if self.answers.is_empty() {
            return Ok(());
        }
        let count = self.answers.len();
        // A command that has not been sent cannot have been answered.
        let waiting: Vec<_> = self.outbox.with_extra(|outstanding| {
            let sent = outstanding.commands.len() - outstanding.unsent;
            outstanding.commands.drain(..count.min(sent)).collect()
        });
        let answered = waiting.len();
        release(&self.slots, &waiting);
        for (waiting, answer) in waiting.into_iter().zip(self.answers.drain(..)) {
            // The publisher may have stopped waiting.
            let _ = waiting.publisher.send(answer.map_err(PublishError::Rejected));
        }
        if answered < count {
            return Err(ConnectionError::Unexpected("answer to nothing"));
        }
        Ok(())
    }

    fn on_take(&mut self, outstanding: &mut Outstanding) {
        outstanding.unsent = 0;
        self.flushes.append(&mut outstanding.flushes);
    }

    fn on_written(&mut self) {
        for flushed in self.flushes.drain(..) {
            let _ = flushed.send(());
        }
    }

    fn is_done(&self, outstanding: &Outstanding) -> bool {
        outstanding.commands.is_empty()
    }

    fn is_waiting(&self, outstanding: &Outstanding) -> bool {
        !outstanding.commands.is_empty()
    }
}

/// Ends the connection's outbox: fails all commands, by whether they may have been carried out.
pub(crate) fn end(outbox: &Outbox<Outstanding>, slots: &Semaphore, reason: &ConnectionError) {
    let (waiting, unsent) = outbox.end(reason.clone(), |outstanding| {
        outstanding.flushes.clear();
        (std::mem::take(&mut outstanding.commands), std::mem::take(&mut outstanding.unsent))
    });
    let waiting = Vec::from(waiting);
    release(slots, &waiting);
    let sent = waiting.len() - unsent;
    for (i, waiting) in waiting.into_iter().enumerate() {
        let error = if i < sent { PublishError::OutcomeUnknown } else { PublishError::NotSent };
        let _ = waiting.publisher.send(Err(error(reason.clone())));
    }
}

fn release(slots: &Semaphore, waiting: &[Waiting]) {
    let freed: usize = waiting.iter().map(|waiting| waiting.slots as usize).sum();
    slots.add_permits(freed);
}
