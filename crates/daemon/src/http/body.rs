//! Request bodies.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// It is, or says it is, longer than the limit.
    #[error("body is larger than {limit} bytes")]
    TooBig {
        /// The limit that it was read with, in bytes.
        limit: usize,
    },
    /// The connection failed, the client stopped before the end, or the chunks are malformed.
    #[error("read body: {0}")]
    Read(#[source] hyper::Error),
}

/// How many bytes of a body are read ahead of its final size.
const RESERVE_BYTES_MAX: usize = 1 << 20;

/// A body that is read at most once. What the handler leaves of it goes to the [`Leftover`].
pub(super) struct Body {
    incoming: Option<Incoming>,
    leftover: Leftover,
}

/// What is left of a body after its request is gone, for the server to deal with. Filled at most once.
#[derive(Clone, Default)]
pub(super) struct Leftover(Arc<Mutex<Option<Incoming>>>);

impl Leftover {
    pub(super) fn take(&self) -> Option<Incoming> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Body {
    pub(super) fn new(incoming: Incoming, leftover: Leftover) -> Self {
        Self { incoming: Some(incoming), leftover }
    }

    /// Reads the rest of the body into one piece. After an error the rest stays unread.
    pub(super) async fn up_to(&mut self, limit: usize) -> Result<Bytes, BodyError> {
        let Some(incoming) = &mut self.incoming else { return Ok(Bytes::new()) };
        let announced = incoming.size_hint().lower();
        if announced > limit as u64 {
            return Err(BodyError::TooBig { limit });
        }
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        while let Some(frame) = incoming.frame().await {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    // There is no rest that could be read.
                    self.incoming = None;
                    return Err(BodyError::Read(error));
                }
            };
            let Ok(data) = frame.into_data() else { continue };
            if first.len() + all.len() + data.len() > limit {
                return Err(BodyError::TooBig { limit });
            }
            if first.is_empty() && all.is_empty() {
                // A body in one piece, the usual case, is not copied.
                first = data;
            } else {
                if all.is_empty() {
                    let announced = usize::try_from(announced).unwrap_or(usize::MAX);
                    all.reserve(announced.min(RESERVE_BYTES_MAX));
                    all.extend_from_slice(&std::mem::take(&mut first));
                }
                all.extend_from_slice(&data);
            }
        }
        self.incoming = None;
        Ok(if all.is_empty() { first } else { all.freeze() })
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take()
            && !incoming.is_end_stream()
        {
            *self.leftover.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(incoming);
        }
    }
}

/// Reads what is left of a body and throws it away, up to `limit` bytes. `true` when it came to the end.
pub(super) async fn discard(mut rest: Incoming, limit: u64) -> bool {
    if rest.size_hint().lower() > limit {
        return false;
    }
    let mut seen: u64 = 0;
    while let Some(frame) = rest.frame().await {
        let Ok(frame) = frame else { return false };
        seen += frame.data_ref().map_or(0, |data| data.len() as u64);
        if seen > limit {
            return false;
        }
    }
    true
}
