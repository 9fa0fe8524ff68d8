//! The task of one connection: reads frames, answers heartbeats, writes the outbox.
//!
//! It never waits for a handler or publisher: frames are passed on without blocking, so that a heartbeat is answered at
//! once, however many messages precede it.

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use nsq_protocol::{Command, Frame, HEARTBEAT, MESSAGE_FRAME_HEAD_BYTES, MessageId, decode_frame};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, Sleep, sleep_until, timeout},
};

use super::outbox::{Outbox, Taken};
use crate::error::{ConnectionError, ServerError};

const READ_BYTES_MIN: usize = 4 * 1024;
const READ_BYTES_MAX: usize = 64 * 1024;
/// The most reads in one turn; then other tasks run, which handle what was read.
const READS_PER_TURN: usize = 4;
/// A write buffer that has grown beyond this is freed once it has been written.
const WRITE_BYTES_KEPT: usize = 1 << 20;
/// The time limit for shutting the stream down.
const SHUTDOWN_LIMIT: Duration = Duration::from_millis(100);

/// A message without its body.
#[derive(Copy, Clone, Debug)]
pub(crate) struct MessageHead {
    pub(crate) id: MessageId,
    pub(crate) timestamp_ns: i64,
    pub(crate) attempts: u16,
}

/// The use of a connection, by a consumer or a producer: receives the frames. No method may block.
pub(crate) trait Role: Send + 'static {
    /// State that changes together with the commands in the outbox.
    type Extra: Send + 'static;

    /// Handles a message.
    fn on_message(&mut self, head: MessageHead, body: Bytes) -> Result<(), ConnectionError>;
    /// Handles a response other than a heartbeat.
    fn on_response(&mut self, data: &[u8]) -> Result<(), ConnectionError>;
    /// Handles an error.
    fn on_error(&mut self, error: ServerError) -> Result<(), ConnectionError>;
    /// Returns whether more may be read. Asked before each read; once it has returned false, an answer that changes it
    /// must wake the driver through the outbox.
    fn may_read(&mut self) -> bool {
        true
    }
    /// Called after all frames of one read.
    fn on_read_end(&mut self) -> Result<(), ConnectionError>;
    /// Called when all commands have been taken from the outbox for writing.
    fn on_take(&mut self, extra: &mut Self::Extra);
    /// Called when all commands taken have been written.
    fn on_written(&mut self);
    /// Returns whether a connection that is to be closed has nothing left to do.
    fn is_done(&self, extra: &Self::Extra) -> bool;
    /// Returns whether nsqd owes an answer. Asked only on connections without heartbeats.
    fn is_waiting(&self, extra: &Self::Extra) -> bool;
}

/// The timeouts of a connection.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Timeouts {
    pub(crate) read: Duration,
    pub(crate) write: Duration,
    /// nsqd sends heartbeats, so that silence means that the connection is lost.
    pub(crate) heartbeats: bool,
}

/// A connection's stream, buffers and timers.
pub(crate) struct Driver<S, R: Role> {
    stream: S,
    role: R,
    outbox: Arc<Outbox<R::Extra>>,
    incoming: Incoming,
    outgoing: Vec<u8>,
    written: usize,
    write_error: Option<ConnectionError>,
    timeouts: Timeouts,
    /// When data was last received or, without heartbeats, last sent.
    last_sign: Instant,
    stalled_since: Option<Instant>,
    /// The role holds as much as it may, so that nothing is read.
    is_full: bool,
    timer: Pin<Box<Sleep>>,
}

/// Data that has been read and not decoded yet.
struct Incoming {
    buffer: BytesMut,
    /// The size of a read; follows the rate, so that messages of a slow consumer keep little memory.
    read_bytes: usize,
    frame_bytes_max: u32,
    /// A NOP waits to be written, which answers any further heartbeat as well.
    heartbeat_answered: bool,
}

/// The result of an attempt to read or write.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Step {
    Done,
    Waiting,
    Close,
}

