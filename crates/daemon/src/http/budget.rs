//! The memory that the bodies of all requests of a server may take together.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// The bytes of all bodies together, unless [`Server::with_bodies_bytes_max`](super::Server::with_bodies_bytes_max)
/// says otherwise.
pub const BODIES_BYTES_MAX_DEFAULT: usize = 64 << 20;

/// The longest that a request waits until others have given room for its body back.
pub const ROOM_TIME_MAX: Duration = Duration::from_secs(10);

/// The bytes of a body that are not counted: hardly more than a connection needs anyway. Small publishes never
/// wait for large ones.
pub(super) const UNCOUNTED_BYTES: usize = 16 << 10;

/// The unit of the budget, so that a large one can be counted.
const UNIT_BYTES: usize = 1 << 10;

/// There was no room in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom;

/// The room for bodies. Clones share it.
///
/// A body reserves all that it may need at once, and bodies get their turn in order: two that are half read never
/// wait for each other.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    units: Arc<Semaphore>,
    units_max: u32,
}

/// The room of one body, given back when dropped.
#[derive(Debug)]
pub(super) struct Room(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Budget {
    pub(super) fn new(bytes_max: usize) -> Self {
        let units_max = units(bytes_max).max(1);
        // A budget so large that it cannot be counted is as good as none.
        let permits = usize::try_from(units_max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Semaphore::new(permits)), units_max }
    }

    /// Waits for room. A body larger than the whole budget gets it when no other body is counted.
    pub(super) async fn reserve(&self, bytes: usize) -> Result<Room, NoRoom> {
        let wanted = units(bytes).min(self.units_max);
        let permit = Arc::clone(&self.units).acquire_many_owned(wanted);
        match timeout(ROOM_TIME_MAX, permit).await {
            Ok(Ok(permit)) => Ok(Room(permit)),
            Ok(Err(_)) | Err(_) => Err(NoRoom),
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(BODIES_BYTES_MAX_DEFAULT)
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}
