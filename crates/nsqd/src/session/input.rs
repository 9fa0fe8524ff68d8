//! The read buffer of a connection.

use std::{
    io,
    task::{Context, Poll},
};

use bytes::BytesMut;
use nsq_protocol::Progress;

use super::transport::Transport;

/// The most a connection reads at once: at first, and after reads that filled their room.
const READ_BYTES_MIN: usize = 2 << 10;
const READ_BYTES_MAX: usize = 256 << 10;
/// A buffer larger than this was needed for one large command.
const USUAL_BYTES_MAX: usize = 2 * READ_BYTES_MAX;

/// The bytes that were read and not yet handled.
pub(super) struct Input {
    pub(super) buffer: BytesMut,
    /// How far an incomplete command at the front of `buffer` has been checked.
    pub(super) progress: Progress,
    /// Bytes have come since commands were handled last.
    pub(super) has_grown: bool,
    read_bytes: usize,
    /// The memory behind `buffer`, which does not show how much of it lies before its bytes.
    held_bytes: usize,
}

impl Input {
    pub(super) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            progress: Progress::default(),
            has_grown: false,
            read_bytes: READ_BYTES_MIN,
            held_bytes: 0,
        }
    }

    /// Polls for bytes; the result is how many came, 0 at the end of the stream.
    pub(super) fn poll_read(
        &mut self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let room = self.make_room();
        let read = transport.poll_read(&mut self.buffer, cx);
        if let Poll::Ready(Ok(bytes)) = read {
            self.has_grown |= bytes > 0;
            if bytes == room {
                self.read_bytes = (self.read_bytes * 4).min(READ_BYTES_MAX);
            }
        }
        read
    }

    /// Takes what is there, without waiting. The end of the stream is left to [`Input::poll_read`].
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) async fn read_now(&mut self, transport: &mut Transport) -> io::Result<()> {
        self.make_room();
        let before = self.buffer.len();
        let read = transport.read_now(&mut self.buffer).await;
        self.has_grown |= self.buffer.len() > before;
        read
    }

    fn make_room(&mut self) -> usize {
        self.buffer.reserve(self.read_bytes);
        self.held_bytes = self.held_bytes.max(self.buffer.capacity());
        self.buffer.capacity() - self.buffer.len()
    }

    /// The memory that the connection takes for its input.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Returns whether the memory of a large command is still there and not needed.
    pub(super) fn is_oversized(&self) -> bool {
        self.held_bytes > USUAL_BYTES_MAX && self.is_loose()
    }

    /// Gives back the memory of a burst that is over.
    pub(super) fn shrink(&mut self) {
        if self.held_bytes > READ_BYTES_MIN && self.is_loose() {
            // Nearly always empty, or the beginning of a small command.
            self.buffer = BytesMut::from(&self.buffer[..]);
            self.read_bytes = READ_BYTES_MIN;
            self.held_bytes = self.buffer.capacity();
        }
    }

    /// Returns whether most of the memory is not needed for the bytes that are there.
    fn is_loose(&self) -> bool {
        self.buffer.len() < self.held_bytes / 4
    }
}
