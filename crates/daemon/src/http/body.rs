//! Request bodies.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};

use super::{
    budget::{Budget, NoRoom, Room, UNCOUNTED_BYTES},
    pace::{Pace, TooSlow},
};

/// The reason why a body was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// It is longer than the limit, or announced to be.
    #[error("body is larger than {limit} bytes")]
    TooBig {
        /// The limit that it was read with, in bytes.
        limit: usize,
    },
    /// The client makes no progress.
    #[error("body does not arrive in time")]
    TooSlow,
    /// The bodies of other requests take all the memory there is for bodies.
    #[error("no memory for the body")]
    NoRoom,
    /// The connection failed, the client stopped before the end, or the chunks are malformed.
    #[error("read body: {0}")]
    Read(#[source] hyper::Error),
}

/// A body that is read at most once. The part that the handler does not read goes to the [`Leftover`].
pub(super) struct Body {
    incoming: Option<Incoming>,
    leftover: Leftover,
    budget: Budget,
    /// The memory of the body, kept until the request is done.
    room: Option<Room>,
}

/// The unread part of a body after its request is gone, for the server to deal with. Filled at most once.
#[derive(Clone, Default)]
pub(super) struct Leftover(Arc<Mutex<Option<Rest>>>);

/// The unread part of a body.
pub(super) enum Rest {
    /// It may be on its way.
    Coming(Incoming),
    /// The client did not send it in time.
    Overdue,
}

impl Leftover {
    pub(super) fn take(&self) -> Option<Rest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, rest: Rest) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(rest);
    }
}

impl Body {
    pub(super) fn new(incoming: Incoming, leftover: Leftover, budget: Budget) -> Self {
        Self { incoming: Some(incoming), leftover, budget, room: None }
    }

    /// Reads the rest of the body into one piece. After an error the rest stays unread.
    pub(super) async fn up_to(&mut self, limit: usize) -> Result<Bytes, BodyError> {
        let Some(incoming) = &mut self.incoming else { return Ok(Bytes::new()) };
        let announced = incoming.size_hint().exact();
        if announced.is_some_and(|bytes| bytes > limit as u64) {
            return Err(BodyError::TooBig { limit });
        }
        let expected = announced.and_then(|bytes| usize::try_from(bytes).ok());
        let mut pieces = Pieces::new(expected);
        let mut pace = Pace::start();
        loop {
            let data = match next_piece(incoming, &mut pace).await {
                Ok(Some(data)) => data,
                Ok(None) => break,
                Err(error) => {
                    // There is no rest that could be read.
                    self.incoming = None;
                    if matches!(error, BodyError::TooSlow) {
                        self.leftover.put(Rest::Overdue);
                    }
                    return Err(error);
                }
            };
            let bytes = pieces.len() + data.len();
            if bytes > limit {
                return Err(BodyError::TooBig { limit });
            }
            if bytes > UNCOUNTED_BYTES && self.room.is_none() {
                let room = self.budget.reserve(expected.unwrap_or(limit)).await;
                self.room = Some(room.map_err(|NoRoom| BodyError::NoRoom)?);
                // The client is not to blame for this wait.
                pace = Pace::start();
            }
            pieces.push(data);
        }
        self.incoming = None;
        Ok(pieces.join())
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take()
            && !incoming.is_end_stream()
        {
            self.leftover.put(Rest::Coming(incoming));
        }
    }
}

/// The next data of a body that comes at a pace; `None` at its end.
async fn next_piece(incoming: &mut Incoming, pace: &mut Pace) -> Result<Option<Bytes>, BodyError> {
    loop {
        let frame = pace.wait(incoming.frame()).await.map_err(|TooSlow| BodyError::TooSlow)?;
        let Some(frame) = frame else { return Ok(None) };
        if let Ok(data) = frame.map_err(BodyError::Read)?.into_data() {
            pace.arrived(data.len());
            return Ok(Some(data));
        }
    }
}

/// Reads the rest of a body and throws it away, up to `limit` bytes. Returns whether it came to the end.
pub(super) async fn discard(mut rest: Incoming, limit: u64) -> bool {
    if rest.size_hint().lower() > limit {
        return false;
    }
    let (mut seen, mut pace) = (0, Pace::start());
    loop {
        match next_piece(&mut rest, &mut pace).await {
            Ok(Some(data)) => seen += data.len() as u64,
            Ok(None) => return true,
            Err(_) => return false,
        }
        if seen > limit {
            return false;
        }
    }
}

/// The pieces of a body, joined as they come. A body in one piece, the usual case, is not copied.
struct Pieces {
    expected: Option<usize>,
    first: Bytes,
    all: BytesMut,
}

impl Pieces {
    fn new(expected: Option<usize>) -> Self {
        Self { expected, first: Bytes::new(), all: BytesMut::new() }
    }

    fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    fn push(&mut self, data: Bytes) {
        if self.len() == 0 {
            self.first = data;
            return;
        }
        if self.all.is_empty() {
            // Memory that nothing is written to is not taken: a body that is announced and not sent is free.
            self.all.reserve(self.expected.unwrap_or_default());
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&data);
    }

    fn join(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}
