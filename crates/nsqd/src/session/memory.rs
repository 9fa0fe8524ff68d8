//! The memory of one connection: its bounds, and its count in the budget of all connections.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Session, transport::Transport};
use crate::{node::Node, topic::client::Client};

/// Messages are delivered while less than this waits to be written.
const OUTPUT_BYTES_HIGH: usize = 256 << 10;
/// The same while memory is tight.
const OUTPUT_BYTES_HIGH_TIGHT: usize = 16 << 10;
/// Commands are not read while more than this waits to be written: the client does not read its answers.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// The same while memory is tight.
const OUTPUT_BYTES_MAX_TIGHT: usize = 64 << 10;
/// Changes smaller than this are not counted: that is hardly more than an idle connection takes, and the count is shared
/// by all threads.
const STEP_BYTES: usize = 16 << 10;

/// The memory that a connection holds, given back when dropped.
pub(super) struct Holding {
    node: Arc<Node>,
    client: Arc<Client>,
    counted_bytes: usize,
}

impl Holding {
    pub(super) fn new(node: Arc<Node>, client: Arc<Client>) -> Self {
        Self { node, client, counted_bytes: 0 }
    }

    /// Sets the count to `bytes`, unless it changes by less than a step.
    pub(super) fn update(&mut self, bytes: usize) {
        if bytes.abs_diff(self.counted_bytes) >= STEP_BYTES {
            self.node.count_held(&self.client, bytes);
            self.counted_bytes = bytes;
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        if self.counted_bytes > 0 {
            self.node.count_held(&self.client, 0);
        }
    }
}

impl Session {
    /// The bytes of messages that may be added to the output; `None` when it is full.
    pub(super) fn room_for_messages(&self) -> Option<usize> {
        let is_tight = self.node.network.is_tight();
        let bound = if is_tight { OUTPUT_BYTES_HIGH_TIGHT } else { OUTPUT_BYTES_HIGH };
        bound.checked_sub(self.output.bytes()).filter(|room| *room > 0)
    }

    /// Returns whether commands are read: not while many of their answers wait, or an auth server is being asked.
    pub(super) fn may_read(&self) -> bool {
        let is_tight = self.node.network.is_tight();
        let bound = if is_tight { OUTPUT_BYTES_MAX_TIGHT } else { OUTPUT_BYTES_MAX };
        self.output.bytes() + self.answers.bytes() < bound && !self.is_authorizing()
    }

    /// Counts the memory that the connection holds. Spare memory of the input is given back: at once while
    /// memory is tight, otherwise at a check soon.
    pub(super) fn count_memory(&mut self, transport: &Transport) {
        if self.node.network.is_tight() {
            self.input.shrink();
        } else if self.input.is_oversized() {
            self.liveness.check_soon(Instant::now());
        }
        let output_bytes = self.output.bytes() + self.answers.bytes() + transport.held_bytes();
        self.holding.update(self.input.held_bytes() + output_bytes);
    }

    /// Gives back the memory of a burst that is over, and the buffers of the log that a client does not read.
    pub(super) fn give_back_memory(&mut self, transport: &mut Transport) {
        self.input.shrink();
        self.gathered.shrink();
        transport.shrink();
        if self.has_unsent(transport) {
            self.output.detach();
        }
    }
}
