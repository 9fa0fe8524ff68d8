//! The read buffer of a connection.

use std::io::{self, ErrorKind};

use bytes::BytesMut;
use nsq_daemon::net::Socket;
use nsq_protocol::Progress;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The most a connection reads at once: at first, and after reads that filled their room.
const READ_BYTES_MIN: usize = 2 << 10;
const READ_BYTES_MAX: usize = 256 << 10;

/// The bytes that were read and not yet handled.
pub(super) struct Input {
    pub(super) buffer: BytesMut,
    /// How far an incomplete command at the front of `buffer` has been checked.
    pub(super) progress: Progress,
    read_bytes: usize,
}

impl Input {
    pub(super) fn new() -> Self {
        Self { buffer: BytesMut::new(), progress: Progress::default(), read_bytes: READ_BYTES_MIN }
    }

    /// Waits for bytes; returns how many came, 0 at the end of the stream.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) async fn read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> io::Result<usize> {
        let room = self.make_room();
        let bytes = stream.read_buf(&mut self.buffer).await?;
        if bytes == room {
            self.read_bytes = (self.read_bytes * 4).min(READ_BYTES_MAX);
        }
        Ok(bytes)
    }

    /// Takes what the socket holds, without waiting. The end of the stream is left to [`Input::read`].
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) fn read_now(&mut self, stream: &Socket) -> io::Result<()> {
        self.make_room();
        match stream.try_read_buf(&mut self.buffer) {
            Ok(_) => Ok(()),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn make_room(&mut self) -> usize {
        self.buffer.reserve(self.read_bytes);
        self.buffer.capacity() - self.buffer.len()
    }

    /// Gives back the memory of a burst that is over.
    pub(super) fn shrink(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > READ_BYTES_MIN {
            *self = Self::new();
        }
    }
}