impl<S: AsyncRead + AsyncWrite + Unpin, R: Role> Driver<S, R> {
    pub(crate) fn new(
        stream: S,
        unread: BytesMut,
        frame_bytes_max: u32,
        role: R,
        outbox: Arc<Outbox<R::Extra>>,
        timeouts: Timeouts,
    ) -> Self {
        let last_sign = Instant::now();
        Self {
            stream,
            role,
            outbox,
            incoming: Incoming {
                buffer: unread,
                read_bytes: READ_BYTES_MIN,
                frame_bytes_max,
                heartbeat_answered: false,
            },
            outgoing: Vec::new(),
            written: 0,
            write_error: None,
            timeouts,
            last_sign,
            stalled_since: None,
            is_full: false,
            timer: Box::pin(sleep_until(last_sign + timeouts.read)),
        }
    }

    /// Serves the connection until it ends, closes it, and returns why it ended.
    pub(crate) async fn run(mut self) -> ConnectionError {
        let reason = match self.incoming.decode(&mut self.role, &mut self.outgoing) {
            Ok(()) => poll_fn(|cx| self.poll(cx)).await,
            Err(error) => error,
        };
        // The peer may be gone or stuck, which no longer matters.
        let _ = timeout(SHUTDOWN_LIMIT, self.stream.shutdown()).await;
        reason
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionError> {
        match self.turn(cx) {
            Ok(Step::Close) => Poll::Ready(ConnectionError::Closed),
            Ok(Step::Done | Step::Waiting) => Poll::Pending,
            Err(error) => Poll::Ready(error),
        }
    }

    /// Reads and writes until neither is possible, or the turn is over.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<Step, ConnectionError> {
        for _ in 0..READS_PER_TURN {
            let read = self.read(cx)?;
            if self.write(cx) == Step::Close {
                return Ok(Step::Close);
            }
            // An answer that was appended during this turn has not woken the driver.
            if self.is_full && self.role.may_read() {
                continue;
            }
            if read == Step::Waiting {
                // By now everything that nsqd sent has been read, which would explain more than the write error.
                if let Some(error) = self.write_error.take() {
                    return Err(error);
                }
                return self.watch_time(cx);
            }
        }
        cx.waker().wake_by_ref();
        Ok(Step::Done)
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Result<Step, ConnectionError> {
        self.is_full = !self.role.may_read();
        if self.is_full {
            return Ok(Step::Waiting);
        }
        match self.incoming.poll_fill(&mut self.stream, cx) {
            Poll::Pending => return Ok(Step::Waiting),
            Poll::Ready(Err(error)) => {
                return Err(self.write_error.take().unwrap_or_else(|| error.into()));
            }
            Poll::Ready(Ok(0)) => {
                return Err(self.write_error.take().unwrap_or(ConnectionError::ClosedByPeer));
            }
            Poll::Ready(Ok(_)) => {}
        }
        self.last_sign = Instant::now();
        self.incoming.decode(&mut self.role, &mut self.outgoing)?;
        Ok(Step::Done)
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Step {
        while self.write_error.is_none() {
            if self.written == self.outgoing.len() {
                if self.flush(cx) == Step::Waiting {
                    return Step::Waiting;
                }
                match self.refill(cx) {
                    Taken::Bytes => {}
                    Taken::Nothing => return Step::Waiting,
                    Taken::Close => return Step::Close,
                }
            }
            match Pin::new(&mut self.stream).poll_write(cx, &self.outgoing[self.written..]) {
                Poll::Pending => {
                    self.stalled_since.get_or_insert_with(Instant::now);
                    return Step::Waiting;
                }
                Poll::Ready(Ok(0)) => {
                    self.write_error = Some(io::Error::from(io::ErrorKind::WriteZero).into());
                }
                Poll::Ready(Ok(n)) => {
                    self.written += n;
                    self.stalled_since = None;
                }
                Poll::Ready(Err(error)) => self.write_error = Some(error.into()),
            }
        }
        Step::Waiting
    }

    /// Flushes the stream, once for all commands that were taken together: TLS and compression buffer until then.
    fn flush(&mut self, cx: &mut Context<'_>) -> Step {
        if self.written == 0 {
            return Step::Done;
        }
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Pending => {
                self.stalled_since.get_or_insert_with(Instant::now);
                return Step::Waiting;
            }
            Poll::Ready(Ok(())) => self.stalled_since = None,
            Poll::Ready(Err(error)) => {
                self.write_error = Some(error.into());
                return Step::Waiting;
            }
        }
        Step::Done
    }

    fn refill(&mut self, cx: &mut Context<'_>) -> Taken {
        if self.written > 0 {
            self.role.on_written();
            self.incoming.heartbeat_answered = false;
            self.written = 0;
            self.outgoing.clear();
            if self.outgoing.capacity() > WRITE_BYTES_KEPT {
                self.outgoing = Vec::new();
            }
        }
        let taken = self.outbox.poll_take(cx, &mut self.outgoing, &mut self.role);
        if matches!(taken, Taken::Bytes) && !self.timeouts.heartbeats {
            self.last_sign = Instant::now();
        }
        taken
    }

    /// Fails if nsqd has been silent or has not read for too long; otherwise sets the timer for the next check.
    fn watch_time(&mut self, cx: &mut Context<'_>) -> Result<Step, ConnectionError> {
        loop {
            let mut next = self.last_sign + self.timeouts.read;
            if let Some(since) = self.stalled_since {
                next = next.min(since + self.timeouts.write);
            }
            if self.timer.deadline() > next {
                self.timer.as_mut().reset(next);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(Step::Waiting);
            }
            let now = Instant::now();
            if self.stalled_since.is_some_and(|since| now >= since + self.timeouts.write) {
                return Err(ConnectionError::WriteTimeout(self.timeouts.write));
            }
            if now >= self.last_sign + self.timeouts.read {
                if self.is_full {
                    return Err(ConnectionError::Flooded);
                }
                if self.silence_is_loss() {
                    return Err(ConnectionError::ReadTimeout(self.timeouts.read));
                }
                self.last_sign = now;
            }
            self.timer.as_mut().reset(self.last_sign + self.timeouts.read);
        }
    }

    fn silence_is_loss(&self) -> bool {
        self.timeouts.heartbeats || self.outbox.with_extra(|extra| self.role.is_waiting(extra))
    }
}

impl Incoming {
    fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.buffer.capacity() > 4 * READ_BYTES_MAX && self.buffer.len() < READ_BYTES_MAX {
            // After a large message, smaller ones must not keep its buffer.
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        let spare = self.buffer.capacity() - self.buffer.len();
        if spare < self.read_bytes / 4 {
            self.buffer.reserve(self.read_bytes);
        }
        let spare = self.buffer.capacity() - self.buffer.len();
        let read = pin!(stream.read_buf(&mut self.buffer)).poll(cx);
        if let Poll::Ready(Ok(n)) = read {
            if n == spare {
                self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
            } else if n < self.read_bytes / 8 {
                self.read_bytes = (self.read_bytes / 2).max(READ_BYTES_MIN);
            }
        }
        read
    }

    /// Passes every whole frame to `role`. Answers to heartbeats go to `outgoing`, ahead of the outbox.
    fn decode<R: Role>(
        &mut self,
        role: &mut R,
        outgoing: &mut Vec<u8>,
    ) -> Result<(), ConnectionError> {
        while let Some((frame, used)) = decode_frame(&self.buffer, self.frame_bytes_max)? {
            let head = match frame {
                Frame::Message(message) => Some(MessageHead {
                    id: message.id,
                    timestamp_ns: message.timestamp_ns,
                    attempts: message.attempts,
                }),
                Frame::Response(HEARTBEAT) => {
                    if !std::mem::replace(&mut self.heartbeat_answered, true) {
                        Command::Nop.encode(outgoing);
                    }
                    None
                }
                Frame::Response(data) => {
                    role.on_response(data)?;
                    None
                }
                Frame::Error(data) => {
                    role.on_error(ServerError::parse(data))?;
                    None
                }
            };
            let mut frame = self.buffer.split_to(used);
            if let Some(head) = head {
                frame.advance(MESSAGE_FRAME_HEAD_BYTES);
                role.on_message(head, frame.freeze())?;
            }
        }
        role.on_read_end()
    }
}
