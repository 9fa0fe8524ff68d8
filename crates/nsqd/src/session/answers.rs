//! Answers that wait for a flush.
//!
//! At level `fsync` the `OK` of a publish waits until the log is flushed, and so do all answers behind it, because
//! answers come in the order of the commands. Messages and heartbeats do not wait: they go straight to the
//! [`Output`].

use std::{collections::VecDeque, future::pending, sync::Arc};

use nsq_protocol::{FrameType, encode_frame};

use crate::{session::output::Output, topic::Topic};

/// The answers of a connection that have to wait, oldest first.
#[derive(Default)]
pub(super) struct Answers {
    held: VecDeque<Held>,
    bytes: usize,
}

/// Answers that wait for one flush.
struct Held {
    topic: Arc<Topic>,
    /// The flush has to reach this sequence number.
    end: u64,
    frames: Vec<u8>,
}

/// A log could not be flushed: the messages may or may not be on the disk.
pub(super) struct FlushFailed {
    pub(super) topic: Arc<Topic>,
    pub(super) reason: Arc<str>,
}

impl Answers {
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Holds the answers that follow until the log of `topic` is flushed up to `end`.
    pub(super) fn hold(&mut self, topic: Arc<Topic>, end: u64) {
        self.held.push_back(Held { topic, end, frames: Vec::new() });
    }

    /// Sends an answer as soon as all before it have been sent.
    pub(super) fn push(&mut self, kind: FrameType, data: &[u8], output: &mut Output) {
        match self.held.back_mut() {
            None => output.frame(kind, data),
            Some(held) => {
                let before = held.frames.len();
                encode_frame(kind, data, &mut held.frames);
                self.bytes += held.frames.len() - before;
            }
        }
    }

    /// Resolves when the oldest held answers may go; never when none are held.
    pub(super) async fn flushed(&self) -> Result<(), FlushFailed> {
        match self.held.front() {
            None => pending().await,
            Some(held) => held
                .topic
                .synced(held.end)
                .await
                .map_err(|reason| FlushFailed { topic: held.topic.clone(), reason }),
        }
    }

    /// Lets the oldest held answers go.
    pub(super) fn release(&mut self, output: &mut Output) {
        if let Some(held) = self.held.pop_front() {
            self.bytes -= held.frames.len();
            output.frames(&held.frames);
        }
    }

    /// Drops the answers that are held.
    pub(super) fn discard(&mut self) {
        *self = Self::default();
    }
}
