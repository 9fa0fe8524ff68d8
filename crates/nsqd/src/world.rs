//! What nsqd needs of the machine it runs on, so that a test or a benchmark can stand behind it.

use std::{fmt, sync::Arc};

use nsq_log::{Disk, RealDisk};

use crate::clock::{Clocks, SystemClocks};

/// The disk and the clocks of a machine.
#[derive(Clone)]
pub struct World {
    /// Where everything that outlives nsqd is kept.
    pub disk: Arc<dyn Disk>,
    /// What time it is.
    pub clocks: Arc<dyn Clocks>,
}

impl Default for World {
    /// The machine that this program runs on.
    fn default() -> Self {
        Self { disk: Arc::new(RealDisk), clocks: Arc::new(SystemClocks) }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("disk", &self.disk).finish_non_exhaustive()
    }
}
