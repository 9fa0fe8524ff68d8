//! The outbox: commands that wait to be written on a connection.
//!
//! Any task encodes its command straight into the bytes to be written, under one short lock; the connection's driver
//! takes all of them at once. So the order on the wire is the order of the calls, many commands share one write, and
//! the driver is woken once for all commands appended before it runs.

use std::{
    sync::Mutex,
    task::{Context, Waker},
};

use super::driver::Role;
use crate::{error::ConnectionError, sync::lock};

/// The commands that wait for the driver, and the state `X` that changes together with them.
pub(crate) struct Outbox<X> {
    state: Mutex<OutboxState<X>>,
}

struct OutboxState<X> {
    bytes: Vec<u8>,
    /// The driver, while it has nothing to write.
    driver: Option<Waker>,
    ending: Ending,
    extra: X,
}

/// When the connection is to end.
#[derive(Clone, Debug)]
enum Ending {
    No,
    /// When the role has nothing left to do.
    WhenDone,
    /// As soon as the driver runs.
    Now,
    /// The connection has ended.
    Ended(ConnectionError),
}

/// The result of taking commands from the outbox.
pub(crate) enum Taken {
    Bytes,
    Nothing,
    /// Nothing, and nothing will follow: the connection must be closed.
    Close,
}

impl<X> Outbox<X> {
    pub(crate) fn new(extra: X) -> Self {
        let state = OutboxState { bytes: Vec::new(), driver: None, ending: Ending::No, extra };
        Self { state: Mutex::new(state) }
    }

    /// Lets `encode` append commands, without waking the driver: the caller must call [`Outbox::wake`] afterwards.
    ///
    /// # Errors
    /// Returns [`ConnectionError`], without calling `encode`, if the connection has ended or is about to.
    pub(crate) fn append<T>(
        &self,
        encode: impl FnOnce(&mut Vec<u8>, &mut X) -> T,
    ) -> Result<T, ConnectionError> {
        let mut state = lock(&self.state);
        let OutboxState { bytes, ending, extra, .. } = &mut *state;
        match ending {
            Ending::No | Ending::WhenDone => Ok(encode(bytes, extra)),
            Ending::Now => Err(ConnectionError::Closed),
            Ending::Ended(reason) => Err(reason.clone()),
        }
    }

    /// Like [`Outbox::append`], but also fails once closing has been requested.
    pub(crate) fn append_if_open<T>(
        &self,
        encode: impl FnOnce(&mut Vec<u8>, &mut X) -> T,
    ) -> Result<T, ConnectionError> {
        let mut state = lock(&self.state);
        let OutboxState { bytes, ending, extra, .. } = &mut *state;
        match ending {
            Ending::No => Ok(encode(bytes, extra)),
            Ending::WhenDone | Ending::Now => Err(ConnectionError::Closed),
            Ending::Ended(reason) => Err(reason.clone()),
        }
    }

    /// Wakes the driver if it sleeps.
    pub(crate) fn wake(&self) {
        let driver = lock(&self.state).driver.take();
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Reads or changes the state that changes together with the commands.
    pub(crate) fn with_extra<T>(&self, look: impl FnOnce(&mut X) -> T) -> T {
        look(&mut lock(&self.state).extra)
    }

    /// Requests that the connection end once its role has nothing left to do. `encode` appends a last command. Has no
    /// effect the second time.
    pub(crate) fn close_when_done(&self, encode: impl FnOnce(&mut Vec<u8>)) {
        {
            let mut state = lock(&self.state);
            if !matches!(state.ending, Ending::No) {
                return;
            }
            state.ending = Ending::WhenDone;
            encode(&mut state.bytes);
        }
        self.wake();
    }

    /// Requests that the connection end at once.
    pub(crate) fn close_now(&self) {
        {
            let mut state = lock(&self.state);
            if matches!(state.ending, Ending::Ended(_)) {
                return;
            }
            state.ending = Ending::Now;
        }
        self.wake();
    }

    /// Records that the connection has ended, so that nothing more can be appended. Drops commands that were not taken.
    pub(crate) fn end<T>(&self, reason: ConnectionError, look: impl FnOnce(&mut X) -> T) -> T {
        let mut state = lock(&self.state);
        state.ending = Ending::Ended(reason);
        state.bytes = Vec::new();
        state.driver = None;
        look(&mut state.extra)
    }

    /// Swaps the waiting commands with `empty`. If there are none, the driver is woken when one is appended.
    pub(crate) fn poll_take<R: Role<Extra = X>>(
        &self,
        cx: &mut Context<'_>,
        empty: &mut Vec<u8>,
        role: &mut R,
    ) -> Taken {
        let mut state = lock(&self.state);
        if matches!(state.ending, Ending::Now) {
            return Taken::Close;
        }
        if !state.bytes.is_empty() {
            std::mem::swap(&mut state.bytes, empty);
            role.on_take(&mut state.extra);
            return Taken::Bytes;
        }
        if matches!(state.ending, Ending::WhenDone) && role.is_done(&state.extra) {
            return Taken::Close;
        }
        match &mut state.driver {
            Some(driver) => driver.clone_from(cx.waker()),
            driver => *driver = Some(cx.waker().clone()),
        }
        Taken::Nothing
    }
}
