//! The output of a connection: frames in order, in as few pieces as possible.

use std::{
    collections::VecDeque,
    io,
    io::IoSlice,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use nsq_daemon::net::Socket;
use nsq_log::Slice;
use nsq_protocol::{FrameType, MESSAGE_FRAME_HEAD_BYTES};
use tokio::io::AsyncWrite;

/// Slices of the log shorter than this are copied into one piece: so short a copy costs less than a piece of its
/// own in a vectored write.
const COPY_BYTES_MAX: usize = 1024;

/// The most pieces of one vectored write.
const PIECES_MAX: usize = 64;

/// Offset of the attempts in a message frame: after size, type and timestamp.
const ATTEMPTS_AT: usize = 16;

/// The frames that have not been written yet.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pieces: VecDeque<Bytes>,
    /// Short frames that follow all `pieces`.
    tail: BytesMut,
    bytes: usize,
    /// Some of `pieces` lie in buffers of the log.
    is_shared: bool,
}

impl Output {
    /// Returns how many bytes wait to be written.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Appends a response or an error.
    pub(crate) fn frame(&mut self, kind: FrameType, data: &[u8]) {
        let size = u32::try_from(data.len() + 4).unwrap_or(u32::MAX);
        self.copy(&size.to_be_bytes());
        self.copy(&(kind as u32).to_be_bytes());
        self.copy(data);
    }

    /// Appends frames that are encoded already.
    pub(crate) fn frames(&mut self, frames: &[u8]) {
        self.copy(frames);
    }

    /// Appends messages as they lie in the log. The log holds the frames of a first delivery; a redelivery differs
    /// only in its attempts.
    pub(crate) fn messages(&mut self, slice: Slice, attempts: u16) {
        if attempts > 1 {
            self.redelivered(slice, attempts);
        } else if slice.bytes.len() < COPY_BYTES_MAX {
            self.copy(&slice.bytes);
        } else {
            self.shared_piece(slice.bytes);
        }
    }

    fn redelivered(&mut self, slice: Slice, attempts: u16) {
        let mut rest = slice.bytes;
        while let Some(size) = rest.first_chunk() {
            let frame_bytes = (4 + u32::from_be_bytes(*size) as usize).min(rest.len());
            let frame = rest.split_to(frame_bytes);
            let at = self.tail.len();
            let copied =
                if frame.len() < COPY_BYTES_MAX { frame.len() } else { MESSAGE_FRAME_HEAD_BYTES };
            self.copy(&frame[..copied]);
            self.tail[at + ATTEMPTS_AT..at + ATTEMPTS_AT + 2]
                .copy_from_slice(&attempts.to_be_bytes());
            if copied < frame.len() {
                self.shared_piece(frame.slice(copied..));
            }
        }
    }

    fn copy(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.bytes += bytes.len();
    }

    fn shared_piece(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        self.seal_tail();
        self.pieces.push_back(bytes);
        self.is_shared = true;
    }

    fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
    }

    /// Writes as much as the socket takes without waiting; returns how many bytes that was.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(crate) fn write_to(&mut self, socket: &Socket) -> io::Result<usize> {
        let mut total = 0;
        while self.bytes > 0 {
            match self.write_once(socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.advance(written);
                    total += written;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    fn write_once(&mut self, socket: &Socket) -> io::Result<usize> {
        if self.pieces.is_empty() {
            return socket.try_write(&self.tail);
        }
        self.seal_tail();
        let mut slices = [IoSlice::new(&[]); PIECES_MAX];
        let count = self.fill(&mut slices);
        socket.try_write_vectored(&slices[..count])
    }

    /// Moves everything to the buffers of `stream`, as far as they take it.
    pub(crate) fn poll_move_to(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.bytes > 0 {
            self.seal_tail();
            let mut slices = [IoSlice::new(&[]); PIECES_MAX];
            let count = self.fill(&mut slices);
            let stream = Pin::new(&mut *stream);
            let written = ready!(stream.poll_write_vectored(cx, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Fills `slices` with the first pieces; returns how many there are.
    fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>; PIECES_MAX]) -> usize {
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(front) = self.pieces.front_mut() {
            if written < front.len() {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.pieces.pop_front();
        }
        self.tail.advance(written);
    }

    /// Copies the bytes that lie in buffers of the log. A client that does not read would otherwise keep whole buffers in
    /// memory for a few bytes of each.
    pub(crate) fn detach(&mut self) {
        if std::mem::take(&mut self.is_shared) {
            self.seal_tail();
            let mut copy = Vec::with_capacity(self.bytes);
            self.pieces.drain(..).for_each(|piece| copy.extend_from_slice(&piece));
            self.pieces.push_back(copy.into());
        }
    }

    /// Gives back the memory of a burst that is over.
    pub(crate) fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nsq_protocol::{Frame, MessageFrame, MessageId, decode_frame, encode_message_frame};

    fn slice(bodies: &[&[u8]]) -> Slice {
        let mut bytes = Vec::new();
        for body in bodies {
            let id = MessageId::from_u64(body.len() as u64);
            encode_message_frame(
                MessageFrame { timestamp_ns: 7, attempts: 1, id, body },
                &mut bytes,
            );
        }
        Slice { bytes: bytes.into(), first: 0, count: bodies.len() as u64, last_at: 0 }
    }

    fn frames(output: &mut Output) -> Vec<(u16, Vec<u8>)> {
        output.seal_tail();
        let bytes: Vec<u8> = output.pieces.iter().flat_map(|piece| piece.to_vec()).collect();
        assert_eq!(bytes.len(), output.bytes());
        let (mut rest, mut frames) = (&bytes[..], Vec::new());
        while let Some((frame, used)) = decode_frame(rest, u32::MAX).unwrap() {
            let Frame::Message(message) = frame else { panic!("{frame:?}") };
            frames.push((message.attempts, message.body.to_vec()));
            rest = &rest[used..];
        }
        assert!(rest.is_empty());
        frames
    }

    #[test]
    fn a_redelivery_differs_in_its_attempts_only() {
        let (small, big) = (vec![b'a'; 10], vec![b'b'; 5000]);
        let mut output = Output::default();
        output.messages(slice(&[&small, &big, &small]), 3);
        output.messages(slice(&[&small]), 1);
        output.messages(slice(&[&big]), 1);
        let expected =
            [(3, small.clone()), (3, big.clone()), (3, small.clone()), (1, small), (1, big)];
        assert_eq!(frames(&mut output), expected);
    }

    #[test]
    fn detached_output_is_the_same_and_keeps_no_buffer_of_the_log() {
        let bodies = [&b"a"[..], &[b'b'; 5000], b"c"];
        let log = slice(&bodies);
        let mut output = Output::default();
        output.messages(Slice { bytes: log.bytes.clone(), ..log }, 1);
        output.messages(slice(&[b"d"]), 2);
        output.advance(20);
        let before = output.bytes();
        assert!(!log.bytes.is_unique());
        output.detach();
        assert!(log.bytes.is_unique());
        assert_eq!((output.bytes(), output.pieces.len()), (before, 1));
        let copied = [&log.bytes[20..], &slice(&[b"d"]).bytes].concat();
        let differs = |(at, _): &(usize, u8)| *at != log.bytes.len() - 20 + ATTEMPTS_AT + 1;
        let same = |bytes: &[u8]| -> Vec<_> {
            bytes.iter().copied().enumerate().filter(differs).collect()
        };
        assert_eq!(same(&output.pieces[0]), same(&copied));
        output.messages(slice(&[b"e"]), 1);
        output.advance(output.bytes());
        assert!(output.is_empty());
    }

    #[test]
    fn a_partial_write_keeps_the_rest_in_order() {
        let big = vec![b'b'; 5000];
        let mut output = Output::default();
        output.messages(slice(&[&big]), 1);
        output.frame(FrameType::Response, b"OK");
        let whole = output.bytes();
        output.seal_tail();
        output.advance(5035);
        assert_eq!(output.bytes(), whole - 5035);
        assert_eq!(output.pieces.len(), 1);
        output.advance(whole - 5035);
        assert!(output.is_empty());
    }
}
