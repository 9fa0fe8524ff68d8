//! The machine that nsqd runs on, which a test or a benchmark can replace.

use std::{fmt, sync::Arc};

use nsq_log::{Disk, RealDisk};

use crate::clock::{Clocks, SystemClocks};

/// The disk and the clocks of a machine.
#[derive(Clone)]
pub struct World {
    /// The file system of the data folder.
    pub disk: Arc<dyn Disk>,
    /// The clocks.
    pub clocks: Arc<dyn Clocks>,
}

impl Default for World {
    /// The real disk and clocks.
    fn default() -> Self {
        Self { disk: Arc::new(RealDisk), clocks: Arc::new(SystemClocks) }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("disk", &self.disk).finish_non_exhaustive()
    }
}
